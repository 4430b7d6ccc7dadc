//! Rejections and verifications of leases.

use super::*;

#[test]
fn a_rejection_of_another_revision_causes_no_fetch() {
    let mut provider = TestProvider::serving();
    provider.fetch("new");
    provider.pass(10 * SECOND);
    for revision in ["current", "unknown"] {
        provider.rejected(revision);
        assert_eq!(provider.begin(), None, "{revision}");
        assert!(!provider.machine.is_rejected(provider.now.mono()));
    }
}

#[test]
fn a_fetch_request_lists_the_excluded_revisions() {
    let mut provider = TestProvider::serving();
    for (seconds, excluded) in [(0, 1), (29, 1), (2, 0)] {
        provider.pass(seconds * SECOND);
        if seconds == 0 {
            provider.rejected("current");
            provider.verified("unknown");
        }
        provider.feed(ProviderInput::Hint);
        provider.feed(ProviderInput::Wake);
        let rejected = provider.take(|effect| match effect {
            ProviderEffect::StartFetch {
                fetch, rejected, ..
            } => Some((*fetch, rejected.len())),
            _ => None,
        });
        let fetch = rejected.first().map(|(fetch, _)| *fetch);
        assert_eq!(rejected.first().map(|(_, count)| *count), Some(excluded));
        provider.succeed(fetch, "current");
        assert!(
            provider.machine.is_rejected(provider.now.mono()),
            "until a login succeeds"
        );
    }
    provider.verified("current");
    assert!(!provider.machine.is_rejected(provider.now.mono()));
}

#[test]
fn fetches_for_a_rejected_lease_back_off() {
    let mut provider = TestProvider::serving();
    provider.rejected("current");
    let mut fetches = 0;
    for _ in 0..600 {
        if let Some(fetch) = provider.begin() {
            fetches += 1;
            provider.succeed(Some(fetch), "current");
        }
        provider.pass(SECOND / 10);
    }
    assert!((5..=9).contains(&fetches), "{fetches}");
}

#[test]
fn a_rejection_during_a_fetch_causes_another_one_at_once() {
    let mut provider = TestProvider::serving();
    provider.feed(ProviderInput::Hint);
    let fetch = provider.begin();
    provider.rejected("current");
    provider.succeed(fetch, "current");
    assert_eq!(provider.next(), Some(Duration::ZERO));
}

#[test]
fn a_lease_fetched_for_a_past_rejection_is_not_adopted() {
    let mut provider = TestProvider::serving();
    provider.rejected("current");
    let fetch = provider.begin();
    assert!(fetch.is_some(), "the hazard: a fetch for the rejection");
    provider.verified("current");
    assert!(matches!(
        provider.succeed(fetch, "pending"),
        Some(FetchOutcome::Unchanged)
    ));
    assert!(provider.is_current("current"));
    assert_eq!(
        provider.releases(),
        [LeaseId(2)],
        "the returned lease is released"
    );
    assert!(provider.next() <= Some(SECOND));
}

#[test]
fn a_manual_fetch_that_listed_a_past_rejection_is_repeated() {
    let mut provider = TestProvider::serving();
    provider.rejected("current");
    provider.feed(ProviderInput::Manual(RequestId(1)));
    let fetch = provider.begin();
    provider.verified("current");
    provider.succeed(fetch, "pending");
    assert!(provider.is_current("current"));
    assert!(provider.replies().is_empty(), "the request waits");
    provider.pass(COALESCE);
    let (fetch, trigger) = provider.wake().unzip();
    assert_eq!(trigger, Some(RotationTrigger::Manual));
    provider.succeed(fetch, "new");
    assert!(matches!(provider.replies()[..], [ManualReply::Rotation(_)]));
    assert!(provider.is_current("new"));
}

#[test]
fn a_lease_fetched_for_a_lasting_or_repeated_rejection_is_adopted() {
    for comes_back in [false, true] {
        let mut provider = TestProvider::serving();
        provider.rejected("current");
        let fetch = provider.begin();
        if comes_back {
            provider.verified("current");
            provider.rejected("current");
        }
        assert!(matches!(
            provider.succeed(fetch, "pending"),
            Some(FetchOutcome::Adopted)
        ));
    }
}

#[test]
fn a_lease_for_a_past_rejection_is_adopted_if_the_current_one_has_expired() {
    let mut provider = TestProvider::new();
    let expiry = Expiry::after(provider.now, 60 * SECOND);
    let fetch = provider.begin();
    provider.end(fetch, Ok(Offer::New(lease("current", expiry))));
    provider.verified("current");
    provider.pass(2 * SECOND);
    provider.rejected("current");
    let fetch = provider.begin();
    provider.verified("current");
    provider.pass(60 * SECOND);
    assert!(matches!(
        provider.succeed(fetch, "pending"),
        Some(FetchOutcome::Adopted)
    ));
}

#[test]
fn transient_rejections_cause_nine_fetches_a_minute() {
    let mut provider = TestProvider::serving();
    let mut fetches = 0;
    for _ in 0..600 {
        provider.rejected("current");
        let fetch = provider.wake();
        provider.verified("current");
        if let Some((fetch, trigger)) = fetch {
            fetches += 1;
            let revision = if trigger == RotationTrigger::Rejected {
                "pending"
            } else {
                "current"
            };
            provider.succeed(Some(fetch), revision);
        }
        provider.pass(SECOND / 10);
    }
    assert!((3..=9).contains(&fetches), "{fetches}");
}

#[test]
fn new_credentials_behind_a_lagging_server_are_fetched_nine_times_a_minute() {
    let mut provider = TestProvider::new();
    provider.fetch("0");
    provider.verified("0");
    provider.pass(60 * SECOND);
    let mut fetched = 0;
    for _ in 0..600 {
        let current = fetched.to_string();
        provider.rejected(&current);
        if let Some(fetch) = provider.begin() {
            fetched += 1;
            provider.succeed(Some(fetch), &fetched.to_string());
            provider.verified(&fetched.to_string());
        }
        provider.pass(SECOND / 10);
    }
    assert!((3..=9).contains(&fetched), "{fetched}");
}

#[test]
fn a_database_rollback_ends_earlier_exclusions() {
    let mut provider = TestProvider::serving();
    provider.rejected("current");
    let fetch = provider.begin();
    provider.succeed(fetch, "new");
    provider.pass(SECOND);
    provider.verified("new");
    provider.pass(SECOND);
    assert_eq!(
        provider
            .machine
            .exclusions
            .active(provider.now.mono())
            .len(),
        1
    );
    provider.rejected("new");
    let active = provider.machine.exclusions.active(provider.now.mono());
    assert_eq!(*active, [Revision::new("new")]);
}

#[test]
fn a_rejection_that_concerns_no_remaining_pool_is_forgotten() {
    let served = |revision| Some(Revision::new(revision));
    for (remaining, is_rejected) in [
        (vec![], false),
        (vec![served("current"), served("current")], false),
        (vec![served("current"), served("old")], true),
        // A pool that serves nothing, or verifies its revision again.
        (vec![served("current"), None], true),
    ] {
        let mut provider = TestProvider::serving();
        provider.rejected("current");
        provider.feed(ProviderInput::PoolLeft(remaining));
        let now = provider.now.mono();
        assert_eq!(provider.machine.is_rejected(now), is_rejected);
        assert_eq!(provider.begin().is_some(), is_rejected);
    }
}

#[test]
fn a_pool_may_leave_before_the_first_lease() {
    let mut provider = TestProvider::new();
    provider.expect(ProviderInput::PoolLeft(vec![]), &[]);
}

#[test]
fn a_rejection_of_the_current_lease_is_never_forgotten() {
    let mut provider = TestProvider::serving();
    provider.rejected("current");
    provider.pass(2 * HOUR);
    provider.rejected("unknown");
    assert!(provider.machine.is_rejected(provider.now.mono()));
}

#[test]
fn a_further_login_with_the_current_lease_ends_no_later_exclusion() {
    let mut provider = TestProvider::serving();
    provider.rejected("candidate");
    provider.pass(SECOND);
    provider.verified("current");
    provider.rejected("current");
    // The candidate was rejected after the first login, and so by the same database.
    let active = provider.machine.exclusions.active(provider.now.mono());
    assert_eq!(
        *active,
        [Revision::new("candidate"), Revision::new("current")]
    );
}
