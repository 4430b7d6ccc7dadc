//! A pool's driver, without tasks: feeds its machine, and carries out the effects.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::callers::{Call, Login};
use super::checks::PoolModel;
use super::clock::{MS, SEC};
use super::database::{SecretId, secret_of};
use super::event::{Event, Node};
use super::provider::{ActorState, Wake};
use super::world::World;
use crate::clock::Timestamp;
use crate::error::ConnectErrorKind;
use crate::expiry::Expiry;
use crate::lease::{OldConnections, Revision};
use crate::pool::admission::{Admission, Permit};
use crate::pool::machine::{Effect, Input, LeaseFacts, Machine, ProbeResult};
use crate::provider::machine::{Input as ProviderInput, LeaseId};
use crate::report::{HandoverMode, HandoverReport};
use crate::rotation::Rotation;

const VERIFY_DEADLINE: u64 = 5 * SEC;
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// A count of connections, which the admission control reads.
pub(super) type Count = Arc<AtomicU32>;

/// The pool behind one or more generations.
#[derive(Debug, Default)]
pub(super) struct Instance {
    pub(super) count: Count,
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
pub(super) struct Drain {
    pub(super) instance: u64,
    pub(super) secret: SecretId,
    pub(super) deadline: Option<u64>,
    is_overdue: bool,
}

/// An attempt whose task runs.
struct Attempt {
    number: u64,
    lease: LeaseId,
    facts: LeaseFacts,
    lifetime: Option<Duration>,
    rotation: Option<Arc<Rotation>>,
    permit: Option<Permit<Count>>,
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

pub(super) struct PoolNode {
    pub(super) node: Node,
    pub(super) name: Arc<str>,
    pub(super) provider: Node,
    pub(super) machine: Machine,
    pub(super) admission: Arc<Admission<Count>>,
    pub(super) max: u32,
    pub(super) overlap: u32,
    warm: u32,
    always_replaces: bool,
    pub(super) leases: BTreeMap<u64, (LeaseId, SecretId)>,
    pub(super) instances: BTreeMap<u64, Instance>,
    next_instance: u64,
    pub(super) current: Option<Current>,
    pub(super) drains: BTreeMap<u64, Drain>,
    attempt: Option<Attempt>,
    pub(super) calls: BTreeMap<u64, Call>,
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

impl PoolNode {
    pub(super) fn new(
        node: Node,
        provider: Node,
        (now, since): (Timestamp, u64),
        rng: &mut fastrand::Rng,
    ) -> Self {
        let max = rng.u32(2..13);
        let overlap = (max / 4).max(1);
        let count = |count: &Count| count.load(Ordering::Relaxed);
        Self {
            node,
            name: format!("pool-{}", node.at).into(),
            provider,
            machine: Machine::new(max, PATIENCE, rng.u64(..), now),
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
    pub(super) fn poke_pool(&mut self, at: usize) {
        let node = self.pools[at].node;
        if self.pools[at].actor.poke() {
            let soon = self.clocks.mono + self.rng.u64(20..MS);
            self.queue.add(soon, Event::PoolWake { node, alarm: None });
        }
    }

    pub(super) fn pool_wakes(&mut self, node: Node, alarm: Option<u64>) {
        let (at, now) = (node.at, self.clocks.mono);
        match self.pools[at].actor.take(alarm, now) {
            Wake::Ignore => return,
            Wake::Later(later) => return self.queue.add(later, Event::PoolWake { node, alarm }),
            Wake::Reconcile => {}
        }
        let lease = self.known_lease(at);
        let now_both = self.clocks.now();
        let has_expired = lease
            .as_ref()
            .is_some_and(|lease| lease.expiry.is_expired(now_both));
        self.checks
            .hazard("wakes with an expired lease", u64::from(has_expired));
        let effects = self.feed_pool(at, Input::Wake { lease });
        self.start(at, effects);
        self.check_pool_after_jump(at);
        // Callers learn of the outlook.
        self.news(at);
        if let Some(next) = self.pools[at].machine.next_deadline() {
            let next = self.clocks.micros(next).max(now + 5 * MS);
            if let Some(number) = self.pools[at].actor.arm(next) {
                let alarm = Some(number);
                self.queue.add(next, Event::PoolWake { node, alarm });
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
    pub(super) fn feed_pool(&mut self, at: usize, input: Input) -> Vec<Effect> {
        let effects = self.pools[at].machine.handle(input, self.clocks.now());
        self.pool_effects(at, &effects);
        let mut returned = Vec::new();
        let pool = &mut self.pools[at];
        for effect in &effects {
            let current = pool.current.as_mut();
            match effect {
                Effect::ReturnLease { generation } => {
                    returned.extend(pool.leases.remove(generation))
                }
                Effect::Extend { generation, expiry } => {
                    if let Some(current) = current.filter(|one| one.generation == *generation) {
                        current.expiry = *expiry;
                    }
                }
                Effect::Distrust { generation } | Effect::Trust { generation } => {
                    if let Some(current) = current.filter(|one| one.generation == *generation) {
                        current.is_distrusted = matches!(effect, Effect::Distrust { .. });
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
    fn carry_out(&mut self, at: usize, effect: Effect) -> Option<Effect> {
        let provider = self.pools[at].provider.at;
        match effect {
            Effect::Wake => self.poke_pool(at),
            Effect::Reject { generation } => {
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
            Effect::ReportFailure { .. } => self.checks.hazard("verifications failed", 1),
            Effect::ReportRejected { revision } => {
                self.feed_provider(provider, ProviderInput::Rejected(revision));
            }
            Effect::ReportVerified { revision, account } => {
                self.notify_verified(provider, &revision, &account);
            }
            Effect::Settle { revision } => {
                let name = Arc::clone(&self.pools[at].name);
                if let Some(rotation) = self.open_rotation(provider)
                    && rotation.waits_for(&name, &revision.digest())
                {
                    self.excuse(at);
                }
            }
            Effect::Extend { .. } => self.news(at),
            // Done with the tables, or by whoever fed the input.
            Effect::ReturnLease { .. } | Effect::Distrust { .. } | Effect::Trust { .. } => {}
            Effect::StartAttempt { .. }
            | Effect::Open
            | Effect::Publish(_)
            | Effect::Discard
            | Effect::Probe { .. }
            | Effect::StartDrain { .. }
            | Effect::ReportAbandoned { .. } => return Some(effect),
        }
        None
    }

    fn notify_verified(&mut self, provider: usize, revision: &Revision, account: &Arc<str>) {
        for other in self.subscribers(provider) {
            let input = Input::VerifiedElsewhere {
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
    fn start(&mut self, at: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::StartAttempt {
                    attempt, revision, ..
                } => self.start_attempt(at, attempt, &revision),
                Effect::Probe { generation } => {
                    let node = self.pools[at].node;
                    self.checks.trace.line("probe", node, generation, 0);
                    let takes = self.rng.u64(MS..20 * MS);
                    self.queue
                        .add(self.clocks.mono + takes, Event::Probed { node, generation });
                }
                Effect::StartDrain {
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

    fn start_attempt(&mut self, at: usize, number: u64, revision: &Revision) {
        let provider = self.pools[at].provider.at;
        let facts = self
            .known_lease(at)
            .filter(|lease| lease.revision == *revision);
        let lease = self.providers[provider].current().map(|(lease, _)| lease);
        let (Some(facts), Some(lease)) = (facts, lease) else {
            self.feed_pool(at, Input::Lost { attempt: number });
            return;
        };
        let now = self.clocks.now();
        let taken = ProviderInput::LeaseTaken(lease);
        let _no_effects = self.providers[provider].machine.handle(taken, now);
        self.attempt_starts(at, &facts);
        let truth = self.clocks.truth();
        let (takes, _) = self.db.latency(provider, truth, &mut self.rng);
        let lifetime = self.providers[provider].machine.lifetime();
        let rotation = self.open_rotation(provider);
        let pool = &mut self.pools[at];
        let mut waits = 0;
        let mut permit = None;
        if !pool.admission.is_open() {
            let current = pool
                .current
                .and_then(|one| pool.instances.get(&one.instance));
            let count = current
                .map(|one| Arc::clone(&one.count))
                .unwrap_or_default();
            permit = pool.admission.enter_verification(&count);
            waits = if permit.is_some() { 0 } else { SEC };
        }
        let node = pool.node;
        self.checks
            .trace
            .line("attempt", node, number, secret_of(revision) as u64);
        let began = self.clocks.mono;
        pool.attempt = Some(Attempt {
            number,
            lease,
            facts,
            lifetime,
            rotation,
            permit,
            began,
            opening: None,
        });
        if std::mem::take(&mut self.lose[provider].1) {
            let soon = began + self.rng.u64(..60 * MS);
            self.queue.add(
                soon,
                Event::Lose {
                    provider,
                    pools: true,
                },
            );
        }
        let pool = &mut self.pools[at];
        let hangs = takes > VERIFY_DEADLINE;
        let at = began + waits + takes.min(VERIFY_DEADLINE);
        let losses = pool.losses;
        let event = Event::Verified {
            node,
            losses,
            attempt: number,
            hangs,
        };
        self.queue.add(at, event);
        self.check_connections(node.at);
    }

    pub(super) fn verified(&mut self, node: Node, losses: u32, number: u64, hangs: bool) {
        let at = node.at;
        if !self.pools[at].is_attempt(losses, number) {
            return;
        }
        let Some(attempt) = self.pools[at].attempt.as_mut() else {
            return;
        };
        attempt.permit = None;
        let secret = secret_of(&attempt.facts.revision);
        if let Err(kind) = self.log_in(at, secret, hangs) {
            return self.attempt_failed(at, number, kind);
        }
        self.pools[at].model.verified = Some((number, secret));
        let effects = self.feed_pool(at, Input::Verified { attempt: number });
        if !effects.contains(&Effect::Open) {
            self.checked_again(at, secret);
            self.end_attempt(at);
            self.poke_pool(at);
            return;
        }
        self.open(at, number, secret);
    }

    /// A login of the control plane's own.
    fn log_in(&mut self, at: usize, secret: SecretId, hangs: bool) -> Result<(), ConnectErrorKind> {
        if hangs {
            return Err(ConnectErrorKind::Unreachable);
        }
        let truth = self.clocks.truth();
        let result = self.db.login(secret, truth, &mut self.rng);
        match result {
            Err(ConnectErrorKind::Rejected) => self.login_failed(at, secret),
            Err(_) => self.checks.hazard("logins that failed otherwise", 1),
            Ok(()) => self.login_worked(at, secret),
        }
        result
    }

    fn open(&mut self, at: usize, number: u64, secret: SecretId) {
        let truth = self.clocks.truth();
        let provider = self.pools[at].provider.at;
        let (takes, hangs) = self.db.latency(provider, truth, &mut self.rng);
        let pool = &mut self.pools[at];
        let is_same = pool.current.is_some_and(|current| current.secret == secret);
        let in_place = pool.current.filter(|current| {
            is_same || (!pool.always_replaces && current.old == OldConnections::Keep)
        });
        let (instance, mode, ahead) = match in_place {
            Some(current) => (current.instance, HandoverMode::InPlace, 0),
            None => {
                pool.next_instance += 1;
                pool.instances
                    .insert(pool.next_instance, Instance::default());
                let ahead = match pool.current {
                    _ if pool.admission.has_old() => 0,
                    None => pool.warm,
                    Some(current) if current.is_rejected => 1,
                    Some(_) => pool.warm.max(1).min(pool.overlap.saturating_sub(1)),
                };
                (pool.next_instance, HandoverMode::Replace, ahead)
            }
        };
        if let Some(opened) = pool.instances.get(&instance) {
            opened.count.fetch_add(ahead, Ordering::Relaxed);
        }
        let opening = Opening {
            instance,
            mode,
            ahead,
            tries_out: ahead == 0 && !is_same,
        };
        let works = ahead > 0 || opening.tries_out;
        let (node, losses) = (pool.node, pool.losses);
        if let Some(attempt) = pool.attempt.as_mut() {
            if opening.tries_out && !pool.admission.is_open() {
                let current = pool
                    .current
                    .and_then(|one| pool.instances.get(&one.instance));
                let count = current
                    .map(|one| Arc::clone(&one.count))
                    .unwrap_or_default();
                attempt.permit = pool.admission.enter_verification(&count);
            }
            attempt.opening = Some(opening);
        }
        let takes = match works {
            true if hangs || takes > VERIFY_DEADLINE => VERIFY_DEADLINE,
            true => takes,
            false => 0,
        };
        let opened = Event::Opened {
            node,
            losses,
            attempt: number,
        };
        self.queue.add(self.clocks.mono + takes, opened);
        self.check_connections(at);
    }

    pub(super) fn opened(&mut self, node: Node, losses: u32, number: u64) {
        let at = node.at;
        if !self.pools[at].is_attempt(losses, number) {
            return;
        }
        let Some(attempt) = self.pools[at].attempt.as_mut() else {
            return;
        };
        attempt.permit = None;
        let Some(Opening {
            instance,
            mode,
            ahead,
            tries_out,
        }) = attempt.opening.take()
        else {
            return;
        };
        let facts = attempt.facts.clone();
        let secret = secret_of(&facts.revision);
        let logins = ahead.max(u32::from(tries_out));
        for _ in 0..logins {
            if let Err(kind) = self.log_in(at, secret, false) {
                if mode == HandoverMode::Replace {
                    self.pools[at].instances.remove(&instance);
                }
                return self.attempt_failed(at, number, kind);
            }
        }
        let lifetime = self.pools[at].attempt.as_ref().and_then(|one| one.lifetime);
        let input = Input::Opened {
            attempt: number,
            mode,
            lifetime,
        };
        let old = self.pools[at].current;
        let effects = self.feed_pool(at, input);
        let publication = effects.into_iter().find_map(|effect| match effect {
            Effect::Publish(publication) => Some(publication),
            _ => None,
        });
        let Some(publication) = publication else {
            if mode == HandoverMode::Replace {
                self.pools[at].instances.remove(&instance);
            }
            self.end_attempt(at);
            return self.poke_pool(at);
        };
        let now = self.clocks.now();
        let pool = &mut self.pools[at];
        let Some(attempt) = pool.attempt.take() else {
            return;
        };
        let generation = publication.generation;
        pool.leases.insert(generation, (attempt.lease, secret));
        if publication.after_rejection {
            pool.admission.give_head_start(now.mono());
        }
        if let (Some(replaced), Some(old)) = (publication.replaced, old) {
            let count = pool
                .instances
                .get(&old.instance)
                .map(|one| Arc::clone(&one.count));
            pool.admission
                .begin_drain(replaced, count.unwrap_or_default());
            self.begin_drain(at, old);
        }
        let pool = &mut self.pools[at];
        pool.admission
            .set_server(Arc::from(""), publication.limited);
        // The extension of a lease's expiry between the attempt and now is the machine's to know.
        let expiry = pool
            .machine
            .current()
            .map_or(facts.expiry, |active| active.lease.expiry);
        pool.current = Some(Current {
            generation,
            instance,
            secret,
            expiry,
            old: facts.old_connections,
            is_rejected: false,
            is_distrusted: false,
            since: self.clocks.mono,
        });
        if let Some(opened) = pool.instances.get_mut(&instance) {
            opened.idle.extend((0..ahead).map(|_| secret));
        }
        self.checks
            .trace
            .line("published", node, generation, secret as u64);
        self.published(at, number, secret, old);
        let effects = self.feed_pool(at, Input::StartDrains);
        self.start(at, effects);
        self.news(at);
        let report = HandoverReport {
            pool: Arc::clone(&self.pools[at].name),
            generation,
            mode,
            verify: Duration::ZERO,
            open: Duration::ZERO,
            warm: Duration::ZERO,
            took: Duration::from_micros(self.clocks.mono - attempt.began),
        };
        if let Some(rotation) = &attempt.rotation {
            rotation.handed_over(report, &facts.revision.digest());
        }
        self.feed_pool(at, Input::Reported { attempt: number });
        let provider = self.pools[at].provider.at;
        self.verified_upstream(provider, &facts.revision, &facts.account);
        if let Some(rotation) = &attempt.rotation {
            self.pool_settled(provider, rotation);
        }
        self.poke_pool(at);
        self.check_connections(at);
    }

    fn verified_upstream(&mut self, provider: usize, revision: &Revision, account: &Arc<str>) {
        self.notify_verified(provider, revision, account);
        self.feed_provider(provider, ProviderInput::Verified(revision.clone()));
    }

    fn begin_drain(&mut self, at: usize, old: Current) {
        let drain = Drain {
            instance: old.instance,
            secret: old.secret,
            deadline: None,
            is_overdue: false,
        };
        self.pools[at].drains.insert(old.generation, drain);
    }

    fn end_attempt(&mut self, at: usize) {
        if let Some(attempt) = self.pools[at].attempt.take() {
            self.return_lease(at, attempt.lease);
        }
    }

    fn attempt_failed(&mut self, at: usize, attempt: u64, kind: ConnectErrorKind) {
        self.checks
            .trace
            .line(kind.as_str(), self.pools[at].node, attempt, 0);
        self.feed_pool(at, Input::Failed { attempt, kind });
        self.end_attempt(at);
        self.poke_pool(at);
        self.news(at);
    }

    pub(super) fn probed(&mut self, node: Node, generation: u64) {
        let at = node.at;
        let truth = self.clocks.truth();
        let pool = &mut self.pools[at];
        let current = pool
            .current
            .filter(|one| one.generation == generation && !pool.is_retired);
        let result = match current {
            None => ProbeResult::Unknown,
            Some(current) => {
                let idle = pool
                    .instances
                    .get(&current.instance)
                    .map_or(0, |one| one.idle.len());
                if idle > 0 {
                    // A connection of a dropped role says so, or was ended with it.
                    if truth < self.db.secrets[current.secret].role_ends {
                        ProbeResult::Passed
                    } else {
                        self.db.secrets[current.secret].last_rejected = Some(truth);
                        self.open_window(at, current.secret);
                        ProbeResult::Rejected
                    }
                } else if !pool.admission.is_open() {
                    ProbeResult::Unknown
                } else {
                    match self.log_in(at, current.secret, false) {
                        Ok(()) => ProbeResult::Passed,
                        Err(ConnectErrorKind::Rejected) => ProbeResult::LoginRejected,
                        Err(_) => ProbeResult::Unknown,
                    }
                }
            }
        };
        self.feed_pool(at, Input::Probed { generation, result });
        self.poke_pool(at);
    }

    fn start_drain(&mut self, at: usize, generation: u64, since: u64, deadline: u64) {
        self.drain_starts(at, generation, since, deadline);
        let pool = &mut self.pools[at];
        let Some(drain) = pool.drains.get_mut(&generation) else {
            self.feed_pool(at, Input::Drained { generation });
            return;
        };
        drain.deadline = Some(deadline);
        if let Some(instance) = pool.instances.get_mut(&drain.instance) {
            instance.is_closing = true;
            let idle = std::mem::take(&mut instance.idle).len();
            instance.count.fetch_sub(idle as u32, Ordering::Relaxed);
        }
        let (node, losses) = (pool.node, pool.losses);
        let now = self.clocks.mono;
        for when in [now + MS, deadline.max(now + 2 * MS)] {
            self.queue.add(
                when,
                Event::DrainDeadline {
                    node,
                    losses,
                    generation,
                },
            );
        }
    }

    /// Ends a drain without connections; reports one at its deadline.
    pub(super) fn look_at_drain(&mut self, node: Node, losses: u32, generation: u64) {
        let (at, now) = (node.at, self.clocks.mono);
        let pool = &mut self.pools[at];
        if pool.losses != losses {
            return;
        }
        let Some(drain) = pool.drains.get_mut(&generation) else {
            return;
        };
        let Some(deadline) = drain.deadline else {
            return;
        };
        let instance = drain.instance;
        let first = now >= deadline && !std::mem::replace(&mut drain.is_overdue, now >= deadline);
        let connections = pool.count(instance);
        if connections > 0 {
            if first {
                let effects = self.feed_pool(
                    at,
                    Input::DrainOverdue {
                        generation,
                        connections,
                    },
                );
                self.drain_overdue(at, generation, &effects);
                self.poke_pool(at);
            }
            return;
        }
        pool.instances.remove(&instance);
        pool.drains.remove(&generation);
        pool.admission.end_drain(generation);
        self.checks.trace.line("drained", node, generation, 0);
        self.checks.hazard("generations drained", 1);
        self.feed_pool(at, Input::Drained { generation });
        self.poke_pool(at);
        self.news(at);
        self.leave(at);
    }

    /// A connection of this instance was closed.
    pub(super) fn connection_closed(&mut self, at: usize, instance: u64) {
        let pool = &self.pools[at];
        if let Some(one) = pool.instances.get(&instance) {
            one.count.fetch_sub(1, Ordering::Relaxed);
        }
        let drain = pool
            .drains
            .iter()
            .find(|(_, drain)| drain.instance == instance);
        if let Some((&generation, _)) = drain {
            self.look_at_drain(pool.node, pool.losses, generation);
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
                Input::Lost {
                    attempt: attempt.number,
                },
            );
            self.return_lease(at, attempt.lease);
        }
        for generation in drains {
            self.feed_pool(at, Input::DrainLost { generation });
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
        let effects = self.feed_pool(at, Input::Retire);
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
            self.poke_pool(at);
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
