//! Decides everything about one pool: when a lease is verified, published, drained and returned.
//!
//! The machine is a value without I/O, clock, task or lock. The driver feeds it inputs, carries out
//! the effects, and keeps lease guards, pools and spans by generation. The machine is kept in the
//! pool's slot, so that it survives a crash of the actor.

mod active;
mod attempt;
mod budget;
mod callers;
mod drains;
mod input;
#[cfg(test)]
mod laws;
mod rehearsal;
mod roll_back;
#[cfg(test)]
mod tests;
mod view;
mod wake;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) use input::{LeaseFacts, PoolEffect, PoolInput, ProbeResult};
pub(crate) use roll_back::NoRollBack;

use crate::clock::Timestamp;
use crate::error::ConnectErrorKind;
use crate::lease::Revision;
use crate::pool::admission::logins_at_once;
use active::{Active, Drain};
use budget::LoginBudget;
use input::Purpose;
use roll_back::RollBack;

/// Service to callers.
#[derive(Debug)]
enum Service {
    /// Nothing was verified yet. Ends with the first publication, or with `Closed`.
    Vacant,
    /// A generation is current. Ends with the next publication, or with `Closed`.
    Active(Active),
    /// The pool is removed, or the supervisor shuts down: nothing new starts. Never ends.
    Closed,
}

/// The attempt that runs; there is one at most. `Failed` or `Lost` ends it at any step.
#[derive(Debug)]
struct Attempt {
    number: u64,
    lease: LeaseFacts,
    purpose: Purpose,
    step: Step,
    began: Instant,
    /// Rejected logins beyond the first.
    more_rejected: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Ends with `Verified`. `Opening` follows, or no attempt if it was a check.
    Verifying,
    /// Ends with `Opened`. `Reporting` follows, or no attempt if the pool is closed.
    Opening,
    /// Published. Ends with `Reported`; until then, its rotation waits for the handover's report.
    Reporting,
}

/// Pause after a verification that failed without a rejection.
#[derive(Debug)]
struct Retry {
    revision: Revision,
    account: Arc<str>,
    at: Instant,
    /// The earliest time at which a login elsewhere causes a verification: other pools may log in
    /// all the time while this one cannot.
    earliest: Instant,
    failures: u32,
}

/// The state of one pool.
#[derive(Debug)]
pub(crate) struct PoolMachine {
    /// The provider's current lease, as of the last wake. During a rollback, the previous one.
    lease: Option<LeaseFacts>,
    roll_back: Option<RollBack>,
    service: Service,
    /// Number of the current generation's callers that may log in at a time, and until when.
    /// `None`: only the pool's own limit applies.
    limited: Option<(u32, Instant)>,
    /// That own limit.
    logins_at_once: u32,
    attempt: Option<Attempt>,
    /// Lease with which a rehearsal logs in.
    rehearsal: Option<LeaseFacts>,
    retry: Option<Retry>,
    /// Time at which the active lease is verified again although it is accepted.
    check: Option<Instant>,
    last_check: Option<Instant>,
    /// Generation whose connection is being probed.
    probing: Option<u64>,
    drains: Vec<Drain>,
    /// The latest generations before the current one. A login's result may arrive after an update
    /// in place, or after the last connection of a drain has closed.
    previous: VecDeque<(u64, LeaseFacts)>,
    /// The lease that was served before the current one.
    previous_lease: Option<LeaseFacts>,
    budget: LoginBudget,
    /// Kind of the last error, until a verification works.
    failure: Option<ConnectErrorKind>,
    /// Time at which the machine is to be woken without an input.
    deadline: Option<Instant>,
    last_wake: Timestamp,
    /// Numbers given to attempts and to generations so far.
    attempts: u64,
    generations: u64,
    /// Time that connections have to close if the lease does not end them.
    drain_timeout: Duration,
    random: fastrand::Rng,
    effects: Vec<PoolEffect>,
}

impl PoolMachine {
    /// Creates the machine of a pool. `seed` decides the jitter of pauses.
    pub(crate) fn new(
        max_connections: u32,
        drain_timeout: Duration,
        seed: u64,
        now: Timestamp,
    ) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        Self {
            lease: None,
            roll_back: None,
            service: Service::Vacant,
            limited: None,
            logins_at_once: logins_at_once(max_connections),
            attempt: None,
            rehearsal: None,
            retry: None,
            check: None,
            last_check: None,
            probing: None,
            drains: Vec::new(),
            previous: VecDeque::new(),
            previous_lease: None,
            budget: LoginBudget::new(max_connections, random.fork()),
            failure: None,
            deadline: None,
            last_wake: now,
            attempts: 0,
            generations: 0,
            drain_timeout,
            random,
            effects: Vec::new(),
        }
    }

    /// Handles an input. Returns the effects, to be carried out in this order.
    pub(crate) fn handle(&mut self, input: PoolInput, now: Timestamp) -> Vec<PoolEffect> {
        match input {
            PoolInput::Wake { lease } => self.wake(lease, now),
            PoolInput::Verified { attempt } => self.verified(attempt, now),
            PoolInput::Opened {
                attempt,
                mode,
                lifetime,
            } => self.opened(attempt, mode, lifetime, now),
            PoolInput::Reported { attempt } | PoolInput::Lost { attempt } => {
                if self.take_attempt(attempt).is_some() {
                    self.effects.push(PoolEffect::Wake);
                }
            }
            PoolInput::MoreRejected { attempt, logins } => {
                if let Some(running) = self.attempt.as_mut()
                    && running.number == attempt
                {
                    running.more_rejected = logins;
                }
            }
            PoolInput::Failed { attempt, kind } => self.failed(attempt, kind, now),
            PoolInput::CallerRejected { generation } => self.rejected(generation),
            PoolInput::LoginRejected { generation } => self.login_rejected(generation, now.mono()),
            PoolInput::LoginWorked { generation } => {
                let active = self.active(generation);
                let notify = active.map(|active| PoolEffect::notify_pools_of_login(&active.lease));
                self.effects.extend(notify);
            }
            PoolInput::LoginUnknown { generation } => {
                self.login_unknown(generation, now.mono());
            }
            PoolInput::VerifiedElsewhere { revision, account } => {
                self.verified_elsewhere(&revision, &account, now.mono());
            }
            PoolInput::Unverified { generation } => {
                if let Some(active) = self.active_mut(generation) {
                    active.unverified = Some(now.mono());
                    self.effects
                        .extend([PoolEffect::ProbeBeforeUse { generation }, PoolEffect::Wake]);
                }
            }
            PoolInput::Probed { generation, result } => {
                self.probed(generation, result, now.mono());
            }
            PoolInput::RehearsalBegins { lease } => self.rehearsal = Some(lease),
            PoolInput::RehearsalEnded { rejected } => self.rehearsal_ended(rejected, now.mono()),
            PoolInput::RollBack { lease, until } => self.begin_roll_back(lease, until),
            PoolInput::AbandonRollBack => self.abandon_roll_back(),
            PoolInput::Hold(hold) => self.note_hold(hold),
            PoolInput::StartDrains => self.start_drains(),
            PoolInput::DrainOverdue {
                generation,
                connections,
            } => self.drain_overdue(generation, connections),
            PoolInput::DrainLost { generation } => self.drain_lost(generation),
            PoolInput::Drained { generation } => self.drained(generation),
            PoolInput::Close => self.close(now),
        }
        self.limit_logins(now.mono());
        self.arm(now);
        std::mem::take(&mut self.effects)
    }

    /// Returns when to wake the machine without an input. Not later than now if something is due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Sets the deadline: the next verification or the next probe.
    fn arm(&mut self, now: Timestamp) {
        let verification = self
            .next_verification(now)
            .filter(|_| self.attempt.is_none())
            .map(|(at, _)| at);
        let others = [self.probe_at(now), self.roll_back_ends_at(now)];
        self.deadline = verification
            .into_iter()
            .chain(others.into_iter().flatten())
            .min();
    }

    /// Returns when the provider's current lease is verified next, and the purpose.
    fn next_verification(&self, now: Timestamp) -> Option<(Instant, Purpose)> {
        let under_way = self.logins_under_way(&self.usable_lease(now)?.account);
        self.next_verification_beside(under_way, now)
    }

    /// Returns the same without the login of a rehearsal, whose end wakes the pool.
    fn next_verification_after_rehearsal(&self, now: Timestamp) -> Option<(Instant, Purpose)> {
        let under_way = self.attempts_under_way(&self.usable_lease(now)?.account);
        self.next_verification_beside(under_way, now)
    }

    fn next_verification_beside(
        &self,
        under_way: u32,
        now: Timestamp,
    ) -> Option<(Instant, Purpose)> {
        let lease = self.usable_lease(now)?;
        let (from, purpose) = match &self.service {
            Service::Closed => return None,
            Service::Active(active)
                if active.is_accepted() && active.lease.revision == lease.revision =>
            {
                (self.check?, Purpose::Check)
            }
            Service::Vacant | Service::Active(_) => (now.mono(), Purpose::HandOver),
        };
        let at = self.budget.next_at(lease, under_way, now.mono());
        let mut at = at.max(from);
        if let Some(retry) = self.retry_of(&lease.revision) {
            at = at.max(retry.at);
        }
        Some((at, purpose))
    }

    /// Returns the provider's lease, unless it has expired.
    fn usable_lease(&self, now: Timestamp) -> Option<&LeaseFacts> {
        self.lease
            .as_ref()
            .filter(|lease| !lease.expiry.is_expired(now))
    }

    fn retry_of(&self, revision: &Revision) -> Option<&Retry> {
        self.retry
            .as_ref()
            .filter(|retry| retry.revision == *revision)
    }

    fn probe_at(&self, now: Timestamp) -> Option<Instant> {
        match &self.service {
            Service::Active(active) if self.probing.is_none() => active.probe_at(now),
            _ => None,
        }
    }

    fn close(&mut self, now: Timestamp) {
        self.roll_back_failed();
        if let Service::Active(active) = std::mem::replace(&mut self.service, Service::Closed) {
            self.begin_drain(active, now);
        }
        self.start_drains();
    }

    /// Returns the current generation, if it has this number.
    fn active(&self, generation: u64) -> Option<&Active> {
        self.current()
            .filter(|active| active.generation == generation)
    }

    fn active_mut(&mut self, generation: u64) -> Option<&mut Active> {
        match &mut self.service {
            Service::Active(active) if active.generation == generation => Some(active),
            _ => None,
        }
    }
}
