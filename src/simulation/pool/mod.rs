//! Feeds a pool's machine and carries out its effects, without tasks.

mod attempt;
mod drain;
pub(super) mod state;

use std::sync::Arc;

use self::state::Opening;
use super::clock::{MS, SEC};
use super::database::secret_of;
use super::event::SimulatedEvent;
use super::node::NodeId;
use super::world::World;
use crate::lease::{Revision, connection_expiry};
use crate::pool::machine::{LeaseFacts, PoolEffect, PoolInput};
use crate::provider::machine::{Facts, LeaseId, ProviderInput};
use crate::report::HandoverMode;

pub(super) const VERIFY_DEADLINE: u64 = 5 * SEC;

impl World {
    pub(super) fn wake_pool(&mut self, index: usize) {
        let node = self.pools[index].node;
        if self.pools[index].actor.wake() {
            let soon = self.clocks.mono + self.rng.u64(20..MS);
            self.queue
                .add(soon, SimulatedEvent::PoolWake { node, alarm: None });
        }
    }

    pub(super) fn pool_wakes(&mut self, node: NodeId, alarm: Option<u64>) {
        let (index, now) = (node.index, self.clocks.mono);
        if !self.pools[index].actor.take(alarm, now) {
            return;
        }
        let lease = self.known_lease(index);
        let now_both = self.clocks.now();
        let has_expired = lease
            .as_ref()
            .is_some_and(|lease| lease.expiry.is_expired(now_both));
        self.checks
            .hazard("wakes with an expired lease", u64::from(has_expired));
        self.reconcile_roll_back(index);
        let resumes = self.pool_resumes(index, lease.as_ref().filter(|_| !has_expired));
        self.note_rejection(index);
        let effects = self.feed_pool(index, PoolInput::Wake { lease });
        self.pool_resumed(index, resumes, &effects);
        self.start_tasks(index, effects);
        self.check_pool_after_jump(index);
        self.wake_callers(index);
        if let Some(next) = self.pools[index].machine.next_deadline() {
            let next = self.clocks.micros(next).max(now + 5 * MS);
            if let Some(number) = self.pools[index].actor.arm(next) {
                let alarm = Some(number);
                self.queue
                    .add(next, SimulatedEvent::PoolWake { node, alarm });
            }
        }
    }

    /// Returns the facts of the provider's current lease for the pool.
    pub(super) fn known_lease(&self, index: usize) -> Option<LeaseFacts> {
        let provider = &self.providers[self.pools[index].provider.index];
        let (_, facts) = provider.current()?;
        self.lease_facts(facts)
    }

    /// Returns a lease's facts for a pool.
    pub(super) fn lease_facts(&self, facts: &Facts) -> Option<LeaseFacts> {
        let secret = self.db.secrets.get(secret_of(&facts.revision))?;
        Some(LeaseFacts {
            revision: facts.revision.clone(),
            account: Arc::clone(&secret.account),
            expiry: facts.expiry,
            old_connections: facts.old_connections,
            connection_expiry: connection_expiry(
                facts.old_connections,
                facts.connection_expiry,
                facts.expiry,
            ),
        })
    }

    /// Feeds a pool's machine, and carries out the effects that need no task. Returns the others.
    pub(super) fn feed_pool(&mut self, index: usize, input: PoolInput) -> Vec<PoolEffect> {
        let effects = self.pools[index].machine.handle(input, self.clocks.now());
        self.pool_effects(index, &effects);
        self.check_crashed_pool(index, &effects);
        let mut returned = Vec::new();
        let (now, pool) = (self.clocks.now(), &mut self.pools[index]);
        for effect in &effects {
            let current = pool.current.as_mut();
            match effect {
                PoolEffect::ReturnLease { generation } => {
                    returned.extend(pool.leases.remove(generation))
                }
                PoolEffect::Extend { generation, expiry } => {
                    if let Some(current) =
                        current.filter(|current| current.generation == *generation)
                    {
                        current.expiry = *expiry;
                        if let Some(active) = pool.machine.current() {
                            current.connections_until = active.lease.connections_until(now);
                        }
                    }
                }
                PoolEffect::LimitLogins { width, until } => pool.admission.limit(*width, *until),
                PoolEffect::ProbeBeforeUse { generation }
                | PoolEffect::StopProbing { generation } => {
                    if let Some(current) =
                        current.filter(|current| current.generation == *generation)
                    {
                        current.is_unverified = matches!(effect, PoolEffect::ProbeBeforeUse { .. });
                    }
                }
                // Carried out below, or by the caller.
                PoolEffect::Wake
                | PoolEffect::Reject { .. }
                | PoolEffect::ReportFailure { .. }
                | PoolEffect::ReportRejected { .. }
                | PoolEffect::NotifyPoolsOfLogin { .. }
                | PoolEffect::ReportServing { .. }
                | PoolEffect::StartAttempt { .. }
                | PoolEffect::Probe { .. }
                | PoolEffect::StartDrain { .. }
                | PoolEffect::Open
                | PoolEffect::Publish(_)
                | PoolEffect::RollBackFailed
                | PoolEffect::ReportRollBackEnd
                | PoolEffect::ReportAbandoned { .. } => {}
            }
        }
        for (lease, _) in returned {
            self.return_lease(index, lease);
        }
        self.end_roll_back(index);
        let mut left = Vec::new();
        for effect in effects {
            left.extend(self.carry_out(index, effect));
        }
        left
    }

    pub(super) fn return_lease(&mut self, index: usize, lease: LeaseId) {
        let provider = self.pools[index].provider;
        if self.providers[provider.index].node == provider {
            self.feed_provider(provider.index, ProviderInput::LeaseReturned(lease));
        }
    }

    /// Carries out an effect, or returns it if it needs a task or its caller.
    fn carry_out(&mut self, index: usize, effect: PoolEffect) -> Option<PoolEffect> {
        let provider = self.pools[index].provider.index;
        match effect {
            PoolEffect::Wake => self.wake_pool(index),
            PoolEffect::Reject { generation } => {
                let pool = &mut self.pools[index];
                if let Some(current) = pool
                    .current
                    .as_mut()
                    .filter(|current| current.generation == generation)
                {
                    current.is_rejected = true;
                    self.checks.hazard("generations rejected", 1);
                }
                self.wake_callers(index);
            }
            PoolEffect::ReportFailure { .. } => self.checks.hazard("verifications failed", 1),
            PoolEffect::ReportRejected { revision } => {
                self.feed_provider(provider, ProviderInput::Rejected(revision));
            }
            PoolEffect::NotifyPoolsOfLogin { revision, account } => {
                self.notify_pools_of_login(provider, &revision, &account);
            }
            PoolEffect::ReportServing { revision } => {
                let name = Arc::clone(&self.pools[index].name);
                if let Some(rotation) = self.open_rotation(provider)
                    && rotation.waits_for(&name, &revision.digest())
                {
                    self.leave_rotation(index);
                }
            }
            PoolEffect::Extend { .. } => self.wake_callers(index),
            // Carried out by `feed_pool` or its caller.
            PoolEffect::ReturnLease { .. }
            | PoolEffect::RollBackFailed
            | PoolEffect::ReportRollBackEnd
            | PoolEffect::LimitLogins { .. }
            | PoolEffect::ProbeBeforeUse { .. }
            | PoolEffect::StopProbing { .. } => {}
            PoolEffect::StartAttempt { .. }
            | PoolEffect::Open
            | PoolEffect::Publish(_)
            | PoolEffect::Probe { .. }
            | PoolEffect::StartDrain { .. }
            | PoolEffect::ReportAbandoned { .. } => return Some(effect),
        }
        None
    }

    fn notify_pools_of_login(&mut self, provider: usize, revision: &Revision, account: &Arc<str>) {
        for other in self.subscribers(provider) {
            let input = PoolInput::VerifiedElsewhere {
                revision: revision.clone(),
                account: Arc::clone(account),
            };
            self.feed_pool(other, input);
        }
    }

    pub(super) fn leave_rotation(&mut self, index: usize) {
        let provider = self.pools[index].provider.index;
        if let Some(rotation) = self.open_rotation(provider) {
            rotation.stop_waiting_for(&self.pools[index].name);
            self.pool_done(provider, &rotation);
        }
    }

    /// Starts the tasks that carry out these effects.
    fn start_tasks(&mut self, index: usize, effects: Vec<PoolEffect>) {
        for effect in effects {
            match effect {
                PoolEffect::StartAttempt {
                    attempt, revision, ..
                } => self.start_attempt(index, attempt, &revision),
                PoolEffect::Probe { generation } => {
                    let node = self.pools[index].node;
                    self.checks.trace.line("probe", node, generation, 0);
                    let takes = self.rng.u64(MS..20 * MS);
                    self.queue.add(
                        self.clocks.mono + takes,
                        SimulatedEvent::Probed { node, generation },
                    );
                }
                PoolEffect::StartDrain {
                    generation,
                    since,
                    deadline,
                } => {
                    let (since, deadline) =
                        (self.clocks.micros(since), self.clocks.micros(deadline));
                    self.start_drain(index, generation, since, deadline);
                }
                // Carried out without a task.
                PoolEffect::Wake
                | PoolEffect::Extend { .. }
                | PoolEffect::Reject { .. }
                | PoolEffect::ReportFailure { .. }
                | PoolEffect::ReportRejected { .. }
                | PoolEffect::NotifyPoolsOfLogin { .. }
                | PoolEffect::ReportServing { .. }
                | PoolEffect::LimitLogins { .. }
                | PoolEffect::RollBackFailed
                | PoolEffect::ReportRollBackEnd
                | PoolEffect::ProbeBeforeUse { .. }
                | PoolEffect::StopProbing { .. }
                | PoolEffect::ReturnLease { .. } => {}
                // Carried out by the task that fed the input. None of these inputs is fed here.
                PoolEffect::Open | PoolEffect::Publish(_) | PoolEffect::ReportAbandoned { .. } => {}
            }
        }
    }

    /// Loses the tasks of a driver, as if their runtime had ended.
    pub(super) fn lose_pool_tasks(&mut self, index: usize) {
        let pool = &mut self.pools[index];
        pool.losses += 1;
        let attempt = pool.attempt.take();
        let mut drains = Vec::new();
        for (generation, drain) in &mut pool.drains {
            if drain.deadline.take().is_some() {
                drains.push(*generation);
            }
        }
        let lost = drains.len() as u64 + u64::from(attempt.is_some());
        self.checks.hazard("pool tasks lost", lost);
        self.disturb(self.pools[index].provider.index, 0);
        if let Some(attempt) = attempt {
            if let Some(Opening {
                instance,
                mode: HandoverMode::Replace,
                ..
            }) = attempt.opening
            {
                self.pools[index].instances.remove(&instance);
            }
            self.feed_pool(
                index,
                PoolInput::Lost {
                    attempt: attempt.number,
                },
            );
            self.return_lease(index, attempt.lease);
        }
        for generation in drains {
            self.feed_pool(index, PoolInput::DrainLost { generation });
        }
        self.end_rehearsal(index, false);
    }

    /// Starts nothing new, gives callers `PoolClosed`, and drains the current generation.
    pub(super) fn close_pool(&mut self, index: usize) {
        let is_first = !self.pools[index].is_closed;
        let current = self.pools[index].current.take();
        if let Some(current) = current {
            self.begin_drain(index, current);
        }
        self.pools[index].is_closed = true;
        if is_first {
            self.pools[index].closed_at = self.clocks.mono;
        }
        let effects = self.feed_pool(index, PoolInput::Close);
        if is_first {
            let provider = self.pools[index].provider.index;
            if self.providers[provider].machine.is_stopped() {
                self.feed_provider(provider, ProviderInput::PoolsGone);
            } else {
                self.leave_rotation(index);
                self.pool_left(provider);
            }
            self.checks.hazard("pools closed", 1);
        }
        self.start_tasks(index, effects);
        if is_first {
            self.wake_callers(index);
            self.wake_pool(index);
        }
        self.leave(index);
    }

    /// Unsubscribes a closed pool that no longer uses a lease.
    pub(super) fn leave(&mut self, index: usize) {
        let pool = &mut self.pools[index];
        if pool.is_closed
            && pool.has_subscribed
            && pool.drains.is_empty()
            && !pool.machine.is_verifying()
            && pool.attempt.is_none()
        {
            pool.has_subscribed = false;
            let provider = pool.provider.index;
            self.pool_left(provider);
        }
    }
}
