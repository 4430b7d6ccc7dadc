//! Steps of the current attempt: verified, opened, published, or failed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::active::{Active, Standing};
use super::budget::Role;
use super::input::{PoolEffect, Publication, Purpose};
use super::{Attempt, PoolMachine, Retry, Service, Step};
use crate::clock::Timestamp;
use crate::error::ConnectErrorKind;
use crate::provider::schedule;
use crate::report::HandoverMode;

/// Longest pause between verifications that fail without a rejection.
const MAX_RETRY: Duration = Duration::from_secs(15);
/// Pause between verifications while the server is unreachable and no caller logs in. No caller
/// detects that the server is back, and such a verification is no failed login if it ended within
/// a second. The server may reject a slower one after the verify deadline. With the jitter the
/// pause is below a second.
const UNREACHABLE_RETRY: Duration = Duration::from_millis(900);
/// Random share added to that pause.
const RETRY_JITTER: f64 = 0.1;
/// Number of rejected verifications of a candidate after which the rejection is reported although
/// another lease is accepted. Applies where the active lease ends its connections. Fewer may mean a
/// replica that does not have the user yet.
const REPORT_AFTER: usize = 4;

/// Number of previous generations that are remembered.
const MAX_PREVIOUS: usize = 4;

impl PoolMachine {
    pub(super) fn verified(&mut self, attempt: u64, now: Timestamp) {
        let is_left_out = self.ends_for_rollback();
        let Some(running) = self.attempt_at(attempt, Step::Verifying) else {
            return;
        };
        if running.purpose == Purpose::HandOver && !is_left_out {
            running.step = Step::Opening;
            self.effects.push(PoolEffect::Open);
            return;
        }
        let lease = running.lease.clone();
        self.attempt = None;
        (self.retry, self.failure) = (None, None);
        if let Service::Active(active) = &mut self.service {
            if !is_left_out {
                active.verified = now;
                if active.standing == Standing::Unexplained {
                    active.standing = Standing::Accepted;
                }
            }
            self.budget.worked(&lease, now.mono());
        }
        self.effects.push(PoolEffect::notify_pools_of_login(&lease));
    }

    pub(super) fn opened(
        &mut self,
        attempt: u64,
        mode: HandoverMode,
        lifetime: Option<Duration>,
        now: Timestamp,
    ) {
        // A pool that was updated in place logs in with the lease already.
        let is_left_out = mode == HandoverMode::Replace && self.ends_for_rollback();
        let Some(running) = self.attempt_at(attempt, Step::Opening) else {
            return;
        };
        running.step = Step::Reporting;
        let lease = running.lease.clone();
        if is_left_out || matches!(self.service, Service::Closed) {
            self.attempt = None;
            return;
        }
        (self.retry, self.failure) = (None, None);
        self.roll_back_published(&lease.revision);
        let under_way = self.logins_under_way(&lease.account);
        let limited = self
            .budget
            .logins_at_once(&lease.account, under_way, now.mono());
        self.budget.worked(&lease, now.mono());
        self.generations += 1;
        let next = Active::new(self.generations, lease.clone(), lifetime, now);
        self.limited = limited;
        let mut publication = Publication {
            generation: next.generation,
            replaced: None,
            after_rejection: false,
            limited,
        };
        let mut returned = None;
        if let Service::Active(old) = std::mem::replace(&mut self.service, Service::Active(next)) {
            publication.after_rejection = !old.is_accepted();
            if old.lease.revision != lease.revision {
                self.budget.superseded_by(&lease);
                self.previous_lease = Some(old.lease.clone());
            }
            self.previous.truncate(MAX_PREVIOUS - 1);
            self.previous
                .push_front((old.generation, old.lease.clone()));
            match mode {
                HandoverMode::Replace => {
                    publication.replaced = Some(old.generation);
                    self.begin_drain(old, now);
                }
                // Its connections remain usable without the old lease.
                HandoverMode::InPlace => {
                    returned = Some(PoolEffect::ReturnLease {
                        generation: old.generation,
                    });
                }
            }
        }
        self.effects.push(PoolEffect::Publish(publication));
        self.effects.extend(returned);
    }

    pub(super) fn failed(&mut self, attempt: u64, kind: ConnectErrorKind, now: Timestamp) {
        let Some(candidate) = self
            .take_attempt(attempt)
            .filter(|candidate| candidate.step != Step::Reporting)
        else {
            // The generation is published.
            return;
        };
        self.failure = Some(kind);
        let rolls_back = self.rolls_back_to(&candidate.lease.revision);
        if rolls_back {
            self.roll_back_failed();
        }
        let mut is_early = false;
        if let Service::Active(active) = &mut self.service {
            // An unconfirmed rejection waits for one more verification only.
            if active.lease.revision == candidate.lease.revision
                && active.standing == Standing::Unconfirmed
            {
                active.standing = Standing::Rejected;
            }
            is_early = kind == ConnectErrorKind::Rejected
                && candidate.purpose == Purpose::HandOver
                && !rolls_back
                && active.is_accepted();
        }
        self.effects.push(PoolEffect::ReportFailure {
            revision: candidate.lease.revision.clone(),
            is_early,
        });
        if kind == ConnectErrorKind::Rejected {
            self.verification_rejected(&candidate, now.mono());
        } else {
            self.verification_failed(&candidate, kind, now);
        }
    }

    fn attempt_at(&mut self, number: u64, step: Step) -> Option<&mut Attempt> {
        self.attempt
            .as_mut()
            .filter(|running| running.number == number && running.step == step)
    }

    pub(super) fn take_attempt(&mut self, number: u64) -> Option<Attempt> {
        self.attempt.take_if(|running| running.number == number)
    }

    /// Schedules another verification after one that failed without a rejection.
    fn verification_failed(&mut self, candidate: &Attempt, kind: ConnectErrorKind, now: Timestamp) {
        let callers_log_in = matches!(&self.service, Service::Active(active)
            if !active.is_rejected() && !active.lease.expiry.is_expired(now));
        let now = now.mono();
        let was_slow = now.saturating_duration_since(candidate.began) >= schedule::MIN_INTERVAL;
        let failures = self
            .retry_of(&candidate.lease.revision)
            .map_or(1, |retry| retry.failures.saturating_add(1));
        let pause = match kind {
            // Needs a correction by an operator.
            ConnectErrorKind::Misconfigured => MAX_RETRY,
            ConnectErrorKind::Unreachable if !callers_log_in && !was_slow => UNREACHABLE_RETRY,
            _ => schedule::back_off(schedule::MIN_INTERVAL, MAX_RETRY, failures),
        };
        let at = now + pause.mul_f64(1.0 + RETRY_JITTER * self.random.f64());
        self.retry = Some(Retry {
            revision: candidate.lease.revision.clone(),
            account: Arc::clone(&candidate.lease.account),
            at,
            earliest: match kind {
                ConnectErrorKind::Misconfigured => at,
                _ => at.min(now + schedule::MIN_INTERVAL),
            },
            failures,
        });
        if candidate.purpose == Purpose::HandOver {
            return;
        }
        // An unreachable database is no evidence against the active lease.
        self.check = Some(now);
        if let Service::Active(active) = &mut self.service
            && active.standing == Standing::Accepted
            && matches!(
                kind,
                ConnectErrorKind::Other | ConnectErrorKind::Misconfigured
            )
        {
            active.standing = Standing::Unexplained;
        }
    }

    /// Counts a rejected verification, and decides what is reported to the provider.
    fn verification_rejected(&mut self, candidate: &Attempt, now: Instant) {
        let lease = &candidate.lease;
        let role = match &self.service {
            Service::Active(active) if active.lease.revision == lease.revision => Role::Active,
            Service::Active(_) => Role::Candidate,
            Service::Vacant | Service::Closed => Role::First,
        };
        self.budget.verification_rejected(lease, role, now);
        for _ in 0..candidate.more_rejected {
            self.budget.caller_rejected(lease, now);
        }
        match &mut self.service {
            // Nothing is fetched for a pool that is closed.
            Service::Closed => return,
            Service::Active(active) if role == Role::Candidate => {
                if active.is_rejected() {
                    let report = PoolEffect::report_rejected(&active.lease);
                    self.effects.push(report);
                } else if !active.ends_its_connections()
                    || self.budget.rejected_in_a_row(lease) < REPORT_AFTER
                {
                    // It is verified again later, without a fetch. But while the active lease
                    // expires, the provider must not renew a rejected candidate forever.
                    return;
                }
            }
            Service::Active(active) => {
                let generation = active.generation;
                if active.is_accepted() {
                    self.effects.push(PoolEffect::Reject { generation });
                }
                if !active.is_rejected() {
                    active.standing = Standing::NewlyRejected {
                        by_verification: true,
                    };
                }
            }
            Service::Vacant => {}
        }
        self.effects.push(PoolEffect::report_rejected(lease));
    }
}
