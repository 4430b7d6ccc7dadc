//! A provider's driver, without tasks: feeds its machine, and carries out the effects.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::backend::Answer;
use super::checks::ProviderModel;
use super::clock::{MS, SEC};
use super::database::{SecretId, secret_of};
use super::event::{Event, Node};
use super::report::Law;
use super::world::World;
use crate::clock::Timestamp;
use crate::error::{ProviderError, ProviderErrorKind};
use crate::expiry::Expiry;
use crate::lease::Revision;
use crate::provider::machine::{
    Answer as Reply, Effect, Facts, FetchId, Input, LeaseId, Machine, Offer, RequestId, RotationId,
};
use crate::report::RotationOutcome;
use crate::report::RotationTrigger;
use crate::rotation::Rotation;

pub(super) const FETCH_DEADLINE: u64 = 30 * SEC;
const POLL: Duration = Duration::from_secs(300);

/// A fetch whose task runs.
#[derive(Debug)]
pub(super) struct Fetch {
    started: Timestamp,
    rejected: Arc<[Revision]>,
    pub(super) hangs: bool,
}

#[derive(Debug)]
pub(super) struct ProviderNode {
    pub(super) node: Node,
    name: Arc<str>,
    pub(super) machine: Machine,
    /// The values of leases.
    pub(super) leases: BTreeMap<LeaseId, Facts>,
    pub(super) rotations: BTreeMap<RotationId, Arc<Rotation>>,
    pub(super) requests: BTreeSet<RequestId>,
    pub(super) next_request: u64,
    pub(super) fetches: BTreeMap<FetchId, Fetch>,
    pub(super) releases: BTreeSet<LeaseId>,
    pub(super) losses: u32,
    pub(super) actor: ActorState,
    pub(super) is_closed: bool,
    pub(super) model: ProviderModel,
}

/// The actor around a driver.
#[derive(Debug, Default)]
pub(super) struct ActorState {
    is_poked: bool,
    alarm: Option<(u64, u64)>,
    alarms: u64,
    /// It has crashed, and is not restarted before.
    pub(super) crashed_until: u64,
}

/// What the actor is to do with a wake.
#[derive(Debug, PartialEq)]
pub(super) enum Wake {
    Ignore,
    Later(u64),
    Reconcile,
}

impl ActorState {
    pub(super) fn poke(&mut self) -> bool {
        !std::mem::replace(&mut self.is_poked, true)
    }

    pub(super) fn take(&mut self, alarm: Option<u64>, now: u64) -> Wake {
        match alarm {
            Some(number) if self.alarm.is_none_or(|(_, set)| set != number) => return Wake::Ignore,
            _ if now < self.crashed_until => return Wake::Later(self.crashed_until),
            Some(_) => self.alarm = None,
            None => self.is_poked = false,
        }
        Wake::Reconcile
    }

    /// Sets the alarm, if none comes before. Returns its number. A wake too many does no harm: the
    /// drivers have a heartbeat, too.
    pub(super) fn arm(&mut self, at: u64) -> Option<u64> {
        if self.alarm.is_some_and(|(set, _)| set <= at) {
            return None;
        }
        self.alarms += 1;
        self.alarm = Some((at, self.alarms));
        Some(self.alarms)
    }
}

/// The part of an effect that follows when all tables are up to date.
enum Work {
    StartFetch(FetchId, Fetch),
    Settle(Arc<Rotation>),
    Release(LeaseId),
    CloseRotation(Arc<Rotation>, RotationOutcome),
    WakePools,
}

impl ProviderNode {
    pub(super) fn new(node: Node, now: Timestamp) -> Self {
        Self {
            node,
            name: format!("provider-{}", node.at).into(),
            machine: Machine::new(POLL, now),
            leases: BTreeMap::new(),
            rotations: BTreeMap::new(),
            requests: BTreeSet::new(),
            next_request: 0,
            fetches: BTreeMap::new(),
            releases: BTreeSet::new(),
            losses: 0,
            actor: ActorState::default(),
            is_closed: false,
            model: ProviderModel::default(),
        }
    }

    /// Returns the current lease.
    pub(super) fn current(&self) -> Option<(LeaseId, &Facts)> {
        let (id, _) = self.machine.current()?;
        Some((id, self.leases.get(&id)?))
    }

    pub(super) fn secret(&self) -> Option<SecretId> {
        self.current().map(|(_, facts)| secret_of(&facts.revision))
    }
}

impl World {
    /// Feeds a provider's machine, and wakes its actor.
    pub(super) fn feed_provider(&mut self, at: usize, input: Input) {
        self.handle_provider(at, input, None);
        self.poke_provider(at);
    }

    pub(super) fn poke_provider(&mut self, at: usize) {
        let node = self.providers[at].node;
        if self.providers[at].actor.poke() {
            let soon = self.clocks.mono + self.rng.u64(20..MS);
            self.queue
                .add(soon, Event::ProviderWake { node, alarm: None });
        }
    }

    pub(super) fn provider_wakes(&mut self, node: Node, alarm: Option<u64>) {
        let now = self.clocks.mono;
        match self.providers[node.at].actor.take(alarm, now) {
            Wake::Ignore => return,
            Wake::Later(at) => return self.queue.add(at, Event::ProviderWake { node, alarm }),
            Wake::Reconcile => {}
        }
        self.handle_provider(node.at, Input::Wake, None);
        self.check_after_jump(node.at);
        if let Some(next) = self.providers[node.at].machine.next_deadline() {
            let at = self.clocks.micros(next).max(now + 5 * MS);
            if let Some(number) = self.providers[node.at].actor.arm(at) {
                let alarm = Some(number);
                self.queue.add(at, Event::ProviderWake { node, alarm });
            }
        }
    }

    /// `brought` is the lease that came with the input.
    fn handle_provider(&mut self, at: usize, input: Input, mut brought: Option<Facts>) {
        self.provider_input(at, &input);
        let now = self.clocks.now();
        let offered = match &input {
            Input::FetchDone { result, .. } => Some(result.clone()),
            _ => None,
        };
        let before = self.providers[at].current().map(|(_, facts)| facts.expiry);
        let effects = self.providers[at].machine.handle(input, now);
        self.provider_effects(at, offered.as_ref(), &effects, before);
        let mut work = Vec::new();
        for effect in effects {
            let provider = &mut self.providers[at];
            match effect {
                Effect::OpenRotation { rotation, trigger } => {
                    let opened = Rotation::new(&provider.name, trigger, now);
                    provider.rotations.insert(rotation, opened);
                }
                Effect::StartFetch {
                    fetch,
                    trigger,
                    rotation: _,
                    requests,
                    rejected,
                } => {
                    self.fetch_starts(at, fetch, trigger, !requests.is_empty(), &rejected);
                    let running = Fetch {
                        started: now,
                        rejected,
                        hangs: false,
                    };
                    work.push(Work::StartFetch(fetch, running));
                }
                Effect::Keep(id) => {
                    if let Some(lease) = brought.take() {
                        provider.leases.insert(id, lease);
                    }
                }
                Effect::Extend(id, expiry) => {
                    if let Some(lease) = provider.leases.get_mut(&id) {
                        lease.expiry = expiry;
                    }
                }
                Effect::HandOver { rotation, lease } => {
                    let rotation = provider.rotations.get(&rotation).cloned();
                    let revision = provider.leases.get(&lease).map(|lease| &lease.revision);
                    if let (Some(rotation), Some(revision)) = (rotation, revision) {
                        let pools = self.pools.iter().filter(|pool| {
                            pool.provider.at == at && pool.has_subscribed && !pool.is_retired
                        });
                        let pools: Vec<_> = pools.map(|pool| Arc::clone(&pool.name)).collect();
                        rotation.adopted(revision, pools);
                        work.push(Work::Settle(rotation));
                    }
                }
                Effect::Release(id) => work.push(Work::Release(id)),
                Effect::Forget(id) => {
                    provider.leases.remove(&id);
                }
                Effect::CloseRotation { rotation, outcome } => {
                    let rotation = provider.rotations.remove(&rotation);
                    work.extend(rotation.map(|rotation| Work::CloseRotation(rotation, outcome)));
                }
                Effect::Reply { request, answer } => {
                    let waited = provider.requests.remove(&request);
                    self.checks
                        .hazard("manual requests answered", u64::from(waited));
                    let (Reply::Rotation(_)
                    | Reply::Earlier(_)
                    | Reply::Failed(_)
                    | Reply::Abandoned) = answer;
                }
                Effect::Report { .. } => {}
                Effect::NotifyPools => work.push(Work::WakePools),
            }
        }
        for one in work {
            match one {
                Work::StartFetch(fetch, running) => self.start_fetch(at, fetch, running),
                Work::Settle(rotation) => self.pool_settled(at, &rotation),
                Work::Release(lease) => self.start_release(at, lease),
                Work::CloseRotation(rotation, outcome) => {
                    rotation.close(outcome, now);
                }
                Work::WakePools => {
                    for pool in self.subscribers(at) {
                        self.poke_pool(pool);
                    }
                }
            }
        }
    }

    fn start_fetch(&mut self, at: usize, fetch: FetchId, running: Fetch) {
        let truth = self.clocks.truth();
        let takes = self.backends[at].latency(truth, &mut self.rng);
        let provider = &mut self.providers[at];
        provider.fetches.insert(fetch, running);
        let (node, losses) = (provider.node, provider.losses);
        let now = self.clocks.mono;
        if std::mem::take(&mut self.lose[at].0) {
            let soon = now + self.rng.u64(..takes);
            self.queue.add(
                soon,
                Event::Lose {
                    provider: at,
                    pools: false,
                },
            );
        }
        self.queue.add(
            now + takes,
            Event::Fetched {
                node,
                losses,
                fetch,
            },
        );
        if takes > FETCH_DEADLINE {
            let late = Event::FetchDeadline {
                node,
                losses,
                fetch,
            };
            self.queue.add(now + FETCH_DEADLINE, late);
        }
    }

    pub(super) fn fetch_hangs(&mut self, node: Node, losses: u32, fetch: FetchId) {
        let provider = &mut self.providers[node.at];
        if provider.losses != losses {
            return;
        }
        if let Some(running) = provider.fetches.get_mut(&fetch) {
            running.hangs = true;
            self.checks.hazard("fetches past their deadline", 1);
            self.disturb(node.at, 0);
            let error = ProviderError::new(ProviderErrorKind::TimedOut, "simulated");
            let jitter = self.rng.f64();
            self.feed_provider(
                node.at,
                Input::FetchHangs {
                    fetch,
                    error,
                    jitter,
                },
            );
        }
    }

    pub(super) fn fetched(&mut self, node: Node, losses: u32, fetch: FetchId) {
        let at = node.at;
        if self.providers[at].losses != losses {
            return;
        }
        let Some(running) = self.providers[at].fetches.remove(&fetch) else {
            return;
        };
        let truth = self.clocks.truth();
        let held = self.providers[at].secret();
        let answer = self.backends[at].answer(
            at,
            held,
            &running.rejected,
            truth,
            &mut self.db,
            &mut self.rng,
        );
        self.checks
            .trace
            .line("answer", node, fetch.0, held.unwrap_or_default() as u64);
        let started = running.started;
        let expiry = |ttl: Option<u64>| {
            ttl.map_or(Expiry::never(), |ttl| {
                Expiry::after(started, Duration::from_micros(ttl))
            })
        };
        let kind = self.backends[at].kind;
        let (result, brought) = match answer {
            Answer::Failed(error) => (Err(error), None),
            Answer::Unchanged => (Ok(Offer::Unchanged), None),
            Answer::Renewed { ttl } => (Ok(Offer::Renewed(expiry(Some(ttl)))), None),
            Answer::New { secret, ttl } => {
                self.db.secrets[secret].delivered = true;
                let facts = Facts {
                    revision: super::database::revision(secret),
                    expiry: expiry(ttl),
                    old_connections: kind.old_connections(),
                    refresh_after: None,
                };
                (Ok(Offer::New(facts.clone())), Some(facts))
            }
        };
        if running.hangs {
            self.checks.hazard(
                "leases that came after the deadline",
                u64::from(brought.is_some()),
            );
            let lease = brought.clone();
            self.handle_provider(at, Input::FetchLate { fetch, lease }, brought);
            self.disturb(at, 0);
        } else {
            // As the driver does: what has expired on arrival brings no lease.
            let now = self.clocks.now();
            let result = result.and_then(|offer| self.providers[at].machine.check(offer, now));
            if let (Err(_), Some(facts)) = (&result, &brought) {
                self.db.secrets[secret_of(&facts.revision)].delivered = false;
                self.checks.hazard("leases expired on arrival", 1);
            }
            let brought = brought.filter(|_| result.is_ok());
            let jitter = self.rng.f64();
            self.handle_provider(
                at,
                Input::FetchDone {
                    fetch,
                    result,
                    jitter,
                },
                brought,
            );
        }
        self.poke_provider(at);
    }

    fn start_release(&mut self, at: usize, lease: LeaseId) {
        self.release_starts(at, lease);
        let takes = self.rng.u64(5 * MS..2 * SEC);
        let hangs = self.clocks.truth() < self.backends[at].hangs;
        let takes = if hangs { FETCH_DEADLINE } else { takes };
        let provider = &mut self.providers[at];
        provider.releases.insert(lease);
        let (node, losses) = (provider.node, provider.losses);
        let event = Event::Released {
            node,
            losses,
            lease,
            hangs,
        };
        self.queue.add(self.clocks.mono + takes, event);
    }

    pub(super) fn released(&mut self, node: Node, losses: u32, lease: LeaseId, hangs: bool) {
        let at = node.at;
        if self.providers[at].losses != losses || !self.providers[at].releases.remove(&lease) {
            return;
        }
        let truth = self.clocks.truth();
        let backend = &self.backends[at];
        let fails = |kind| Err(ProviderError::new(kind, "simulated"));
        let result = if hangs {
            fails(ProviderErrorKind::TimedOut)
        } else if truth < backend.down || truth < backend.releases_fail {
            fails(ProviderErrorKind::Unavailable)
        } else if truth < backend.denied {
            fails(ProviderErrorKind::Denied)
        } else {
            Ok(())
        };
        let secret = self.providers[at]
            .leases
            .get(&lease)
            .map(|facts| secret_of(&facts.revision));
        if let Some(secret) = secret {
            self.checks.trace.line(
                if result.is_ok() {
                    "released"
                } else {
                    "not released"
                },
                node,
                lease.0,
                secret as u64,
            );
            match &result {
                Ok(()) => self.release_worked(at, lease, secret),
                Err(error) => {
                    self.checks.hazard("releases that failed", 1);
                    let known = &mut self.db.secrets[secret];
                    known.failed_releases += 1;
                    // What never expires is given up after ten attempts.
                    let is_last = known.expires == u64::MAX && known.failed_releases >= 10;
                    known.release_given_up |= is_last || !error.is_transient();
                }
            }
        }
        self.feed_provider(at, Input::ReleaseDone { lease, result });
    }

    /// The tasks of a driver are gone with their runtime.
    pub(super) fn lose_provider_tasks(&mut self, at: usize) {
        let provider = &mut self.providers[at];
        provider.losses += 1;
        let fetches = std::mem::take(&mut provider.fetches);
        let releases = std::mem::take(&mut provider.releases);
        let lost = (fetches.len() + releases.len()) as u64;
        self.checks.hazard("provider tasks lost", lost);
        self.disturb(at, 0);
        for fetch in fetches.into_keys() {
            self.feed_provider(at, Input::FetchLost(fetch));
        }
        for lease in releases {
            self.feed_provider(at, Input::ReleaseLost(lease));
        }
    }

    pub(super) fn pool_settled(&mut self, at: usize, rotation: &Arc<Rotation>) {
        let mut open = self.providers[at].rotations.iter();
        let open = open
            .find(|(_, one)| Arc::ptr_eq(one, rotation))
            .map(|(id, _)| *id);
        if let Some(id) = open.filter(|_| rotation.is_settled()) {
            self.feed_provider(at, Input::PoolsSettled(id));
        } else {
            self.poke_provider(at);
        }
    }

    pub(super) fn open_rotation(&self, at: usize) -> Option<Arc<Rotation>> {
        let provider = &self.providers[at];
        let id = provider.machine.rotation(self.clocks.now().mono())?;
        provider.rotations.get(&id).cloned()
    }

    pub(super) fn subscribers(&self, at: usize) -> Vec<usize> {
        let uses = |index: &usize| {
            let pool = &self.pools[*index];
            pool.provider == self.providers[at].node && pool.has_subscribed
        };
        (0..self.pools.len()).filter(uses).collect()
    }

    /// A pool retires or leaves: a rejection may have concerned it alone.
    pub(super) fn pool_leaves(&mut self, at: usize) {
        let Some((_, current)) = self.providers[at].current() else {
            return;
        };
        let revision = current.revision.clone();
        let staying = self
            .subscribers(at)
            .into_iter()
            .map(|pool| &self.pools[pool]);
        let mut staying = staying.filter(|pool| !pool.is_retired);
        let serves = |pool: &super::pool::PoolNode| {
            pool.machine
                .current()
                .is_some_and(|active| active.lease.revision == revision && !active.is_rejected())
        };
        if staying.all(serves) {
            self.feed_provider(at, Input::RejectionMoot(revision));
        }
    }

    pub(super) fn rotate_now(&mut self, at: usize) {
        let provider = &mut self.providers[at];
        provider.next_request += 1;
        let request = RequestId(provider.next_request);
        provider.requests.insert(request);
        provider.model.asked = true;
        self.feed_provider(at, Input::Manual(request));
    }

    pub(super) fn hint(&mut self, at: usize) {
        self.providers[at].model.asked = true;
        self.checks.hazard("hints", 1);
        self.feed_provider(at, Input::Hint);
    }

    pub(super) fn close_provider(&mut self, at: usize) {
        if self.providers[at].is_closed {
            return;
        }
        self.providers[at].is_closed = true;
        self.feed_provider(at, Input::Close);
        self.check_closed(at);
        self.checks.hazard("providers closed", 1);
    }

    /// A fetch for this reason is on the failure path, or not: see the checks.
    fn fetch_starts(
        &mut self,
        at: usize,
        fetch: FetchId,
        trigger: RotationTrigger,
        is_requested: bool,
        rejected: &[Revision],
    ) {
        let node = self.providers[at].node;
        self.checks
            .trace
            .line(trigger.as_str(), node, fetch.0, rejected.len() as u64);
        self.check_fetch(at, trigger, is_requested, rejected);
        let is_long = self.providers[at].fetches.values().any(|one| !one.hangs);
        if is_long {
            self.broken(Law(5), node, "two fetches within their deadline at once");
        }
        let bound = self.providers[at].fetches.len();
        if bound > 3 {
            self.broken(
                Law(7),
                node,
                "more than three fetches hang and another one began",
            );
        }
    }
}
