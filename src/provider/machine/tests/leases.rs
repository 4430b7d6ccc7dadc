//! The life cycle of leases.

use super::*;

#[test]
fn a_lease_is_released_once_after_its_last_user_has_returned_it() {
    let mut provider = TestProvider::serving();
    let users = [provider.take_lease(), provider.take_lease()];
    provider.fetch("new");
    assert_eq!(provider.releases(), []);
    provider.return_lease(users[0]);
    assert_eq!(provider.releases(), []);
    provider.return_lease(users[1]);
    assert_eq!(provider.releases(), [LeaseId(1)]);
    assert_eq!(provider.releases(), [], "it is being released");
    provider.released(LeaseId(1), Ok(()));
    provider.pass(HOUR);
    provider.return_lease(users[1]);
    assert_eq!(provider.releases(), []);
    assert_eq!(provider.machine.unreleased(), 0);
}

#[test]
fn a_superseded_lease_that_is_offered_again_is_current_again() {
    let mut provider = TestProvider::serving();
    let user = provider.take_lease();
    provider.fetch("new");
    provider.rejected("new");
    provider.fetch("current");
    assert_eq!(provider.machine.current().map(|(lease, _)| lease), user);
    provider.return_lease(user);
    assert_eq!(provider.releases(), [LeaseId(2)], "the other one");
}

#[test]
fn a_queued_lease_that_is_offered_again_is_current_again() {
    let mut provider = TestProvider::serving();
    provider.fetch("new");
    assert_eq!(provider.releases(), [LeaseId(1)]);
    provider.rejected("new");
    let fetch = provider.begin();
    provider.released(LeaseId(1), Err(error(ProviderErrorKind::Unavailable)));
    provider.succeed(fetch, "current");
    assert_eq!(
        provider.machine.current().map(|(lease, _)| lease),
        Some(LeaseId(1))
    );
    provider.pass(HOUR);
    assert_eq!(provider.releases(), [LeaseId(2)]);
}

#[test]
fn a_revision_offered_again_during_its_release_is_another_lease() {
    for error in [None, Some(error(ProviderErrorKind::Unavailable))] {
        let mut provider = TestProvider::serving();
        provider.fetch("new");
        assert_eq!(provider.releases(), [LeaseId(1)]);
        provider.rejected("new");
        let fetch = provider.begin();
        provider.succeed(fetch, "current");
        assert_eq!(
            provider.machine.current().map(|(lease, _)| lease),
            Some(LeaseId(3))
        );
        provider.released(LeaseId(1), error.map_or(Ok(()), Err));
        provider.pass(HOUR);
        assert_eq!(provider.releases(), [LeaseId(2)], "it is not retried");
    }
}

/// Returns how often a release is attempted if every attempt fails, at most `most` times.
fn attempts(expiry: impl Fn(Timestamp) -> Expiry, most: u32) -> u32 {
    let mut provider = TestProvider::serving();
    let facts = lease("late", expiry(provider.now));
    provider.feed(ProviderInput::FetchLate {
        fetch: FetchId(9),
        lease: Some(facts),
    });
    for attempt in 0..most {
        provider.machine.bucket = TokenBucket::full(provider.now.mono());
        provider
            .machine
            .timers
            .set(Timer::Release(LeaseId(9)), provider.now.mono());
        if provider.machine.unreleased() == 0 || provider.releases().is_empty() {
            return attempt;
        }
        provider.released(LeaseId(9), Err(error(ProviderErrorKind::Unavailable)));
    }
    most
}

#[test]
fn a_release_is_retried_until_the_lease_expires_and_ten_times_if_it_does_not() {
    assert_eq!(attempts(|now| Expiry::after(now, HOUR), 100), 100);
    assert_eq!(attempts(|_| Expiry::never(), 100), 10);
    assert_eq!(attempts(|now| Expiry::after(now, Duration::ZERO), 100), 1);
}

#[test]
fn a_release_is_retried_no_sooner_than_the_backend_requests_and_not_after_a_permanent_error() {
    let unavailable = || error(ProviderErrorKind::Unavailable);
    for (error, next) in [
        (unavailable(), Some(SECOND)),
        (
            unavailable().with_retry_after(60 * SECOND),
            Some(60 * SECOND),
        ),
        (error(ProviderErrorKind::Denied), None),
    ] {
        let mut provider = TestProvider::serving();
        provider.fetch("new");
        assert_eq!(provider.releases(), [LeaseId(1)]);
        provider.released(LeaseId(1), Err(error));
        assert_eq!(
            provider.machine.timers.get(Timer::Release(LeaseId(1))),
            next.map(|pause| provider.now.mono() + pause)
        );
        assert_eq!(provider.machine.unreleased(), usize::from(next.is_some()));
    }
}

#[test]
fn a_retried_release_leaves_a_token_for_a_fetch() {
    let mut provider = TestProvider::serving();
    provider.fetch("new");
    while provider.machine.bucket.take_spare(provider.now.mono()) {}
    assert_eq!(provider.releases(), [LeaseId(1)], "the first one is free");
    provider.released(LeaseId(1), Err(error(ProviderErrorKind::Unavailable)));
    provider.pass(2 * SECOND);
    assert_eq!(provider.releases(), []);
    provider.rejected("new");
    assert!(provider.begin().is_some());
}

#[test]
fn a_lost_release_is_started_again() {
    let mut provider = TestProvider::serving();
    provider.fetch("new");
    assert_eq!(provider.releases(), [LeaseId(1)]);
    provider.feed(ProviderInput::ReleaseLost(LeaseId(1)));
    assert_eq!(provider.releases(), [LeaseId(1)]);
}

#[test]
fn a_late_lease_is_released_unless_its_revision_is_known() {
    for (revision, released) in [("current", 0), ("new", 0), ("other", 1)] {
        let mut provider = TestProvider::serving();
        let _user = provider.take_lease();
        provider.fetch("new");
        provider.feed(ProviderInput::FetchLate {
            fetch: FetchId(9),
            lease: Some(lease(revision, Expiry::never())),
        });
        assert_eq!(provider.releases().len(), released, "{revision}");
    }
}

const KEPT: Duration = Duration::from_secs(900);

/// Returns a provider that keeps superseded leases, and serves "new" after "current". The lease
/// "current" expires in an hour.
fn keeping() -> TestProvider {
    let mut provider = TestProvider::new();
    provider.machine = ProviderMachine::new(POLL, provider.now).with_previous_lease_kept_for(KEPT);
    let fetch = provider.begin();
    let expiry = Expiry::after(provider.now, HOUR);
    provider.end(fetch, Ok(Offer::New(lease("current", expiry))));
    provider.verified("current");
    provider.fetch("new");
    provider.verified("new");
    provider
}

#[test]
fn a_superseded_lease_is_kept_for_the_time_that_was_set() {
    let mut provider = keeping();
    assert_eq!(provider.releases(), []);
    provider.pass(KEPT - SECOND);
    assert_eq!(provider.releases(), []);
    provider.pass(SECOND);
    assert_eq!(provider.releases(), [LeaseId(1)]);
}

#[test]
fn a_lease_in_use_longer_than_that_is_released_when_it_is_returned() {
    let mut provider = keeping();
    provider.verified("new");
    let user = provider.take_lease();
    provider.fetch("newer");
    provider.pass(2 * KEPT);
    provider.releases();
    provider.return_lease(user);
    assert_eq!(provider.releases(), [LeaseId(2)]);
}

#[test]
fn a_kept_lease_is_released_at_its_expiry() {
    let mut provider = TestProvider::new();
    provider.machine = ProviderMachine::new(POLL, provider.now).with_previous_lease_kept_for(KEPT);
    let fetch = provider.begin();
    let expiry = Expiry::after(provider.now, 60 * SECOND);
    provider.end(fetch, Ok(Offer::New(lease("current", expiry))));
    provider.verified("current");
    provider.fetch("new");
    provider.pass(57 * SECOND);
    assert_eq!(provider.releases(), []);
    provider.pass(SECOND);
    assert_eq!(provider.releases(), [LeaseId(1)]);
}

#[test]
fn a_kept_lease_can_be_used_again_until_it_is_released() {
    let mut provider = keeping();
    let find = |provider: &TestProvider| {
        let found = provider.machine.unreleased_with(&Revision::new("current"));
        found.map(|(lease, lifetime)| (lease, lifetime.is_some()))
    };
    assert_eq!(find(&provider), Some((LeaseId(1), true)));
    provider.feed(ProviderInput::LeaseTaken(LeaseId(1)));
    provider.pass(2 * KEPT);
    assert_eq!(provider.releases(), [], "it is in use");
    provider.return_lease(Some(LeaseId(1)));
    provider.pass(KEPT - SECOND);
    assert_eq!(provider.releases(), [], "it is kept again");
    assert!(find(&provider).is_some());
    provider.pass(SECOND);
    assert_eq!(provider.releases(), [LeaseId(1)]);
    assert_eq!(find(&provider), None);
}

#[test]
fn a_lease_that_was_never_verified_is_not_kept() {
    let mut provider = keeping();
    provider.fetch("wrong");
    provider.fetch("newer");
    let released = provider.releases();
    assert_eq!(released, [LeaseId(3)]);
}

#[test]
fn kept_leases_are_released_when_the_provider_is_closed() {
    let mut provider = keeping();
    provider.feed(ProviderInput::Close);
    let releases = provider.take(|effect| match effect {
        ProviderEffect::Release(lease) => Some(*lease),
        _ => None,
    });
    assert_eq!(releases, [LeaseId(1), LeaseId(2)]);
}
