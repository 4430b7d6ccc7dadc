//! Read access to the machine, for the rest of the library.

use std::time::{Duration, Instant};

use super::{Closing, Facts, LeaseId, LeaseState, Offer, ProviderMachine, RotationId, Timer};
use crate::clock::{Timestamp, rfc3339};
use crate::error::{ProviderError, ProviderErrorKind};
use crate::expiry::Expiry;
use crate::lease::Revision;
use crate::next_attempt::NextAttempt;
use crate::provider::fetched::no_current_lease;

impl ProviderMachine {
    pub(crate) fn current(&self) -> Option<(LeaseId, &Facts)> {
        self.leases
            .current()
            .map(|(lease, current)| (lease, &current.facts))
    }

    /// Returns the lease of this revision, if it is current or not released yet, and its time to
    /// live when it was obtained.
    pub(crate) fn unreleased_with(
        &self,
        revision: &Revision,
    ) -> Option<(LeaseId, Option<Duration>)> {
        let (lease, record) = self.leases.unreleased_with(revision)?;
        Some((lease, record.lifetime))
    }

    /// Returns the expiry of the lease whose revision has this digest, unless it is released.
    pub(crate) fn expiry_of(&self, digest: &str) -> Option<Expiry> {
        self.leases.expiry_of(digest)
    }

    /// Returns the time to live of the current lease when it was obtained; `None` if it does not
    /// expire.
    pub(crate) fn lifetime(&self) -> Option<Duration> {
        self.leases
            .current()
            .and_then(|(_, current)| current.lifetime)
    }

    /// Returns whether the database rejects the current lease. A rejection lasts until a login with
    /// the lease succeeds, even after its exclusion. A lease that becomes current again during its
    /// exclusion is rejected.
    pub(crate) fn is_rejected(&self, now: Instant) -> bool {
        self.leases.current().is_some_and(|(_, current)| {
            self.exclusions
                .is_rejected(&current.facts.revision, current.since, now)
        })
    }

    /// Returns whether a fetch runs that is within its deadline, a rehearsal's included.
    pub(crate) fn is_fetching(&self) -> bool {
        self.running.is_some() || self.rehearsals.is_fetching()
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.phase != Closing::Open
    }

    pub(crate) fn fetches(&self) -> u64 {
        self.fetches
    }

    /// Returns when the fetches that are past their deadline began, except that of a rehearsal.
    pub(crate) fn hanging(&self) -> impl ExactSizeIterator<Item = &Timestamp> {
        self.hanging.values()
    }

    /// Returns the error of the last fetch; `None` after one that succeeded.
    pub(crate) fn last_error(&self) -> Option<&ProviderError> {
        self.last_error.as_ref()
    }

    /// Returns how many leases are queued or being released.
    pub(crate) fn unreleased(&self) -> usize {
        self.leases.in_queue().count()
    }

    /// Returns how many of them are kept, and not due yet.
    pub(crate) fn kept(&self, now: Instant) -> usize {
        let is_kept = |(timer, at): &(Timer, Instant)| match timer {
            Timer::Release(lease) => *at > now && self.leases.is_first_attempt(*lease),
            _ => false,
        };
        self.timers.iter().filter(is_kept).count()
    }

    pub(crate) fn is_releasing(&self) -> bool {
        self.leases
            .in_queue()
            .any(|record| matches!(record.state, LeaseState::Releasing { .. }))
    }

    /// Returns the rotation that a handover now belongs to. A fetch's own rotation counts only
    /// while the current lease is rejected.
    pub(crate) fn rotation(&self, now: Instant) -> Option<RotationId> {
        self.handing_over
            .or(self.fetching.filter(|_| self.is_rejected(now)))
    }

    /// Returns when the next fetch begins, if one is due.
    pub(crate) fn next_fetch(&self) -> Option<Instant> {
        let due = self
            .timers
            .iter()
            .filter(|(timer, _)| timer.is_for_a_fetch());
        due.filter_map(|(timer, at)| self.due_at(timer, at)).min()
    }

    /// Returns when the next fetch is planned, even while one runs.
    pub(crate) fn next_planned_fetch(&self) -> Option<Instant> {
        let refresh = self.timers.get(Timer::Refresh).filter(|_| !self.is_held());
        refresh.into_iter().chain(self.next_fetch()).min()
    }

    /// Returns whether a fetch runs that may help callers, or when the next one begins. A
    /// rehearsal's does not help them.
    pub(crate) fn next_attempt(&self, now: Instant) -> NextAttempt {
        // A fetch that began before a hold may move the lease's expiry, but returns no other lease.
        if self.running.is_some() && !(self.is_held() && self.is_rejected(now)) {
            return NextAttempt::Running;
        }
        let is_permanent = |error: &ProviderError| !error.is_transient();
        match self.next_fetch() {
            _ if self.is_held() => NextAttempt::Never,
            Some(at) if at <= now => NextAttempt::Running,
            _ if self.last_error.as_ref().is_some_and(is_permanent) => NextAttempt::Never,
            Some(at) => NextAttempt::Due(at),
            None => NextAttempt::Never,
        }
    }

    /// Returns the offer, or an error if its lease has expired or there is none to renew.
    pub(crate) fn reject_expired(
        &self,
        offer: Offer,
        now: Timestamp,
    ) -> Result<Offer, ProviderError> {
        let current = self.current().map(|(_, facts)| facts);
        let (facts, expiry) = match (&offer, current) {
            (Offer::New(facts), _) => (facts, facts.expiry),
            (Offer::Renewed(expiry), Some(current)) => (current, *expiry),
            (Offer::Unchanged, Some(current)) => (current, current.expiry),
            (Offer::Renewed(_), None) => return Err(no_current_lease("Renewed")),
            (Offer::Unchanged, None) => return Err(no_current_lease("Unchanged")),
        };
        if !expiry.is_expired(now) {
            return Ok(offer);
        }
        let expired = expiry.wall().map(rfc3339).unwrap_or_default();
        Err(ProviderError::new(
            ProviderErrorKind::ExpiredLease,
            format!(
                "the returned lease {} expired at {expired}; return one that has not expired, or \
                 check this machine's clock",
                facts.revision
            ),
        ))
    }
}
