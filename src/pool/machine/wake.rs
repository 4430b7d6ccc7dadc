//! A wake: compares the pool with the provider's lease, and starts what is due.

use std::time::{Duration, Instant};

use super::active::Standing;
use super::input::{LeaseFacts, PoolEffect, Purpose};
use super::{Attempt, PoolMachine, Service, Step};
use crate::clock::Timestamp;

/// A clock jump of more than this causes a check of the active lease.
const JUMP: Duration = Duration::from_secs(60);

/// Longest wait for the verification of an unconfirmed rejection. After a longer one, the rejection
/// is reported.
const CONFIRM_WITHIN: Duration = Duration::from_secs(1);

impl PoolMachine {
    pub(super) fn wake(&mut self, lease: Option<LeaseFacts>, now: Timestamp) {
        self.lease = lease;
        if now.skew_since(&self.last_wake) > JUMP {
            self.check = Some(now.mono());
        }
        self.last_wake = now;
        self.start_drains();
        self.confirm_rejection(now);
        self.apply_roll_back(now);
        let lease = self.usable_lease(now).cloned();
        if let Some(lease) = &lease {
            self.compare_with_provider(lease, now);
        }
        // After the comparison, because an expired lease is not probed until it is extended.
        if self.probe_at(now).is_some_and(|at| at <= now.mono())
            && let Service::Active(active) = &mut self.service
        {
            let generation = active.generation;
            active.last_probe = Some(now.mono());
            self.probing = Some(generation);
            self.effects.push(PoolEffect::Probe { generation });
        }
        if let (None, Some((at, purpose)), Some(lease)) =
            (&self.attempt, self.next_verification(now), lease)
            && at <= now.mono()
        {
            self.start_attempt(lease, purpose, now.mono());
        }
    }

    /// Decides whether a rejection since the last wake is confirmed, and schedules verifications.
    fn confirm_rejection(&mut self, now: Timestamp) {
        let Service::Active(active) = &mut self.service else {
            return;
        };
        let Some(standing) = active.take_new_rejection(now) else {
            return;
        };
        self.budget.rejected(&active.lease, now.mono());
        if standing == Standing::Unconfirmed {
            self.budget.retry_now(&active.lease, now.mono());
        }
        // The database may accept another lease by now.
        if let Some(lease) = &self.lease
            && lease.revision != active.lease.revision
        {
            self.budget.retry_now(lease, now.mono());
            self.retry = None;
        }
    }

    /// Compares the active lease with the provider's current one.
    fn compare_with_provider(&mut self, lease: &LeaseFacts, now: Timestamp) {
        let is_late = self.attempt.is_none()
            && self
                .next_verification_after_rehearsal(now)
                .is_none_or(|(at, _)| at > now.mono() + CONFIRM_WITHIN);
        let Service::Active(active) = &mut self.service else {
            return;
        };
        let is_current = active.lease.revision == lease.revision;
        // A lease with an unconfirmed rejection is verified again first, if that is possible soon.
        if active.standing == Standing::Unconfirmed && is_late {
            active.standing = Standing::Rejected;
        }
        if active.standing == Standing::Rejected
            || (active.standing == Standing::Unconfirmed && !is_current)
        {
            self.effects
                .push(PoolEffect::report_rejected(&active.lease));
        }
        if !is_current {
            return;
        }
        if active.lease.expiry != lease.expiry {
            active.lease.expiry = lease.expiry;
            active.lease.connection_expiry = lease.connection_expiry;
            active.lifetime = lease.expiry.remaining(now);
            self.effects.push(PoolEffect::Extend {
                generation: active.generation,
                expiry: lease.expiry,
            });
        }
        if !active.is_accepted() {
            return;
        }
        if self.attempt.is_none()
            && active.standing == Standing::Accepted
            && self.check.is_none_or(|at| at > now.mono())
        {
            // A failure of another lease no longer matters.
            (self.failure, self.retry) = (None, None);
        }
        // The rotation's report must include the handover first.
        let running = self.attempt.as_ref();
        if running.is_none_or(|running| running.step != Step::Reporting) {
            self.effects.push(PoolEffect::ReportServing {
                revision: lease.revision.clone(),
            });
        }
    }

    fn start_attempt(&mut self, lease: LeaseFacts, purpose: Purpose, now: Instant) {
        self.check = None;
        if purpose == Purpose::Check {
            self.last_check = Some(now);
        }
        self.attempts += 1;
        self.effects.push(PoolEffect::StartAttempt {
            attempt: self.attempts,
            revision: lease.revision.clone(),
            purpose,
        });
        self.attempt = Some(Attempt {
            number: self.attempts,
            lease,
            purpose,
            step: Step::Verifying,
            began: now,
            more_rejected: 0,
        });
    }
}
