//! Feeds a provider's machine and carries out its effects, without tasks.

pub(super) mod state;
mod tasks;

use std::sync::Arc;

use self::state::SimulatedFetch;
use super::clock::{MS, SEC};
use super::event::SimulatedEvent;
use super::node::NodeId;
use super::pool::state::SimulatedPool;
use super::world::World;
use crate::provider::machine::{
    Facts, FetchId, LeaseId, ManualReply, ProviderEffect, ProviderInput, RequestId,
};
use crate::report::RotationOutcome;
use crate::rotation::Rotation;

const FETCH_DEADLINE: u64 = 30 * SEC;

/// Part of an effect that is carried out after all tables are updated.
enum NodeWork {
    StartFetch(FetchId, SimulatedFetch),
    Rehearsed(LeaseId),
    HandOver(Arc<Rotation>),
    Release(LeaseId),
    CloseRotation(Arc<Rotation>, RotationOutcome),
    WakePools,
}

impl World {
    /// Feeds a provider's machine, and wakes its actor.
    pub(super) fn feed_provider(&mut self, index: usize, input: ProviderInput) {
        self.handle_provider(index, input, None);
        self.wake_provider(index);
    }

    pub(super) fn wake_provider(&mut self, index: usize) {
        let node = self.providers[index].node;
        if self.providers[index].actor.wake() {
            let soon = self.clocks.mono + self.rng.u64(20..MS);
            self.queue
                .add(soon, SimulatedEvent::ProviderWake { node, alarm: None });
        }
    }

    pub(super) fn provider_wakes(&mut self, node: NodeId, alarm: Option<u64>) {
        let now = self.clocks.mono;
        if !self.providers[node.index].actor.take(alarm, now) {
            return;
        }
        let resumes = self.provider_resumes(node.index);
        let effects = self.handle_provider(node.index, ProviderInput::Wake, None);
        self.provider_resumed(node.index, resumes, effects);
        self.check_after_jump(node.index);
        if let Some(next) = self.providers[node.index].machine.next_deadline() {
            let at = self.clocks.micros(next).max(now + 5 * MS);
            if let Some(number) = self.providers[node.index].actor.arm(at) {
                let alarm = Some(number);
                self.queue
                    .add(at, SimulatedEvent::ProviderWake { node, alarm });
            }
        }
    }

    /// Feeds a provider's machine, and carries out the effects. `fetched_lease` is the lease of the
    /// input. Returns the number of effects.
    fn handle_provider(
        &mut self,
        index: usize,
        input: ProviderInput,
        mut fetched_lease: Option<Facts>,
    ) -> usize {
        let rehearses = self.providers[index].is_rehearsal(&input);
        self.provider_input(index, &input);
        let now = self.clocks.now();
        let offered = match &input {
            ProviderInput::FetchDone { result, .. } if !rehearses => Some(result.clone()),
            _ => None,
        };
        let before = self.providers[index]
            .current()
            .map(|(_, facts)| facts.expiry);
        let is_held = self.providers[index].machine.is_held();
        let effects = self.providers[index].machine.handle(input, now);
        self.provider_effects(index, offered.as_ref(), &effects, before);
        self.check_crashed_provider(index, &effects);
        if is_held {
            self.check_held(index, &effects);
        }
        let count = effects.len();
        let mut work = Vec::new();
        for effect in effects {
            let provider = &mut self.providers[index];
            match effect {
                ProviderEffect::OpenRotation { rotation, trigger } => {
                    let opened = Rotation::new(&provider.name, trigger, now);
                    provider.rotations.insert(rotation, opened);
                }
                ProviderEffect::StartFetch {
                    fetch,
                    trigger,
                    rotation: _,
                    requests,
                    rejected,
                    renews,
                } => {
                    let requested = provider.model.requested;
                    self.fetch_starts(index, fetch, trigger, !requests.is_empty(), &rejected);
                    // A renewal serves no hint.
                    self.providers[index].model.requested = renews && requested;
                    let running = SimulatedFetch {
                        started: now,
                        rejected,
                        renews,
                        hangs: false,
                    };
                    work.push(NodeWork::StartFetch(fetch, running));
                }
                ProviderEffect::StartRehearsal { fetch, rejected } => {
                    self.check_rehearsal(index);
                    self.providers[index].rehearsals.insert(fetch);
                    let running = SimulatedFetch {
                        started: now,
                        rejected,
                        renews: false,
                        hangs: false,
                    };
                    work.push(NodeWork::StartFetch(fetch, running));
                }
                ProviderEffect::Rehearsed { request, result } => {
                    provider.requests.remove(&request);
                    work.extend(result.ok().map(NodeWork::Rehearsed));
                }
                ProviderEffect::Store(id) => {
                    if let Some(lease) = fetched_lease.take() {
                        provider.leases.insert(id, lease);
                    }
                }
                ProviderEffect::Extend(id, expiry) => {
                    if let Some(lease) = provider.leases.get_mut(&id) {
                        lease.expiry = expiry;
                    }
                }
                ProviderEffect::HandOver { rotation, lease } => {
                    let rotation = provider.rotations.get(&rotation).cloned();
                    let revision = provider
                        .leases
                        .get(&lease)
                        .map(|lease| lease.revision.clone());
                    if let (Some(rotation), Some(revision)) = (rotation, revision) {
                        let pools = self
                            .remaining_pools(index)
                            .map(|pool| Arc::clone(&pool.name));
                        rotation.adopted(&revision, pools);
                        work.push(NodeWork::HandOver(rotation));
                    }
                }
                ProviderEffect::Release(id) => work.push(NodeWork::Release(id)),
                ProviderEffect::Forget(id) => {
                    provider.leases.remove(&id);
                }
                ProviderEffect::CloseRotation { rotation, outcome } => {
                    let rotation = provider.rotations.remove(&rotation);
                    work.extend(
                        rotation.map(|rotation| NodeWork::CloseRotation(rotation, outcome)),
                    );
                }
                ProviderEffect::Reply { request, reply } => {
                    let waited = provider.requests.remove(&request);
                    self.checks
                        .hazard("replies to manual requests", u64::from(waited));
                    let (ManualReply::Rotation(_)
                    | ManualReply::Earlier(_)
                    | ManualReply::Failed(_)
                    | ManualReply::Held
                    | ManualReply::Abandoned) = reply;
                }
                ProviderEffect::Report { .. }
                | ProviderEffect::ReportHold { .. }
                | ProviderEffect::ReportNotRenewed => {}
                ProviderEffect::NotifyPools => work.push(NodeWork::WakePools),
            }
        }
        for part in work {
            match part {
                NodeWork::StartFetch(fetch, running) => self.start_fetch(index, fetch, running),
                NodeWork::Rehearsed(lease) => self.rehearsed(index, lease),
                NodeWork::HandOver(rotation) => self.pool_done(index, &rotation),
                NodeWork::Release(lease) => self.start_release(index, lease),
                NodeWork::CloseRotation(rotation, outcome) => {
                    rotation.close(outcome, now);
                }
                NodeWork::WakePools => {
                    for pool in self.subscribers(index) {
                        self.wake_pool(pool);
                    }
                }
            }
        }
        count
    }

    pub(super) fn pool_done(&mut self, index: usize, rotation: &Arc<Rotation>) {
        let mut open = self.providers[index].rotations.iter();
        let open = open
            .find(|(_, open)| Arc::ptr_eq(open, rotation))
            .map(|(id, _)| *id);
        if let Some(id) = open.filter(|_| rotation.waits_for_no_pool()) {
            self.feed_provider(index, ProviderInput::PoolsDone(id));
        } else {
            self.wake_provider(index);
        }
    }

    pub(super) fn open_rotation(&self, index: usize) -> Option<Arc<Rotation>> {
        let provider = &self.providers[index];
        let id = provider.machine.rotation(self.clocks.now().mono())?;
        provider.rotations.get(&id).cloned()
    }

    pub(super) fn subscribers(&self, index: usize) -> Vec<usize> {
        let uses = |pool: &usize| {
            let pool = &self.pools[*pool];
            pool.provider == self.providers[index].node && pool.has_subscribed
        };
        (0..self.pools.len()).filter(uses).collect()
    }

    /// Returns the pools that take further leases.
    fn remaining_pools(&self, index: usize) -> impl Iterator<Item = &SimulatedPool> {
        self.subscribers(index)
            .into_iter()
            .map(|pool| &self.pools[pool])
            .filter(|pool| !pool.is_closed)
    }

    pub(super) fn pool_left(&mut self, index: usize) {
        let remaining = self.remaining_pools(index);
        let served = remaining.map(|pool| pool.machine.served_revision().cloned());
        let input = ProviderInput::PoolLeft(served.collect());
        self.feed_provider(index, input);
    }

    pub(super) fn rotate_now(&mut self, index: usize) {
        let provider = &mut self.providers[index];
        provider.next_request += 1;
        let request = RequestId(provider.next_request);
        provider.requests.insert(request);
        provider.model.requested = true;
        self.feed_provider(index, ProviderInput::Manual(request));
    }

    pub(super) fn hint(&mut self, index: usize) {
        self.providers[index].model.requested = true;
        self.checks.hazard("hints", 1);
        self.feed_provider(index, ProviderInput::Hint);
    }

    pub(super) fn close_provider(&mut self, index: usize) {
        if self.providers[index].is_closed {
            return;
        }
        self.providers[index].is_closed = true;
        self.feed_provider(index, ProviderInput::Close);
        self.check_closed(index);
        self.checks.hazard("providers closed", 1);
    }
}
