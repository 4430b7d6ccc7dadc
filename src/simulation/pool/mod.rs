//! A pool's driver, without tasks: feeds its machine, and carries out the effects.

mod attempt;
mod drain;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::callers::{Login, SimulatedCall};
use super::checks::PoolModel;
use super::clock::{MS, SEC};
use super::database::{SecretId, secret_of};
use super::event::{NodeId, SimulatedEvent};
use super::provider::{ActorState, WakeAction};
use super::world::World;
use crate::clock::Timestamp;
use crate::expiry::Expiry;
use crate::lease::{OldConnections, Revision};
use crate::pool::admission::{Admission, Permit};
use crate::pool::machine::{LeaseFacts, PoolEffect, PoolInput, PoolMachine};
use crate::provider::machine::{LeaseId, ProviderInput};
use crate::report::HandoverMode;
use crate::rotation::Rotation;

const VERIFY_DEADLINE: u64 = 5 * SEC;
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// A count of connections, which the admission control reads.
pub(super) type ConnectionCount = Arc<AtomicU32>;

/// The pool behind one or more generations.
#[derive(Debug, Default)]
pub(super) struct Instance {
    pub(super) count: ConnectionCount,
    /// The secret that each was opened with.
    pub(super) idle: Vec<SecretId>,
    pub(super) is_closing: bool,
}

/// What callers get.
#[derive(Clone, Copy, Debug)]
pub(super) struct Current {
    pub(super) generation: u64,
    pub(super) instance: u64,
    pub(super) secret: SecretId,
    pub(super) expiry: Expiry,
    pub(super) old: OldConnections,
    pub(super) is_rejected: bool,
    pub(super) is_distrusted: bool,
    /// When it was published.
    pub(super) since: u64,
}

#[derive(Debug)]
pub(super) struct SimulatedDrain {
    pub(super) instance: u64,
    pub(super) secret: SecretId,
    pub(super) deadline: Option<u64>,
    is_overdue: bool,
}

/// An attempt whose task runs.
struct SimulatedAttempt {
    number: u64,
    lease: LeaseId,
    facts: LeaseFacts,
    lifetime: Option<Duration>,
    rotation: Option<Arc<Rotation>>,
    permit: Option<Permit<ConnectionCount>>,
    began: u64,
    opening: Option<Opening>,
}

struct Opening {
    instance: u64,
    mode: HandoverMode,
    /// Logins before publication: those of connections, or the one that tries the lease out.
    ahead: u32,
    tries_out: bool,
}

pub(super) struct SimulatedPool {
    pub(super) node: NodeId,
    pub(super) name: Arc<str>,
    pub(super) provider: NodeId,
    pub(super) machine: PoolMachine,
    pub(super) admission: Arc<Admission<ConnectionCount>>,
    pub(super) max: u32,
    pub(super) overlap: u32,
    warm: u32,
    always_replaces: bool,
    pub(super) leases: BTreeMap<u64, (LeaseId, SecretId)>,
    pub(super) instances: BTreeMap<u64, Instance>,
    next_instance: u64,
    pub(super) current: Option<Current>,
    pub(super) drains: BTreeMap<u64, SimulatedDrain>,
    attempt: Option<SimulatedAttempt>,
    pub(super) calls: BTreeMap<u64, SimulatedCall>,
    pub(super) waiting: VecDeque<u64>,
    pub(super) logins: BTreeMap<u64, Login>,
    pub(super) numbers: u64,
    pub(super) pump: Option<u64>,
    pub(super) pace: u64,
    pub(super) last_login_worked: Option<u64>,
    losses: u32,
    pub(super) actor: ActorState,
    pub(super) is_retired: bool,
    pub(super) has_subscribed: bool,
    /// When it was added.
    pub(super) since: u64,
    /// When it was removed.
    pub(super) retired: u64,
    pub(super) model: PoolModel,
}

impl SimulatedPool {
    pub(super) fn new(
        node: NodeId,
        provider: NodeId,
        (now, since): (Timestamp, u64),
        rng: &mut fastrand::Rng,
    ) -> Self {
        let max = rng.u32(2..13);
        let overlap = (max / 4).max(1);
        let count = |count: &ConnectionCount| count.load(Ordering::Relaxed);
        Self {
            node,
            name: format!("pool-{}", node.at).into(),
            provider,
            machine: PoolMachine::new(max, PATIENCE, rng.u64(..), now),
            admission: Admission::new(max, overlap, Arc::new(count)),
            max,
            overlap,
            warm: rng.u32(0..=max),
            always_replaces: rng.u8(..4) == 0,
            leases: BTreeMap::new(),
            instances: BTreeMap::new(),
            next_instance: 0,
            current: None,
            drains: BTreeMap::new(),
            attempt: None,
            calls: BTreeMap::new(),
            waiting: VecDeque::new(),
            logins: BTreeMap::new(),
            numbers: 0,
            pump: None,
            pace: 0,
            last_login_worked: None,
            losses: 0,
            actor: ActorState::default(),
            is_retired: false,
            has_subscribed: true,
            since,
            retired: u64::MAX / 2,
            model: PoolModel::default(),
        }
    }

    pub(super) fn has_attempt(&self) -> bool {
        self.attempt.is_some()
    }

    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(super) fn count(&self, instance: u64) -> u32 {
        self.instances
            .get(&instance)
            .map_or(0, |one| one.count.load(Ordering::Relaxed))
    }

    /// Returns all connections, those of a verification that has a permit among them.
    pub(super) fn connections(&self) -> u32 {
        let pooled: u32 = self.instances.keys().map(|one| self.count(*one)).sum();
        let verification = self
            .attempt
            .as_ref()
            .is_some_and(|one| one.permit.is_some());
        pooled + u32::from(verification)
    }

    fn is_attempt(&self, losses: u32, attempt: u64) -> bool {
        self.losses == losses
            && self
                .attempt
                .as_ref()
                .is_some_and(|one| one.number == attempt)
    }

    /// Returns the secret of the lease that an attempt holds.
    pub(super) fn attempted(&self) -> Option<SecretId> {
        self.attempt
            .as_ref()
            .map(|one| secret_of(&one.facts.revision))
    }
}
impl World {
    pub(super) fn wake_pool(&mut self, at: usize) {
        let node = self.pools[at].node;
        if self.pools[at].actor.wake() {
            let soon = self.clocks.mono + self.rng.u64(20..MS);
            self.queue
                .add(soon, SimulatedEvent::PoolWake { node, alarm: None });
        }
    }

    pub(super) fn pool_wakes(&mut self, node: NodeId, alarm: Option<u64>) {
        let (at, now) = (node.at, self.clocks.mono);
        match self.pools[at].actor.take(alarm, now) {
            WakeAction::Ignore => return,
            WakeAction::Later(later) => {
                return self
                    .queue
                    .add(later, SimulatedEvent::PoolWake { node, alarm });
            }
            WakeAction::Reconcile => {}
        }
        let lease = self.known_lease(at);
        let now_both = self.clocks.now();
        let has_expired = lease
            .as_ref()
            .is_some_and(|lease| lease.expiry.is_expired(now_both));
        self.checks
            .hazard("wakes with an expired lease", u64::from(has_expired));
        let effects = self.feed_pool(at, PoolInput::Wake { lease });
        self.start(at, effects);
        self.check_pool_after_jump(at);
        // Callers learn of the outlook.
        self.news(at);
        if let Some(next) = self.pools[at].machine.next_deadline() {
            let next = self.clocks.micros(next).max(now + 5 * MS);
            if let Some(number) = self.pools[at].actor.arm(next) {
                let alarm = Some(number);
                self.queue
                    .add(next, SimulatedEvent::PoolWake { node, alarm });
            }
        }
    }

    /// Returns the provider's current lease as the pool knows it.
    pub(super) fn known_lease(&self, at: usize) -> Option<LeaseFacts> {
        let provider = &self.providers[self.pools[at].provider.at];
        let (_, facts) = provider.current()?;
        let secret = self.db.secrets.get(secret_of(&facts.revision))?;
        Some(LeaseFacts {
            revision: facts.revision.clone(),
            account: Arc::clone(&secret.account),
            expiry: facts.expiry,
            old_connections: facts.old_connections,
        })
    }

    /// Feeds a pool's machine, and carries out the effects that need no task; returns the others.
    pub(super) fn feed_pool(&mut self, at: usize, input: PoolInput) -> Vec<PoolEffect> {
        let effects = self.pools[at].machine.handle(input, self.clocks.now());
        self.pool_effects(at, &effects);
        let mut returned = Vec::new();
        let pool = &mut self.pools[at];
        for effect in &effects {
            let current = pool.current.as_mut();
            match effect {
                PoolEffect::ReturnLease { generation } => {
                    returned.extend(pool.leases.remove(generation))
                }
                PoolEffect::Extend { generation, expiry } => {
                    if let Some(current) = current.filter(|one| one.generation == *generation) {
                        current.expiry = *expiry;
                    }
                }
                PoolEffect::Distrust { generation } | PoolEffect::Trust { generation } => {
                    if let Some(current) = current.filter(|one| one.generation == *generation) {
                        current.is_distrusted = matches!(effect, PoolEffect::Distrust { .. });
                    }
                }
                _ => {}
            }
        }
        for (lease, _) in returned {
            self.return_lease(at, lease);
        }
        let mut left = Vec::new();
        for effect in effects {
            left.extend(self.carry_out(at, effect));
        }
        left
    }

    fn return_lease(&mut self, at: usize, lease: LeaseId) {
        let provider = self.pools[at].provider;
        if self.providers[provider.at].node == provider {
            self.feed_provider(provider.at, ProviderInput::LeaseReturned(lease));
        }
    }

    /// Carries out an effect, or returns it if it needs a task or its caller.
    fn carry_out(&mut self, at: usize, effect: PoolEffect) -> Option<PoolEffect> {
        let provider = self.pools[at].provider.at;
        match effect {
            PoolEffect::Wake => self.wake_pool(at),
            PoolEffect::Reject { generation } => {
                let pool = &mut self.pools[at];
                if let Some(current) = pool
                    .current
                    .as_mut()
                    .filter(|one| one.generation == generation)
                {
                    current.is_rejected = true;
                    self.checks.hazard("generations rejected", 1);
                }
                self.news(at);
            }
            PoolEffect::ReportFailure { .. } => self.checks.hazard("verifications failed", 1),
            PoolEffect::ReportRejected { revision } => {
                self.feed_provider(provider, ProviderInput::Rejected(revision));
            }
            PoolEffect::ReportVerified { revision, account } => {
                self.notify_verified(provider, &revision, &account);
            }
            PoolEffect::Settle { revision } => {
                let name = Arc::clone(&self.pools[at].name);
                if let Some(rotation) = self.open_rotation(provider)
                    && rotation.waits_for(&name, &revision.digest())
                {
                    self.excuse(at);
                }
            }
            PoolEffect::Extend { .. } => self.news(at),
            // Done with the tables, or by whoever fed the input.
            PoolEffect::ReturnLease { .. }
            | PoolEffect::Distrust { .. }
            | PoolEffect::Trust { .. } => {}
            PoolEffect::StartAttempt { .. }
            | PoolEffect::Open
            | PoolEffect::Publish(_)
            | PoolEffect::Discard
            | PoolEffect::Probe { .. }
            | PoolEffect::StartDrain { .. }
            | PoolEffect::ReportAbandoned { .. } => return Some(effect),
        }
        None
    }

    fn notify_verified(&mut self, provider: usize, revision: &Revision, account: &Arc<str>) {
        for other in self.subscribers(provider) {
            let input = PoolInput::VerifiedElsewhere {
                revision: revision.clone(),
                account: Arc::clone(account),
            };
            self.feed_pool(other, input);
        }
    }

    fn excuse(&mut self, at: usize) {
        let provider = self.pools[at].provider.at;
        if let Some(rotation) = self.open_rotation(provider) {
            rotation.excuse(&self.pools[at].name);
            self.pool_settled(provider, &rotation);
        }
    }

    /// Starts the tasks that carry out these effects.
    fn start(&mut self, at: usize, effects: Vec<PoolEffect>) {
        for effect in effects {
            match effect {
                PoolEffect::StartAttempt {
                    attempt, revision, ..
                } => self.start_attempt(at, attempt, &revision),
                PoolEffect::Probe { generation } => {
                    let node = self.pools[at].node;
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
                    self.start_drain(at, generation, since, deadline);
                }
                _ => {}
            }
        }
    }

    /// The tasks of a driver are gone with their runtime.
    pub(super) fn lose_pool_tasks(&mut self, at: usize) {
        let pool = &mut self.pools[at];
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
        self.disturb(self.pools[at].provider.at, 0);
        if let Some(attempt) = attempt {
            if let Some(Opening {
                instance,
                mode: HandoverMode::Replace,
                ..
            }) = attempt.opening
            {
                self.pools[at].instances.remove(&instance);
            }
            self.feed_pool(
                at,
                PoolInput::Lost {
                    attempt: attempt.number,
                },
            );
            self.return_lease(at, attempt.lease);
        }
        for generation in drains {
            self.feed_pool(at, PoolInput::DrainLost { generation });
        }
    }

    /// Starts nothing new, gives callers `PoolClosed`, and drains the current generation.
    pub(super) fn retire(&mut self, at: usize) {
        let is_first = !self.pools[at].is_retired;
        let current = self.pools[at].current.take();
        if let Some(current) = current {
            self.begin_drain(at, current);
        }
        self.pools[at].is_retired = true;
        if is_first {
            self.pools[at].retired = self.clocks.mono;
        }
        let effects = self.feed_pool(at, PoolInput::Retire);
        if is_first {
            let provider = self.pools[at].provider.at;
            if self.providers[provider].machine.is_stopped() {
                self.feed_provider(provider, ProviderInput::PoolsGone);
            } else {
                self.excuse(at);
                self.pool_leaves(provider);
            }
            self.checks.hazard("pools retired", 1);
        }
        self.start(at, effects);
        if is_first {
            self.news(at);
            self.wake_pool(at);
        }
        self.leave(at);
    }

    /// Nothing of a retired pool uses a lease any more.
    pub(super) fn leave(&mut self, at: usize) {
        let pool = &mut self.pools[at];
        if pool.is_retired
            && pool.has_subscribed
            && pool.drains.is_empty()
            && !pool.machine.has_attempt()
            && pool.attempt.is_none()
        {
            pool.has_subscribed = false;
            let provider = pool.provider.at;
            self.pool_leaves(provider);
        }
    }
}
