//! Results of logins with a lease: rejected or verified.

use std::time::Instant;

use super::{LoginEvidence, ProviderMachine, Timer};
use crate::lease::Revision;
use crate::report::RotationOutcome;

impl ProviderMachine {
    pub(super) fn rejected(&mut self, revision: &Revision, now: Instant) {
        // A verified revision is now rejected, so the database has changed. It may accept revisions
        // again that it rejected before (a rollback).
        if let Some((_, since)) = self
            .verified_since
            .take_if(|(verified, _)| verified == revision)
        {
            self.exclusions.lift_older(since, now);
        }
        let current = self
            .leases
            .current()
            .map(|(_, current)| &current.facts.revision);
        let is_current = current == Some(revision);
        let is_new = self.exclusions.reject(revision, current, now);
        if !is_current {
            return;
        }
        self.bucket.forfeit(now);
        if is_new {
            self.timers.set_unless_set(Timer::Rejected, now);
            if let Some(running) = &mut self.running {
                running.evidence = LoginEvidence::Rejected;
            }
        }
    }

    pub(super) fn verified(&mut self, revision: &Revision, now: Instant) {
        self.exclusions.clear(revision);
        if self
            .verified_since
            .as_ref()
            .is_none_or(|(verified, _)| verified != revision)
        {
            self.verified_since = Some((revision.clone(), now));
        }
        // A new revision refills the bucket when it is verified, not when it is adopted. Otherwise
        // a backend with a new credential for each fetch would refill it without end.
        if self.leases.verified(revision) && self.leases.is_current(revision) {
            self.bucket.earn(now);
        }
        self.end_rejection(revision);
    }

    /// Forgets a rejection that concerned only pools that left. No remaining pool would verify the
    /// current lease, so the rejection would never end.
    pub(super) fn pool_left(&mut self, remaining: &[Option<Revision>]) {
        let Some(revision) = self.current().map(|(_, facts)| facts.revision.clone()) else {
            return;
        };
        if remaining
            .iter()
            .all(|served| served.as_ref() == Some(&revision))
        {
            self.exclusions.clear(&revision);
            self.end_rejection(&revision);
        }
    }

    /// Ends the rejection of this revision. The rotation that replaces it ends, too, unless a fetch
    /// runs or is due.
    fn end_rejection(&mut self, revision: &Revision) {
        if self.leases.is_current(revision) {
            self.timers.cancel(Timer::Rejected);
            if let Some(running) = &mut self.running {
                running.evidence = if running.lists_current {
                    LoginEvidence::Verified
                } else {
                    LoginEvidence::None
                };
            }
        }
        let is_due = [Timer::Rejected, Timer::Retry].map(|timer| self.timers.get(timer));
        if self.running.is_none() && is_due == [None, None] {
            let rotation = self.fetching.take();
            self.close_rotation(rotation, RotationOutcome::Unchanged);
        }
    }
}
