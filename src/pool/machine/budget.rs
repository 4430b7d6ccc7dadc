//! Limits the failed logins of each database user, so that pools do not lock accounts out.

mod account;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::input::LeaseFacts;
use crate::lease::Revision;
use account::{Account, RejectedRevision};

/// Failed logins kept for revisions that were never tried, beyond the callers' share.
pub(crate) const RESERVED_LOGINS: u32 = 3;
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
/// Time for which an account is kept after its last window.
const ACCOUNT_KEPT_FOR: Duration = Duration::from_secs(3_600);

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

    /// Returns when this lease may be verified; `now` if nothing prevents it. Each login that is
    /// under way may be rejected, and is counted as if it were.
    pub(crate) fn next_at(&self, lease: &LeaseFacts, under_way: u32, now: Instant) -> Instant {
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
        let spent = account.spent + under_way;
        if spent >= account.usable(&lease.revision, self.budget()) {
            return account.ends();
        }
        let shares_reserve = spent >= self.max
            && account.works_elsewhere.as_ref() != Some(&lease.revision)
            && account.shares_reserve(&lease.revision);
        match &account.last_first_try {
            Some((_, last)) if shares_reserve => {
                let left = account.usable(&lease.revision, self.budget()) - spent;
                let evenly = account.ends().saturating_duration_since(*last) / (left + 1);
                at.max(*last + evenly.max(NEVER_TRIED_EVERY))
            }
            _ => at,
        }
    }

    /// Returns when this lease may be verified, if failed logins make it wait longer than its own
    /// pause.
    pub(crate) fn held_back_until(&self, lease: &LeaseFacts, now: Instant) -> Option<Instant> {
        let own_pause = self.own_pause(lease);
        let at = self.next_at(lease, 0, now);
        (at > own_pause.map_or(now, |next| next.max(now))).then_some(at)
    }

    /// Returns when the pause of this lease ends, if it was rejected.
    pub(crate) fn own_pause(&self, lease: &LeaseFacts) -> Option<Instant> {
        let account = self.accounts.get(&lease.account)?;
        account.rejected.get(&lease.revision)?.next
    }

    /// Returns how many callers may log in as this user at a time, and until when, beside the
    /// logins that are under way. `None`: only the pool's maximum applies.
    pub(crate) fn logins_at_once(
        &self,
        user: &str,
        under_way: u32,
        now: Instant,
    ) -> Option<(u32, Instant)> {
        let account = self.accounts.get(user)?;
        if account.spent == 0 || now >= account.ends() {
            return None;
        }
        let left = (self.budget() - 1).saturating_sub(account.spent + under_way);
        Some((left.clamp(1, self.max), account.ends()))
    }

    /// Returns how many failed logins count in this user's window.
    #[cfg(test)]
    pub(super) fn spent(&self, user: &str) -> u32 {
        self.accounts.get(user).map_or(0, |account| account.spent)
    }

    fn rejected_mut(&mut self, user: &str, revision: &Revision) -> Option<&mut RejectedRevision> {
        self.accounts.get_mut(user)?.rejected.get_mut(revision)
    }

    fn account(&mut self, user: &Arc<str>, now: Instant) -> &mut Account {
        self.accounts
            .retain(|_, account| now < account.ends() + ACCOUNT_KEPT_FOR);
        self.accounts
            .entry(Arc::clone(user))
            .or_insert_with(|| Account::new(now))
    }
}

#[cfg(test)]
mod tests;
