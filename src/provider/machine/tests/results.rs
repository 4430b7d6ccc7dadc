//! Results of fetches.

use super::*;

#[test]
fn an_equal_revision_moves_expiry_and_refresh_without_a_handover() {
    let now = TestProvider::serving().now;
    let in_seconds = |seconds| Expiry::after(now, seconds * SECOND);
    let hinted = Facts {
        refresh_after: Some(7 * SECOND),
        ..lease("current", in_seconds(60))
    };
    for (offer, expiry, refresh, lifetime) in [
        (Offer::New(hinted), in_seconds(60), 7, Some(60)),
        // 80 % of what remains.
        (
            Offer::Renewed(in_seconds(100)),
            in_seconds(100),
            80,
            Some(100),
        ),
        (Offer::Unchanged, Expiry::never(), 300, None),
    ] {
        let mut provider = TestProvider::serving();
        provider.now = now;
        provider.feed(ProviderInput::Hint);
        let fetch = provider.begin();
        let outcome = provider.end(fetch, Ok(offer));
        assert!(matches!(outcome, Some(FetchOutcome::Unchanged)));
        assert_eq!(
            provider
                .machine
                .current()
                .map(|(_, current)| current.expiry),
            Some(expiry)
        );
        assert_eq!(provider.next(), Some(refresh * SECOND));
        assert_eq!(
            provider.machine.lifetime(),
            lifetime.map(|seconds| seconds * SECOND)
        );
        assert!(matches!(
            provider.closed()[..],
            [(_, RotationOutcome::Unchanged)]
        ));
        assert!(!provider.effects.iter().any(|effect| matches!(
            effect,
            ProviderEffect::HandOver { .. } | ProviderEffect::Release(_)
        )));
    }
}

#[test]
fn a_renewal_without_a_lease_and_an_expired_lease_are_errors() {
    let mut provider = TestProvider::new();
    let expired = Offer::New(lease("a", Expiry::after(provider.now, Duration::ZERO)));
    for (offer, expected) in [
        (Offer::Renewed(Expiry::never()), ProviderErrorKind::Other),
        (Offer::Unchanged, ProviderErrorKind::Other),
        (expired, ProviderErrorKind::ExpiredLease),
    ] {
        let fetch = provider.begin();
        let outcome = provider.end(fetch, Ok(offer));
        assert!(
            matches!(&outcome, Some(FetchOutcome::Failed(error)) if error.kind() == expected),
            "{outcome:?}"
        );
        provider.pass(60 * SECOND);
    }
    assert!(provider.machine.current().is_none());
}

#[test]
fn a_corrected_secret_is_adopted_at_once() {
    let mut provider = TestProvider::new();
    provider.fetch("a");
    provider.verified("a");
    provider.fetch("b");
    assert!(provider.is_current("b"), "no login has verified it");
    assert!(matches!(provider.fetch("a"), Some(FetchOutcome::Adopted)));
    // Revision b was never verified, so it does not count as superseded.
    assert!(matches!(provider.fetch("b"), Some(FetchOutcome::Adopted)));
}

#[test]
fn a_superseded_revision_is_not_adopted_while_the_current_one_is_verified() {
    let mut provider = TestProvider::new();
    for revision in ["a", "b"] {
        provider.fetch(revision);
        provider.verified(revision);
    }
    assert!(matches!(
        provider.fetch("a"),
        Some(FetchOutcome::Stale { is_news: true })
    ));
    assert!(
        matches!(
            provider.fetch("a"),
            Some(FetchOutcome::Stale { is_news: false })
        ),
        "it is logged once"
    );
    assert!(provider.is_current("b"));
    provider.rejected("b");
    assert!(matches!(provider.fetch("a"), Some(FetchOutcome::Adopted)));
}

#[test]
fn a_superseded_revision_is_adopted_again_after_an_hour() {
    let mut provider = TestProvider::new();
    for revision in ["a", "b"] {
        provider.fetch(revision);
        provider.verified(revision);
    }
    provider.pass(HOUR);
    assert!(matches!(provider.fetch("a"), Some(FetchOutcome::Adopted)));
}

#[test]
fn alternating_superseded_revisions_are_logged_once_each() {
    let mut provider = TestProvider::new();
    for revision in ["a", "b", "c"] {
        provider.fetch(revision);
        provider.verified(revision);
    }
    let mut is_news = |revision| {
        matches!(
            provider.fetch(revision),
            Some(FetchOutcome::Stale { is_news: true })
        )
    };
    assert_eq!(
        ["a", "b", "a", "b", "a"].map(&mut is_news),
        [true, true, false, false, false]
    );
}

#[test]
fn released_leases_are_stored_within_bounds() {
    let mut provider = TestProvider::new();
    for number in 0..1_000 {
        let revision = number.to_string();
        provider.fetch(&revision);
        provider.verified(&revision);
        for lease in provider.releases() {
            provider.released(lease, Ok(()));
        }
    }
    assert!(provider.machine.leases.len() <= 67);
}

#[test]
fn an_expired_renewal_keeps_the_valid_lease() {
    let mut provider = TestProvider::serving();
    provider.feed(ProviderInput::Hint);
    let fetch = provider.begin();
    let expired = Expiry::after(provider.now, Duration::ZERO);
    let outcome = provider.end(fetch, Ok(Offer::Renewed(expired)));
    assert!(
        matches!(&outcome, Some(FetchOutcome::Failed(error))
            if error.kind() == ProviderErrorKind::ExpiredLease),
        "{outcome:?}"
    );
    let current = provider.machine.current().map(|(_, current)| current);
    assert_eq!(current, Some(&lease("current", Expiry::never())));
}

#[test]
fn a_lease_that_is_adopted_again_is_still_verified() {
    let mut provider = TestProvider::new();
    for revision in ["a", "b"] {
        provider.fetch(revision);
        provider.verified(revision);
    }
    provider.rejected("b");
    assert!(matches!(provider.fetch("a"), Some(FetchOutcome::Adopted)));
    // Only a verified lease stays although another one is returned.
    assert!(matches!(
        provider.fetch("b"),
        Some(FetchOutcome::Stale { .. })
    ));
}

#[test]
fn a_superseded_revision_causes_no_fetch_for_ten_seconds() {
    let mut provider = TestProvider::new();
    provider.fetch("a");
    provider.verified("a");
    provider.feed(ProviderInput::Hint);
    provider.pass(2 * SECOND);
    let fetch = provider.begin();
    let hinted = Facts {
        refresh_after: Some(2 * SECOND),
        ..lease("b", Expiry::never())
    };
    provider.end(fetch, Ok(Offer::New(hinted)));
    provider.verified("b");
    let next = |provider: &TestProvider| {
        let next = provider.machine.next_planned_fetch();
        next.map(|at| at - provider.now.mono())
    };
    assert_eq!(next(&provider), Some(2 * SECOND));
    assert!(matches!(
        provider.fetch("a"),
        Some(FetchOutcome::Stale { .. })
    ));
    assert_eq!(next(&provider), Some(10 * SECOND));
}
