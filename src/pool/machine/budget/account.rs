//! Failed logins of one database user.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::RETRY_PAUSES;
use crate::lease::Revision;

/// Length of the first window.
pub(super) const WINDOW: Duration = Duration::from_secs(30);
/// Length of the second window and of all further ones.
pub(super) const LATER_WINDOW: Duration = Duration::from_secs(60);
/// Refunds per window: two a second in the first window. The cost of a revision is refunded if the
/// database accepts it late, or if it is superseded. Frequent rotations would otherwise use up the
/// budget.
pub(super) const MAX_REFUNDS: u32 = 60;
/// Number of rejected revisions that are kept for an account.
const MAX_REJECTED: usize = 64;

/// A rejected revision.
#[derive(Debug)]
pub(super) struct RejectedRevision {
    /// Failed verifications since a login with it worked, or since something changed.
    pub(super) failures: usize,
    /// Time of its next verification; `None` while another revision is active.
    pub(super) next: Option<Instant>,
    /// Whether its first login was rejected.
    pub(super) never_verified: bool,
    /// Failed logins with it in this window.
    pub(super) cost: u32,
    pub(super) last: Instant,
}

/// Failed logins of one database user, over all its revisions.
#[derive(Debug)]
pub(super) struct Account {
    /// Start of the window; before that, creation of the account.
    pub(super) opened: Instant,
    /// Zero until the first failed login.
    pub(super) length: Duration,
    /// Failed logins in this window.
    pub(super) spent: u32,
    /// Last rejected first login with a revision in this window, and the revision, unless that was
    /// accepted later.
    pub(super) last_first_try: Option<(Revision, Instant)>,
    /// Candidate with which another pool logged in since it was last rejected here.
    pub(super) works_elsewhere: Option<Revision>,
    /// Refunds in this window.
    pub(super) refunds: u32,
    pub(super) rejected: BTreeMap<Revision, RejectedRevision>,
}

impl Account {
    /// Creates an account without a window.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            opened: now,
            length: Duration::ZERO,
            spent: 0,
            last_first_try: None,
            works_elsewhere: None,
            refunds: 0,
            rejected: BTreeMap::new(),
        }
    }

    pub(super) fn ends(&self) -> Instant {
        self.opened + self.length
    }

    /// Counts a failed login, which opens the window if none is open. A rejection without a login
    /// opens none.
    pub(super) fn count(&mut self, now: Instant) {
        if now >= self.ends() {
            self.opened = now;
            self.length = if self.length.is_zero() {
                WINDOW
            } else {
                LATER_WINDOW
            };
            (self.spent, self.refunds) = (0, 0);
            self.last_first_try = None;
            for rejected in self.rejected.values_mut() {
                rejected.cost = 0;
            }
        }
        self.spent = self.spent.saturating_add(1);
    }

    /// Refunds the cost of a revision that works after all, or that was superseded.
    pub(super) fn refund(&mut self, cost: u32) {
        if cost > 0 && self.refunds < MAX_REFUNDS {
            self.refunds += 1;
            self.spent = self.spent.saturating_sub(cost);
        }
    }

    /// Returns the pause before a rejected revision is verified again. It is the rest of the
    /// window, divided evenly among the logins left and one at its end. With 10 connections that is
    /// about 2.5 s in the first window, 5 s in later ones, and more after rejected callers.
    pub(super) fn even_pause(&self, revision: &Revision, budget: u32, now: Instant) -> Duration {
        self.ends().saturating_duration_since(now)
            / (self.usable(revision, budget).saturating_sub(self.spent) + 1)
    }

    /// Returns how much of the budget verifications of this revision may use. One login is kept for
    /// callers of the active revision, who may be rejected at any time, even while a verification
    /// works. Candidates may use it while no caller logs in.
    pub(super) fn usable(&self, revision: &Revision, budget: u32) -> u32 {
        let no_caller_logs_in = self.rejected.iter().any(|(other, rejected)| {
            other != revision && !rejected.never_verified && rejected.next.is_some()
        });
        if no_caller_logs_in {
            budget
        } else {
            budget - 1
        }
    }

    /// Returns whether this revision uses the reserve in turn with others. A revision that was
    /// never verified does: the next one may be the correct one.
    pub(super) fn shares_reserve(&self, revision: &Revision) -> bool {
        let mut never_verified = self
            .rejected
            .iter()
            .filter(|(_, rejected)| rejected.never_verified);
        match self.rejected.get(revision) {
            None => true,
            Some(rejected) => {
                rejected.never_verified && never_verified.any(|(other, _)| other != revision)
            }
        }
    }

    /// Schedules another verification of a revision with which a caller was rejected.
    pub(super) fn rejected(
        &mut self,
        revision: &Revision,
        cost: u32,
        jitter: Duration,
        now: Instant,
    ) {
        let rejected = self.record(revision, false, now);
        rejected.cost += cost;
        if rejected.next.is_none() {
            // It was tried just now, by a caller.
            rejected.failures = 1;
            rejected.next = Some(now + RETRY_PAUSES[1] + jitter);
        }
    }

    /// Returns the record of a revision that was rejected now. Forgets the one that was rejected
    /// longest ago, if there are too many.
    pub(super) fn record(
        &mut self,
        revision: &Revision,
        never_verified: bool,
        now: Instant,
    ) -> &mut RejectedRevision {
        if !self.rejected.contains_key(revision)
            && self.rejected.len() >= MAX_REJECTED
            && let Some((oldest, _)) = self.rejected.iter().min_by_key(|(_, record)| record.last)
        {
            let oldest = oldest.clone();
            self.rejected.remove(&oldest);
        }
        let record = self.rejected.entry(revision.clone());
        let record = record.or_insert(RejectedRevision {
            failures: 0,
            next: None,
            never_verified,
            cost: 0,
            last: now,
        });
        record.last = now;
        record
    }
}
