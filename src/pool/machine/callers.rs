//! Results of callers, other pools and probes for the current generation.

use std::time::{Duration, Instant};

use super::active::{Active, Standing};
use super::input::{PoolEffect, ProbeResult};
use super::{PoolMachine, Service};
use crate::error::ConnectErrorKind;
use crate::lease::Revision;

/// Shortest time from a verification of the active lease to a check after a login of unknown
/// result. Such a login may be rejected after its caller left.
const UNKNOWN_EVERY: Duration = Duration::from_secs(10);

impl PoolMachine {
    /// Handles a rejection of the current generation by the database.
    pub(super) fn rejected(&mut self, generation: u64) {
        let Some(active) = self.active_mut(generation) else {
            return;
        };
        if active.is_accepted() {
            active.standing = Standing::NewlyRejected {
                by_verification: false,
            };
            self.failure = Some(ConnectErrorKind::Rejected);
            self.effects.push(PoolEffect::Reject { generation });
        }
        self.effects.push(PoolEffect::Wake);
    }

    /// Handles a rejected login, which is counted for the current generation or one before it.
    pub(super) fn login_rejected(&mut self, generation: u64, now: Instant) {
        let active = self.active(generation).map(|active| &active.lease);
        let mut drains = self.drains.iter();
        let draining = drains.find(|drain| drain.generation == generation);
        let mut previous = self.previous.iter();
        let previous = previous.find(|(number, _)| *number == generation);
        let lease = active
            .or(draining.map(|drain| &drain.lease))
            .or(previous.map(|(_, lease)| lease));
        if let Some(lease) = lease.cloned() {
            self.budget.caller_rejected(&lease, now);
        }
        self.rejected(generation);
    }

    /// Lets fewer callers log in at a time, if logins since the publication have left less of the
    /// budget. The limit is raised by the next publication only.
    pub(super) fn limit_logins(&mut self, now: Instant) {
        let Some(active) = self.current().filter(|active| active.is_accepted()) else {
            return;
        };
        let account = &active.lease.account;
        let under_way = self.logins_under_way(account);
        let Some((width, until)) = self.budget.logins_at_once(account, under_way, now) else {
            return;
        };
        let before = self.limited.filter(|(_, until)| now < *until);
        if width < before.map_or(self.logins_at_once, |(width, _)| width) {
            self.limited = Some((width, until));
            self.effects.push(PoolEffect::LimitLogins { width, until });
        }
    }

    pub(super) fn login_unknown(&mut self, generation: u64, now: Instant) {
        if self.check.is_none()
            && let Some(active) = self.active(generation)
            && active.is_accepted()
        {
            let verified = active.verified.mono();
            let last = self.last_check.map_or(verified, |last| last.max(verified));
            self.check = Some(now.max(last + UNKNOWN_EVERY));
            self.effects.push(PoolEffect::Wake);
        }
    }

    pub(super) fn verified_elsewhere(&mut self, revision: &Revision, account: &str, now: Instant) {
        if let Service::Active(active) = &self.service
            && !active.is_rejected()
            && active.lease.revision == *revision
        {
            return;
        }
        let retry = self.retry.as_mut().filter(|retry| {
            retry.revision == *revision && *retry.account == *account && retry.at > retry.earliest
        });
        let is_earlier = retry.map(|retry| retry.at = retry.earliest).is_some();
        // For a lease that the provider does not have yet, a wake follows.
        let is_current = (self.lease.as_ref()).is_some_and(|lease| lease.revision == *revision);
        if (self.budget.worked_elsewhere(account, revision, now) && is_current) || is_earlier {
            self.effects.push(PoolEffect::Wake);
        }
    }

    pub(super) fn probed(&mut self, generation: u64, result: ProbeResult, now: Instant) {
        if self
            .probing
            .take_if(|probed| *probed == generation)
            .is_none()
        {
            return;
        }
        match result {
            ProbeResult::Rejected => self.rejected(generation),
            ProbeResult::LoginRejected => self.login_rejected(generation, now),
            ProbeResult::Passed => {
                let active = self.active_mut(generation);
                if active.is_some_and(Active::probe_passed) {
                    self.effects.push(PoolEffect::StopProbing { generation });
                }
            }
            ProbeResult::Unknown => {}
        }
    }
}
