//! How many bad log-ins one revision may cost, so that pools do not lock accounts out.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::lease::Revision;

/// Log-ins kept for proofs, beyond the callers' share.
pub(crate) const PROOFS: u32 = 3;
/// The first window; the second and all further ones are twice as long, for what a pool serves is proved again at least once a minute.
const WINDOW: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(60);
/// How many callers' bad log-ins a window gives back to a revision that works again after another was served: one a second, on average. Rotations may be rolled back
/// one after the other, and each is known to be over by two log-ins that worked.
const RETURNS: u32 = 30;
/// How long after its last window an account is kept.
const MEMORY: Duration = Duration::from_secs(3_600);
/// When a refused revision is proved again, counted from the refusal; then once per [`LONGEST`].
const AFTER: [Duration; 4] = [Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(10), Duration::from_secs(30)];

#[derive(Debug)]
struct Account {
    opened: Instant,
    length: Duration,
    /// Callers' bad log-ins in this window.
    callers: u32,
    /// Bad proofs in this window.
    proofs: u32,
    /// Bad proofs since `since`.
    turn: usize,
    /// The refusal, or the news that made a proof worth while again.
    since: Instant,
    next_proof: Option<Instant>,
    /// Another revision was served since this one was refused.
    away: bool,
    /// How often it came back in this window.
    returns: u32,
}

impl Account {
    fn ends(&self) -> Instant {
        self.opened + self.length
    }

    fn spent(&self) -> u32 {
        self.callers.saturating_add(self.proofs)
    }
}

/// Bad log-ins per revision and window. One revision costs at most `max + 3` of them per window, and one more each time (30 times at most) that it works again
/// after another was served.
#[derive(Debug)]
pub(crate) struct Logins {
    max: u32,
    accounts: HashMap<Revision, Account>,
}

impl Logins {
    pub(crate) fn new(max: u32) -> Self {
        Self { max, accounts: HashMap::new() }
    }

    /// `count` callers were refused with this revision.
    pub(crate) fn callers_refused(&mut self, revision: &Revision, count: u32, now: Instant) {
        let account = self.account(revision, now);
        account.callers = account.callers.saturating_add(count);
        if account.next_proof.is_none() {
            account.turn = 0;
            account.since = now;
            account.next_proof = Some(now + AFTER[0]);
        }
    }

    /// A proof of this revision was refused.
    pub(crate) fn proof_refused(&mut self, revision: &Revision, now: Instant) {
        let account = self.account(revision, now);
        account.proofs = account.proofs.saturating_add(1);
        if account.next_proof.is_none() {
            account.turn = 0;
            account.since = now;
        } else {
            account.turn += 1;
        }
        let planned = AFTER.get(account.turn).map(|after| account.since + *after).filter(|at| *at > now);
        account.next_proof = Some(planned.unwrap_or_else(|| {
            // Late for its turn: the next one that lies ahead.
            AFTER.iter().map(|after| account.since + *after).find(|at| *at > now).unwrap_or(now + LONGEST)
        }));
    }

    /// How many proofs of this revision were refused since it last worked.
    pub(crate) fn refused_in_a_row(&self, revision: &Revision) -> usize {
        self.accounts.get(revision).filter(|account| account.next_proof.is_some()).map_or(0, |account| account.turn + 1)
    }

    /// Something new is known, so that a refused candidate is worth a proof at once.
    pub(crate) fn news(&mut self, revision: &Revision, now: Instant) {
        if let Some(account) = self.accounts.get_mut(revision)
            && account.next_proof.is_some()
        {
            account.since = now;
            account.turn = 0;
            account.next_proof = Some(now);
        }
    }

    /// A log-in with this revision worked. What it has cost stays on the account until the window ends, but for one bad log-in if another was served meanwhile: the
    /// database was changed and changed back.
    pub(crate) fn proved(&mut self, revision: &Revision, now: Instant) {
        if let Some(account) = self.accounts.get_mut(revision) {
            account.next_proof = None;
            if std::mem::take(&mut account.away) && account.returns < RETURNS {
                account.returns += 1;
                account.callers = account.callers.saturating_sub(1);
            }
        }
        self.accounts.retain(|_, account| account.next_proof.is_some() || now < account.ends());
    }

    /// Another revision is served: what was planned for the rest is moot, and whichever is offered next may be right again. What they cost stays on their accounts.
    pub(crate) fn superseded(&mut self, served: &Revision) {
        for (_, account) in self.accounts.iter_mut().filter(|(revision, _)| *revision != served) {
            account.next_proof = None;
            account.away = true;
        }
    }

    /// When this revision may be proved; now, if nothing speaks against it.
    pub(crate) fn next_proof(&self, revision: &Revision, now: Instant) -> Instant {
        let Some(account) = self.accounts.get(revision) else { return now };
        let at = account.next_proof.unwrap_or(now).max(now);
        if account.spent() >= self.max + PROOFS && at < account.ends() { account.ends() } else { at }
    }

    /// How many callers may try to log in at a time with this revision, and until when; `None` when there is no limit but the pool's. Callers have the maximum
    /// less what they used, and less what proofs used beyond their own three.
    pub(crate) fn width(&self, revision: &Revision, now: Instant) -> Option<(u32, Instant)> {
        let account = self.accounts.get(revision).filter(|account| now < account.ends())?;
        let used = account.callers.saturating_add(account.proofs.saturating_sub(PROOFS));
        (used > 0).then(|| (self.max.saturating_sub(used).max(1), account.ends()))
    }

    fn account(&mut self, revision: &Revision, now: Instant) -> &mut Account {
        self.accounts.retain(|_, account| now < account.ends() + MEMORY);
        let account = self.accounts.entry(revision.clone()).or_insert(Account {
            opened: now,
            length: WINDOW,
            callers: 0,
            proofs: 0,
            turn: 0,
            since: now,
            next_proof: None,
            away: false,
            returns: 0,
        });
        if now >= account.ends() {
            account.opened = now;
            account.length = LONGEST;
            account.callers = 0;
            account.proofs = 0;
            account.returns = 0;
        }
        account
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_refused_revision_is_proved_after_1_3_10_30_s_then_each_minute() {
        let start = tokio::time::Instant::now().into_std();
        let (mut logins, revision) = (Logins::new(10), Revision::new("r"));
        logins.callers_refused(&revision, 10, start);
        let mut at = Vec::new();
        let mut now = start;
        for _ in 0..7 {
            now = logins.next_proof(&revision, now);
            at.push((now - start).as_secs());
            logins.proof_refused(&revision, now);
        }
        assert_eq!(at, [1, 3, 10, 30, 90, 150, 210]);
    }

    #[test]
    fn news_makes_a_candidate_worth_a_proof_at_once() {
        let now = tokio::time::Instant::now().into_std();
        let (mut logins, revision) = (Logins::new(10), Revision::new("r"));
        logins.proof_refused(&revision, now);
        logins.proof_refused(&revision, now + seconds(1));
        assert_eq!(logins.next_proof(&revision, now + seconds(2)), now + seconds(3));
        logins.news(&revision, now + seconds(2));
        assert_eq!(logins.next_proof(&revision, now + seconds(2)), now + seconds(2));
    }

    #[test]
    fn rotations_may_be_rolled_back_one_after_the_other() {
        let start = tokio::time::Instant::now().into_std();
        let (mut logins, first) = (Logins::new(10), Revision::new("first"));
        let mut bad = 0;
        for turn in 0..100 {
            let now = start + turn * Duration::from_millis(250);
            if logins.next_proof(&first, now) > now {
                break;
            }
            logins.proved(&first, now);
            let width = logins.width(&first, now).map_or(10, |(width, _)| width);
            logins.callers_refused(&first, width, now);
            logins.superseded(&Revision::new(turn.to_string()));
            bad += width;
        }
        // Ten, three that need no return, and one for each return.
        assert_eq!(bad, 10 + 3 + RETURNS);
        assert_eq!(logins.next_proof(&first, start + seconds(25)), start + WINDOW);
    }

    proptest! {
        /// Whatever callers and news do: while each round of callers stays within its width, a window costs at most max + 3.
        #[test]
        fn a_window_costs_at_most_max_plus_three(
            max in 1u32..20,
            steps in prop::collection::vec((0u64..20_000, 0u8..4, any::<bool>()), 1..200),
        ) {
            let start = tokio::time::Instant::now().into_std();
            let (mut logins, revision) = (Logins::new(max), Revision::new("r"));
            let mut now = start;
            let mut refused = false;
            let mut bad: Vec<(Instant, u32)> = Vec::new();
            for (step, kind, good) in steps {
                now += Duration::from_millis(step);
                if !refused {
                    let count = logins.width(&revision, now).map_or(max, |(width, _)| width);
                    logins.callers_refused(&revision, count, now);
                    bad.push((now, count));
                    prop_assert!(logins.accounts[&revision].spent() <= max + PROOFS);
                    refused = true;
                } else if kind == 0 {
                    logins.news(&revision, now);
                } else if logins.next_proof(&revision, now) <= now {
                    if good {
                        logins.proved(&revision, now);
                        refused = false;
                    } else {
                        logins.proof_refused(&revision, now);
                        bad.push((now, 1));
                        prop_assert!(logins.accounts[&revision].spent() <= max + PROOFS);
                    }
                }
            }
            // Counted independently: bad log-ins from each window's first one on.
            for (index, (opened, _)) in bad.iter().enumerate() {
                let in_30_s: u32 = bad[index..].iter().take_while(|(at, _)| *at < *opened + WINDOW).map(|(_, count)| count).sum();
                prop_assert!(in_30_s <= 2 * (max + PROOFS));
            }
        }
    }
}
