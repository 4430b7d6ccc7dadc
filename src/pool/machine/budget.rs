//! Limits the failed logins of each database user, so that pools do not lock accounts out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::input::LeaseFacts;
use crate::lease::Revision;

/// Failed logins kept for revisions that were never tried, beyond the callers' share.
pub(crate) const RESERVED_LOGINS: u32 = 3;
/// Length of the first window.
const WINDOW: Duration = Duration::from_secs(30);
/// Length of the second window and of all further ones.
const LATER_WINDOW: Duration = Duration::from_secs(60);
/// Shortest time between two verifications of revisions that never worked, once the callers' share
/// is spent. In a later window the rest of it is divided evenly.
const NEVER_TRIED_EVERY: Duration = Duration::from_secs(10);
/// Pauses before a rejected candidate is verified again, because the database may change shortly
/// after the backend. After these, [`Account::even_pause`] applies.
const RETRY_PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];
/// Smallest budget with which a candidate gets both of these pauses. With less it gets only the
/// first one. An active lease, and one that a start waits for, always get both.
const QUICK_TWICE_FROM: u32 = 10;
/// Largest jitter on a pause before a verification.
const JITTER: Duration = Duration::from_millis(100);
/// Time within which rejected revisions are verified again after a login on the account worked.
const AFTER_SUCCESS: Duration = Duration::from_millis(500);
/// Refunds per window: two a second in the first window. The cost of a revision is refunded if the
/// database accepts it late, or if it is superseded. Frequent rotations would otherwise use up the
/// budget.
const MAX_REFUNDS: u32 = 60;
/// Time for which an account is kept after its last window.
const ACCOUNT_KEPT_FOR: Duration = Duration::from_secs(3_600);
/// Number of rejected revisions that are kept for an account.
const MAX_REJECTED: usize = 64;

/// Role of a verified lease in its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Its generation is the current one.
    Active,
    /// Another generation is the current one.
    Candidate,
    /// No generation was published yet: a start waits for it.
    First,
}

/// A rejected revision.
#[derive(Debug)]
struct RejectedRevision {
    /// Failed verifications since a login with it worked, or since something changed.
    failures: usize,
    /// Time of its next verification; `None` while another revision is active.
    next: Option<Instant>,
    /// Whether its first login was rejected.
    never_verified: bool,
    /// Failed logins with it in this window.
    cost: u32,
    last: Instant,
}

/// Failed logins of one database user, over all its revisions.
#[derive(Debug)]
struct Account {
    /// Start of the window; before that, creation of the account.
    opened: Instant,
    /// Zero until the first failed login.
    length: Duration,
    /// Failed logins in this window.
    spent: u32,
    /// Last rejected first login with a revision in this window, and the revision, unless that was
    /// accepted later.
    last_first_try: Option<(Revision, Instant)>,
    /// Candidate with which another pool logged in since it was last rejected here.
    works_elsewhere: Option<Revision>,
    /// Refunds in this window.
    refunds: u32,
    rejected: BTreeMap<Revision, RejectedRevision>,
}

impl Account {
    fn ends(&self) -> Instant {
        self.opened + self.length
    }

    /// Counts a failed login, which opens the window if none is open. A rejection without a login
    /// opens none.
    fn count(&mut self, now: Instant) {
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
    fn refund(&mut self, cost: u32) {
        if cost > 0 && self.refunds < MAX_REFUNDS {
            self.refunds += 1;
            self.spent = self.spent.saturating_sub(cost);
        }
    }

    /// Returns the pause before a rejected revision is verified again. It is the rest of the
    /// window, divided evenly among the logins left and one at its end. With 10 connections that is
    /// about 2.5 s in the first window, 5 s in later ones, and more after rejected callers.
    fn even_pause(&self, revision: &Revision, budget: u32, now: Instant) -> Duration {
        self.ends().saturating_duration_since(now)
            / (self.usable(revision, budget).saturating_sub(self.spent) + 1)
    }

    /// Returns how much of the budget verifications of this revision may use. One login is kept for
    /// callers of the active revision, who may be rejected at any time, even while a verification
    /// works. Candidates may use it while no caller logs in.
    fn usable(&self, revision: &Revision, budget: u32) -> u32 {
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
    fn shares_reserve(&self, revision: &Revision) -> bool {
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
    fn rejected(&mut self, revision: &Revision, cost: u32, jitter: Duration, now: Instant) {
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
    fn record(
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

/// Budget of failed logins per database user and window: `max + 3`, and up to 60 refunds for
/// rotations.
#[derive(Debug)]
pub(crate) struct LoginBudget {
    max: u32,
    random: fastrand::Rng,
    accounts: BTreeMap<Arc<str>, Account>,
}

impl LoginBudget {
    /// Creates an empty budget. `random` decides the jitter of pauses.
    pub(crate) fn new(max: u32, random: fastrand::Rng) -> Self {
        Self {
            max,
            random,
            accounts: BTreeMap::new(),
        }
    }

    fn budget(&self) -> u32 {
        self.max + RESERVED_LOGINS
    }

    fn jitter(&mut self) -> Duration {
        JITTER.mul_f64(self.random.f64())
    }

    /// Counts a caller's rejected login with this lease.
    pub(crate) fn caller_rejected(&mut self, lease: &LeaseFacts, now: Instant) {
        let jitter = self.jitter();
        let account = self.account(&lease.account, now);
        account.count(now);
        account.rejected(&lease.revision, 1, jitter, now);
    }

    /// Schedules another verification of a rejected lease, a second after a caller's login.
    pub(crate) fn rejected(&mut self, lease: &LeaseFacts, now: Instant) {
        let jitter = self.jitter();
        let account = self.account(&lease.account, now);
        account.rejected(&lease.revision, 0, jitter, now);
    }

    /// Counts a rejected verification of this lease, and schedules the next one.
    pub(crate) fn verification_rejected(&mut self, lease: &LeaseFacts, role: Role, now: Instant) {
        let (budget, jitter) = (self.budget(), self.jitter());
        let account = self.account(&lease.account, now);
        account.count(now);
        let even_pause = account.even_pause(&lease.revision, budget, now);
        if role != Role::Active && !account.rejected.contains_key(&lease.revision) {
            account.last_first_try = Some((lease.revision.clone(), now));
        }
        account
            .works_elsewhere
            .take_if(|works| *works == lease.revision);
        let rejected = account.record(&lease.revision, role != Role::Active, now);
        rejected.cost += 1;
        let quick = if role != Role::Candidate || budget >= QUICK_TWICE_FROM {
            2
        } else {
            1
        };
        let pause = RETRY_PAUSES[..quick]
            .get(rejected.failures)
            .copied()
            .unwrap_or(even_pause);
        rejected.failures += 1;
        rejected.next = Some(now + pause + jitter.min(pause));
    }

    /// Cancels the next verification of this lease. The failed logins with it stay counted.
    pub(crate) fn cancel(&mut self, lease: &LeaseFacts) {
        if let Some(rejected) = self.rejected_mut(&lease.account, &lease.revision) {
            rejected.next = None;
        }
    }

    /// Returns how many verifications of this lease were rejected since it last worked.
    pub(crate) fn rejected_in_a_row(&self, lease: &LeaseFacts) -> usize {
        let account = self.accounts.get(&lease.account);
        account
            .and_then(|account| account.rejected.get(&lease.revision))
            .filter(|rejected| rejected.next.is_some())
            .map_or(0, |rejected| rejected.failures)
    }

    /// Schedules an immediate verification of a rejected candidate, after a change.
    pub(crate) fn retry_now(&mut self, lease: &LeaseFacts, now: Instant) {
        if let Some(rejected) = self.rejected_mut(&lease.account, &lease.revision)
            && rejected.next.is_some()
        {
            rejected.failures = 1;
            rejected.next = Some(now);
        }
    }

    /// Notes that another pool logged in with this revision. A rejected one is due a second after
    /// its last verification, because the server may always reject it here. A candidate waits for
    /// no other revision then, as long as the budget lasts. Returns whether it may be verified
    /// earlier than before.
    pub(crate) fn worked_elsewhere(
        &mut self,
        user: &str,
        revision: &Revision,
        now: Instant,
    ) -> bool {
        let Some(account) = self.accounts.get_mut(user) else {
            return false;
        };
        let rejected = account.rejected.get_mut(revision);
        let is_candidate = rejected
            .as_ref()
            .is_none_or(|rejected| rejected.never_verified);
        let mut is_earlier = false;
        if is_candidate && account.works_elsewhere.as_ref() != Some(revision) {
            account.works_elsewhere = Some(revision.clone());
            is_earlier = true;
        }
        if let Some(rejected) = rejected {
            let soon = now.max(rejected.last + RETRY_PAUSES[1]);
            is_earlier = rejected.next.is_some_and(|next| soon < next) || is_earlier;
            rejected.next = rejected.next.map(|next| next.min(soon));
        }
        is_earlier
    }

    /// Notes that a login with this lease worked. Its cost is refunded if it never worked before.
    /// Otherwise it stays until the window ends, to bound the logins to a database that accepts and
    /// rejects in turn. All other revisions of the user are verified again soon.
    pub(crate) fn worked(&mut self, lease: &LeaseFacts, now: Instant) {
        if let Some(account) = self.accounts.get_mut(&lease.account) {
            let rejected = account.rejected.remove(&lease.revision);
            if let Some(rejected) = rejected.filter(|rejected| rejected.never_verified) {
                account.refund(rejected.cost);
                // One that stays wrong keeps its place in the turns.
                account
                    .last_first_try
                    .take_if(|(revision, _)| *revision == lease.revision);
            }
            for rejected in account.rejected.values_mut() {
                rejected.next = rejected.next.map(|next| next.min(now + AFTER_SUCCESS));
            }
        }
        self.accounts
            .retain(|_, account| !account.rejected.is_empty() || now < account.ends());
    }

    /// Notes that this lease replaced another one. Verifications of the user's other revisions are
    /// cancelled, and their cost is refunded because the rotation explains it.
    pub(crate) fn superseded_by(&mut self, lease: &LeaseFacts) {
        if let Some(account) = self.accounts.get_mut(&lease.account) {
            let mut cost = 0;
            for (revision, rejected) in &mut account.rejected {
                if *revision != lease.revision {
                    rejected.next = None;
                    cost += std::mem::take(&mut rejected.cost);
                }
            }
            account.refund(cost);
        }
    }

    /// Returns when this lease may be verified; `now` if nothing prevents it.
    pub(crate) fn next_at(&self, lease: &LeaseFacts, now: Instant) -> Instant {
        let Some(account) = self.accounts.get(&lease.account) else {
            return now;
        };
        let rejected = account.rejected.get(&lease.revision);
        let at = rejected
            .and_then(|rejected| rejected.next)
            .map_or(now, |next| next.max(now));
        if at >= account.ends() {
            return at;
        }
        if account.spent >= account.usable(&lease.revision, self.budget()) {
            return account.ends();
        }
        let shares_reserve = account.spent >= self.max
            && account.works_elsewhere.as_ref() != Some(&lease.revision)
            && account.shares_reserve(&lease.revision);
        match &account.last_first_try {
            Some((_, last)) if shares_reserve => {
                let left = account.usable(&lease.revision, self.budget()) - account.spent;
                let evenly = account.ends().saturating_duration_since(*last) / (left + 1);
                at.max(*last + evenly.max(NEVER_TRIED_EVERY))
            }
            _ => at,
        }
    }

    /// Returns when this lease may be verified, if failed logins make it wait longer than its own
    /// pause.
    pub(crate) fn held_back_until(&self, lease: &LeaseFacts, now: Instant) -> Option<Instant> {
        let account = self.accounts.get(&lease.account)?;
        let rejected = account.rejected.get(&lease.revision);
        let own_pause = rejected.and_then(|rejected| rejected.next);
        let at = self.next_at(lease, now);
        (at > own_pause.map_or(now, |next| next.max(now))).then_some(at)
    }

    /// Returns how many callers may log in as this user at a time, and until when. `None`: only the
    /// pool's maximum applies.
    pub(crate) fn logins_at_once(&self, user: &str, now: Instant) -> Option<(u32, Instant)> {
        let account = self.accounts.get(user)?;
        if account.spent == 0 || now >= account.ends() {
            return None;
        }
        let left = (self.budget() - 1).saturating_sub(account.spent);
        Some((left.clamp(1, self.max), account.ends()))
    }

    fn rejected_mut(&mut self, user: &str, revision: &Revision) -> Option<&mut RejectedRevision> {
        self.accounts.get_mut(user)?.rejected.get_mut(revision)
    }

    fn account(&mut self, user: &Arc<str>, now: Instant) -> &mut Account {
        self.accounts
            .retain(|_, account| now < account.ends() + ACCOUNT_KEPT_FOR);
        self.accounts
            .entry(Arc::clone(user))
            .or_insert_with(|| Account {
                opened: now,
                length: Duration::ZERO,
                spent: 0,
                last_first_try: None,
                works_elsewhere: None,
                refunds: 0,
                rejected: BTreeMap::new(),
            })
    }
}

#[cfg(test)]
mod tests;
