use std::time::Duration;

use super::*;
use crate::expiry::Expiry;
use crate::provider::Fetched;

const POLL: Duration = Duration::from_secs(300);

fn lease(revision: &str) -> Lease<()> {
    Lease::new((), Revision::new(revision))
}

/// A provider whose every fetch ends at once.
struct Provider {
    state: State<()>,
    now: Timestamp,
}

impl Provider {
    fn new() -> Self {
        let now = Timestamp::now();
        Self {
            state: State::new(now),
            now,
        }
    }

    /// Begins whatever fetch is due, and returns its number.
    fn begin(&mut self) -> Option<u64> {
        self.state.decide(self.now).fetch.map(|(number, _)| number)
    }

    fn settle(&mut self, number: Option<u64>, revision: &str) -> Option<Settled> {
        self.settle_with(number, lease(revision).into())
    }

    fn settle_with(&mut self, number: Option<u64>, fetched: Fetched<()>) -> Option<Settled> {
        let result = fetched.into_lease(self.state.held.clone());
        let settled = self
            .state
            .settle(number?, result, self.now, self.now, POLL, 0.0);
        settled.map(|(settled, _)| settled)
    }

    /// A hint leads to a fetch, which brings this.
    fn fetch(&mut self, revision: &str) -> Option<Settled> {
        self.fetch_with(lease(revision).into())
    }

    fn fetch_with(&mut self, fetched: Fetched<()>) -> Option<Settled> {
        self.pass(Duration::from_secs(2));
        self.state.note_changed(self.now.mono());
        let number = self.begin();
        self.settle_with(number, fetched)
    }

    fn expiry_in(&self, seconds: u64) -> Expiry {
        Expiry::after(self.now, Duration::from_secs(seconds))
    }

    /// Returns the current lease's expiry and the time until its refresh.
    fn current(&self) -> (Option<Expiry>, Option<Duration>) {
        let now = self.now.mono();
        (
            self.state.held.as_ref().map(Lease::expiry),
            self.state
                .refresh_at
                .map(|at| at.saturating_duration_since(now)),
        )
    }

    fn pass(&mut self, time: Duration) {
        let Some(at) = Expiry::after(self.now, time).mono() else {
            return;
        };
        self.now = Timestamp::at(self.now.wall() + time, at);
    }

    fn verified(&mut self, revision: &str) {
        self.state
            .note_verified(&Revision::new(revision), self.now.mono());
    }

    fn rejected(&mut self, revision: &str) {
        self.state
            .note_rejected(&Revision::new(revision), self.now.mono());
    }

    fn holds(&self, revision: &str) -> bool {
        self.state.holds(&Revision::new(revision))
    }
}

#[test]
fn a_wrong_secret_that_is_put_right_is_followed_at_once() {
    let mut provider = Provider::new();
    provider.fetch("a");
    provider.verified("a");
    provider.fetch("b");
    assert!(provider.holds("b"), "no login has verified it");
    assert!(matches!(provider.fetch("a"), Some(Settled::Adopted)));
    // And b, which never was in service, is no revision of before.
    assert!(matches!(provider.fetch("b"), Some(Settled::Adopted)));
}

#[test]
fn a_new_lease_of_the_current_revision_is_a_renewal() {
    let mut provider = Provider::new();
    provider.fetch("a");
    let (expiry, refresh) = (provider.expiry_in(60), Duration::from_secs(7));
    let again = lease("a").with_expiry(expiry).with_refresh_after(refresh);
    let settled = provider.fetch_with(Fetched::New(again));
    assert!(matches!(settled, Some(Settled::Unchanged)), "{settled:?}");
    assert_eq!(provider.current(), (Some(expiry), Some(refresh)));
    assert_eq!(provider.state.debts.len(), 0, "it is the same credential");
}

#[test]
fn a_renewal_moves_expiry_and_refresh_of_the_current_lease() {
    let mut provider = Provider::new();
    let first = lease("a").with_expiry(provider.expiry_in(60));
    provider.fetch_with(Fetched::New(first));
    provider.pass(Duration::from_secs(30));
    // 80 % of what remains after the two seconds that pass before the fetch.
    let (expiry, refresh) = (provider.expiry_in(102), Duration::from_secs(80));
    let settled = provider.fetch_with(Fetched::Renewed(expiry));
    assert!(matches!(settled, Some(Settled::Unchanged)), "{settled:?}");
    assert!(provider.holds("a"));
    assert_eq!(provider.current(), (Some(expiry), Some(refresh)));
    assert_eq!(provider.state.held_life(), Some(Duration::from_secs(100)));
}

#[test]
fn an_unchanged_lease_keeps_its_expiry_and_is_refreshed_later() {
    let mut provider = Provider::new();
    let expiry = provider.expiry_in(60);
    let refresh = Duration::from_secs(7);
    let first = lease("a").with_expiry(expiry).with_refresh_after(refresh);
    provider.fetch_with(Fetched::New(first));
    let settled = provider.fetch_with(Fetched::Unchanged);
    assert!(matches!(settled, Some(Settled::Unchanged)), "{settled:?}");
    assert_eq!(provider.current(), (Some(expiry), Some(refresh)));
}

#[test]
fn a_rejected_lease_that_is_unchanged_or_renewed_is_fetched_again_with_back_off() {
    for renewed in [false, true] {
        let mut provider = Provider::new();
        provider.fetch("a");
        let mut pauses = Vec::new();
        provider.rejected("a");
        for _ in 0..3 {
            let expiry = provider.expiry_in(3_600);
            provider.fetch_with(match renewed {
                true => Fetched::Renewed(expiry),
                false => Fetched::Unchanged,
            });
            let due = provider.state.rejected_due;
            pauses.push(due.map(|due| due.saturating_duration_since(provider.now.mono())));
        }
        assert!(pauses[0].is_some() && pauses.is_sorted(), "{pauses:?}");
        assert!(pauses[0] < pauses[2], "{pauses:?}");
    }
}

#[test]
fn a_renewal_or_no_change_without_a_current_lease_is_a_failed_fetch() {
    for fetched in [Fetched::Renewed(Expiry::never()), Fetched::Unchanged] {
        let mut provider = Provider::new();
        let number = provider.begin();
        let settled = provider.settle_with(number, fetched);
        assert!(matches!(settled, Some(Settled::Failed(_))), "{settled:?}");
        assert!(provider.state.held.is_none() && provider.state.retry.is_some());
    }
}

#[test]
fn a_superseded_revision_is_not_taken_back_while_the_verified_one_serves() {
    let mut provider = Provider::new();
    for revision in ["a", "b"] {
        provider.fetch(revision);
        provider.verified(revision);
    }
    assert!(matches!(
        provider.fetch("a"),
        Some(Settled::Stale { is_news: true })
    ));
    assert!(
        matches!(provider.fetch("a"), Some(Settled::Stale { is_news: false })),
        "it is told once"
    );
    assert!(provider.holds("b"));
    provider.rejected("b");
    assert!(matches!(provider.fetch("a"), Some(Settled::Adopted)));
}

#[test]
fn superseded_revisions_that_come_in_turn_are_logged_once_each() {
    let mut provider = Provider::new();
    for revision in ["a", "b", "c"] {
        provider.fetch(revision);
        provider.verified(revision);
    }
    let mut is_news = |revision| {
        matches!(
            provider.fetch(revision),
            Some(Settled::Stale { is_news: true })
        )
    };
    assert_eq!(
        ["a", "b", "a", "b", "a"].map(&mut is_news),
        [true, true, false, false, false]
    );
}

#[test]
fn superseded_revisions_are_remembered_within_bounds() {
    let mut provider = Provider::new();
    for number in 0..1_000 {
        let revision = number.to_string();
        provider.fetch(&revision);
        provider.verified(&revision);
    }
    assert!(provider.state.retired.len() <= 64 && provider.state.verified.len() <= 64);
}

#[test]
fn a_fetch_for_a_rejection_that_is_over_changes_nothing() {
    let mut provider = Provider::new();
    provider.fetch("current");
    provider.verified("current");
    provider.pass(Duration::from_secs(2));
    provider.rejected("current");
    let number = provider.begin();
    assert!(
        number.is_some(),
        "the hazard: it is fetched for the rejection"
    );
    provider.verified("current");
    assert!(matches!(
        provider.settle(number, "pending"),
        Some(Settled::Unchanged)
    ));
    assert!(provider.holds("current"));
    assert_eq!(provider.state.debts.len(), 1, "what came is given back");
    assert!(
        provider.state.next_fetch_at(provider.now.mono())
            <= Some(provider.now.mono() + Duration::from_secs(1))
    );
}

#[test]
fn rejections_that_pass_cost_nine_fetches_a_minute() {
    let mut provider = Provider::new();
    provider.fetch("current");
    provider.verified("current");
    provider.pass(Duration::from_secs(60));
    let mut fetches = 0;
    for _ in 0..600 {
        provider.rejected("current");
        let fetch = provider.state.decide(provider.now).fetch;
        provider.verified("current");
        if let Some((number, trigger)) = fetch {
            fetches += 1;
            provider.settle(
                Some(number),
                if trigger == RotationTrigger::Rejected {
                    "pending"
                } else {
                    "current"
                },
            );
        }
        provider.pass(Duration::from_millis(100));
    }
    assert!((3..=9).contains(&fetches), "{fetches}");
}

#[test]
fn a_backend_that_mints_behind_a_lagging_server_is_asked_nine_times_a_minute() {
    let mut provider = Provider::new();
    provider.fetch("0");
    provider.verified("0");
    provider.pass(Duration::from_secs(60));
    let mut minted = 0;
    for _ in 0..600 {
        let current = minted.to_string();
        provider.rejected(&current);
        if let Some(number) = provider.begin() {
            minted += 1;
            provider.settle(Some(number), &minted.to_string());
            provider.verified(&minted.to_string());
        }
        provider.pass(Duration::from_millis(100));
    }
    assert!((3..=9).contains(&minted), "{minted}");
}

#[test]
fn what_a_fetch_brings_for_a_rejection_that_is_over_is_adopted_when_the_lease_has_expired() {
    let mut provider = Provider::new();
    let expiry = Expiry::after(provider.now, Duration::from_secs(60));
    let number = provider.begin();
    let current = lease("current").with_expiry(expiry);
    provider.state.settle(
        number.unwrap_or_default(),
        Ok(current),
        provider.now,
        provider.now,
        POLL,
        0.0,
    );
    provider.verified("current");
    provider.pass(Duration::from_secs(2));
    provider.rejected("current");
    let number = provider.begin();
    provider.verified("current");
    provider.pass(Duration::from_secs(60));
    assert!(matches!(
        provider.settle(number, "pending"),
        Some(Settled::Adopted)
    ));
}

#[test]
fn the_next_look_is_the_earliest_of_all() {
    let mut provider = Provider::new();
    provider.fetch("current");
    let now = provider.now.mono();
    assert_eq!(provider.state.next_look_at(now), Some(now + POLL));
    provider.state.note_changed(now);
    assert_eq!(provider.state.next_look_at(now), Some(now + COALESCE));
}

#[test]
fn a_fetch_for_a_rejection_that_lasts_is_adopted() {
    let mut provider = Provider::new();
    provider.fetch("current");
    provider.verified("current");
    provider.pass(Duration::from_secs(2));
    provider.rejected("current");
    let number = provider.begin();
    assert!(matches!(
        provider.settle(number, "pending"),
        Some(Settled::Adopted)
    ));
}

#[test]
fn a_fetch_is_adopted_when_the_revision_is_rejected_again_before_it_ends() {
    let mut provider = Provider::new();
    provider.fetch("current");
    provider.verified("current");
    provider.pass(Duration::from_secs(2));
    provider.rejected("current");
    let number = provider.begin();
    provider.verified("current");
    provider.rejected("current");
    assert!(matches!(
        provider.settle(number, "pending"),
        Some(Settled::Adopted)
    ));
}

#[test]
fn no_fourth_fetch_is_begun_while_three_hang() {
    let mut provider = Provider::new();
    for number in 1..=3 {
        assert_eq!(provider.begin(), Some(number));
        provider.state.hanging.push((number, provider.now));
        let error = ProviderError::new(ProviderErrorKind::TimedOut, "no answer");
        provider
            .state
            .settle(number, Err(error), provider.now, provider.now, POLL, 0.0);
        provider.pass(Duration::from_secs(60));
    }
    assert_eq!(provider.begin(), None);
    provider.pass(Duration::from_secs(3_600));
    assert_eq!(provider.begin(), None);
    let (reply, _answer) = oneshot::channel();
    provider.state.note_manual(ManualRequest {
        reply,
        caller: Caller::current(),
    });
    assert_eq!(provider.begin(), None);
    let blocked = provider.state.blocked_manual(provider.now);
    let blocked =
        blocked.map(|(requests, error)| (requests.len(), error.kind(), error.to_string()));
    assert!(
        blocked
            .as_ref()
            .is_some_and(|(requests, kind, text)| *requests == 1
                && *kind == ProviderErrorKind::TimedOut
                && text.contains("3 fetches have not ended, the first for 1h 3m")),
        "{blocked:?}"
    );
    provider.state.no_longer_hangs(2);
    assert_eq!(provider.begin(), Some(4));
}
