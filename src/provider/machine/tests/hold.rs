//! A hold: what begins during it, and when it ends.

use super::*;

/// Returns a provider that is held. Its lease expires in an hour, or never.
fn held(expires: bool) -> TestProvider {
    let mut provider = TestProvider::new();
    let fetch = provider.begin();
    let expiry = if expires {
        Expiry::after(provider.now, HOUR)
    } else {
        Expiry::never()
    };
    provider.end(fetch, Ok(Offer::New(lease("current", expiry))));
    provider.verified("current");
    provider.pass(60 * SECOND);
    provider.feed(ProviderInput::Hold);
    provider.effects.clear();
    provider
}

/// Begins the renewal that is due.
fn renewal(provider: &mut TestProvider) -> Option<FetchId> {
    provider.feed(ProviderInput::Wake);
    let started = provider.take(|effect| match effect {
        ProviderEffect::StartFetch { fetch, renews, .. } => Some((*fetch, *renews)),
        _ => None,
    });
    assert!(started.iter().all(|(_, renews)| *renews));
    started.first().map(|(fetch, _)| *fetch)
}

#[test]
fn a_hold_and_its_end_are_reported_once() {
    let mut provider = TestProvider::serving();
    let began = provider.now;
    let held = ProviderEffect::ReportHold { held: true };
    provider.expect(ProviderInput::Hold, &[held, ProviderEffect::NotifyPools]);
    provider.pass(SECOND);
    provider.expect(ProviderInput::Hold, &[]);
    let since = provider.machine.held_since();
    assert_eq!(since.map(|since| since.mono()), Some(began.mono()));
    let resumed = ProviderEffect::ReportHold { held: false };
    provider.expect(
        ProviderInput::Resume,
        &[resumed, ProviderEffect::NotifyPools],
    );
    provider.expect(ProviderInput::Resume, &[]);
    assert!(provider.machine.held_since().is_none());
}

#[test]
fn no_fetch_begins_by_schedule_hint_or_rejection_during_a_hold() {
    let mut provider = held(false);
    provider.feed(ProviderInput::Hint);
    provider.rejected("current");
    provider.pass(2 * POLL);
    assert_eq!(provider.begin(), None);
    assert_eq!(provider.next(), None, "no timer wakes the actor in vain");
    assert_eq!(
        provider.machine.next_attempt(provider.now.mono()),
        NextAttempt::Never,
        "callers do not wait for a fetch"
    );
    assert!(provider.machine.is_rejected(provider.now.mono()));
    provider.feed(ProviderInput::Resume);
    assert_eq!(
        provider.wake().map(|(_, trigger)| trigger),
        Some(RotationTrigger::Changed),
        "it is due at once"
    );
}

#[test]
fn a_fetch_that_became_due_by_schedule_begins_after_the_hold() {
    let mut provider = held(false);
    provider.pass(2 * POLL);
    assert_eq!(provider.wake(), None);
    provider.feed(ProviderInput::Resume);
    let trigger = provider.wake().map(|(_, trigger)| trigger);
    assert_eq!(trigger, Some(RotationTrigger::Schedule));
}

#[test]
fn a_manual_request_fails_during_a_hold() {
    let mut provider = held(false);
    provider.feed(ProviderInput::Manual(RequestId(1)));
    assert!(matches!(provider.replies()[..], [ManualReply::Held]));
    assert_eq!(provider.begin(), None);
}

#[test]
fn a_hold_ends_manual_requests_that_wait_or_whose_fetch_runs() {
    let mut provider = TestProvider::serving();
    provider.feed(ProviderInput::Manual(RequestId(1)));
    let fetch = provider.begin();
    provider.feed(ProviderInput::Manual(RequestId(2)));
    provider.feed(ProviderInput::Hold);
    let replies = provider.replies();
    assert!(matches!(
        replies[..],
        [ManualReply::Held, ManualReply::Held]
    ));
    provider.succeed(fetch, "next");
    assert!(provider.replies().is_empty());
}

#[test]
fn a_lease_that_was_fetched_before_a_hold_is_released_and_fetched_again_after_it() {
    let mut provider = TestProvider::serving();
    provider.feed(ProviderInput::Hint);
    let fetch = provider.begin();
    provider.feed(ProviderInput::Hold);
    let outcome = provider.succeed(fetch, "next");
    assert!(matches!(outcome, Some(FetchOutcome::Unchanged)));
    assert!(provider.is_current("current"));
    assert_eq!(provider.releases(), [LeaseId(2)]);
    provider.released(LeaseId(2), Ok(()));
    provider.pass(SECOND);
    provider.feed(ProviderInput::Resume);
    let again = provider.begin();
    assert!(matches!(
        provider.succeed(again, "next"),
        Some(FetchOutcome::Adopted)
    ));
}

#[test]
fn the_current_lease_is_renewed_on_schedule_during_a_hold() {
    let mut provider = held(true);
    for _ in 0..3 {
        provider.pass(HOUR * 5 / 6);
        let fetch = renewal(&mut provider);
        assert!(fetch.is_some());
        let expiry = Expiry::after(provider.now, HOUR);
        provider.end(fetch, Ok(Offer::Renewed(expiry)));
        let current = provider.machine.current().map(|(_, facts)| facts.expiry);
        assert_eq!(current, Some(expiry));
    }
    provider.feed(ProviderInput::Resume);
    assert_eq!(provider.begin(), None, "nothing is due");
}

#[test]
fn a_failed_renewal_is_retried_and_keeps_the_lease() {
    let mut provider = held(true);
    provider.pass(HOUR * 5 / 6);
    let fetch = renewal(&mut provider);
    provider.fail(fetch, ProviderErrorKind::Unavailable);
    assert_eq!(renewal(&mut provider), None);
    provider.pass(SECOND);
    assert!(renewal(&mut provider).is_some());
    assert!(provider.is_current("current"));
}

#[test]
fn a_lease_that_cannot_be_renewed_is_not_requested_again_before_the_hold_ends() {
    let mut provider = held(true);
    provider.pass(HOUR * 5 / 6);
    let fetch = renewal(&mut provider);
    provider.end(fetch, Ok(Offer::Unchanged));
    let reported = provider.take(|effect| match effect {
        ProviderEffect::ReportNotRenewed => Some(()),
        _ => None,
    });
    assert_eq!(reported, [()], "it is reported");
    provider.pass(2 * HOUR);
    assert_eq!(renewal(&mut provider), None);
    assert_eq!(provider.next(), None);
    provider.feed(ProviderInput::Resume);
    assert!(provider.begin().is_some());
}

#[test]
fn a_held_provider_without_a_lease_obtains_its_first_one() {
    let mut provider = TestProvider::new();
    provider.feed(ProviderInput::Hold);
    let fetch = provider.begin();
    provider.succeed(fetch, "first");
    assert!(provider.is_current("first"));
    provider.pass(2 * POLL);
    assert_eq!(provider.begin(), None);
}

#[test]
fn a_held_provider_releases_its_leases_when_it_is_closed() {
    let mut provider = held(true);
    provider.feed(ProviderInput::Close);
    let releases = provider.take(|effect| match effect {
        ProviderEffect::Release(lease) => Some(*lease),
        _ => None,
    });
    assert_eq!(releases, [LeaseId(1)]);
}

#[test]
fn a_renewal_after_a_clock_jump_is_one_for_a_clock_jump() {
    let mut provider = held(true);
    let jump = |provider: &mut TestProvider| {
        let wall = provider.now.wall() + 2 * JUMP;
        provider.now = Timestamp::at(wall, provider.now.mono());
        provider.wake()
    };
    let Some((fetch, trigger)) = jump(&mut provider) else {
        unreachable!("a renewal begins");
    };
    assert_eq!(trigger, RotationTrigger::ClockJump);
    provider.feed(ProviderInput::FetchLost(fetch));
    assert!(
        provider.wake().is_none(),
        "a task that ends at once is not repeated at once"
    );
    provider.pass(COALESCE);
    let again = provider.wake().map(|(_, trigger)| trigger);
    assert_eq!(again, Some(RotationTrigger::ClockJump), "it was lost");
}

#[test]
fn a_fetch_begins_at_once_after_a_hold_in_which_renewals_failed() {
    let mut provider = held(true);
    provider.rejected("current");
    provider.pass(HOUR - 600 * SECOND);
    let fetch = renewal(&mut provider);
    assert!(fetch.is_some(), "a renewal is due");
    provider.fail(fetch, ProviderErrorKind::Denied);
    provider.pass(SECOND);
    provider.feed(ProviderInput::Resume);
    assert_eq!(
        provider.machine.next_attempt(provider.now.mono()),
        NextAttempt::Running,
        "callers wait for it"
    );
    let trigger = provider.wake().map(|(_, trigger)| trigger);
    assert_eq!(trigger, Some(RotationTrigger::Rejected));
}

#[test]
fn a_fetch_after_a_hold_is_not_earlier_than_the_backend_requests() {
    let mut provider = TestProvider::serving();
    provider.feed(ProviderInput::Hint);
    let fetch = provider.begin();
    let throttled = error(ProviderErrorKind::Throttled).with_retry_after(60 * SECOND);
    provider.end(fetch, Err(throttled));
    provider.feed(ProviderInput::Hold);
    provider.pass(SECOND);
    provider.feed(ProviderInput::Resume);
    assert_eq!(provider.begin(), None);
    provider.pass(58 * SECOND);
    assert_eq!(provider.begin(), None);
    provider.pass(SECOND);
    assert!(provider.begin().is_some());
}

#[test]
fn a_failed_fetch_before_a_hold_is_repeated_after_it() {
    let mut provider = TestProvider::new();
    let fetch = provider.begin();
    let expiry = Expiry::after(provider.now, HOUR);
    provider.end(fetch, Ok(Offer::New(lease("current", expiry))));
    provider.verified("current");
    provider.pass(2 * SECOND);
    provider.feed(ProviderInput::Hint);
    let fetch = provider.begin();
    provider.fail(fetch, ProviderErrorKind::Unavailable);
    provider.feed(ProviderInput::Hold);
    provider.pass(60 * SECOND);
    let fetch = renewal(&mut provider);
    let later = Expiry::after(provider.now, HOUR);
    provider.end(fetch, Ok(Offer::Renewed(later)));
    provider.feed(ProviderInput::Resume);
    let trigger = provider.wake().map(|(_, trigger)| trigger);
    assert_eq!(trigger, Some(RotationTrigger::Changed));
}

#[test]
fn requests_that_wait_for_the_first_lease_of_a_held_provider_end_with_it() {
    let mut provider = TestProvider::new();
    provider.feed(ProviderInput::Hold);
    let fetch = provider.begin();
    assert!(fetch.is_some(), "its first lease");
    provider.feed(ProviderInput::Manual(RequestId(1)));
    provider.succeed(fetch, "first");
    assert!(matches!(provider.replies()[..], [ManualReply::Held]));
    provider.pass(60 * SECOND);
    assert_eq!(provider.begin(), None);
}

#[test]
fn a_renewal_that_does_not_extend_the_lease_is_reported() {
    let moved = [(0, true), (1_000, true), (60_000, false)];
    for (millis, is_reported) in moved {
        let mut provider = held(true);
        provider.pass(HOUR - 600 * SECOND);
        let fetch = renewal(&mut provider);
        let before = provider
            .machine
            .current()
            .map(|(_, current)| current.expiry);
        let left = before.and_then(|expiry| expiry.remaining(provider.now));
        let Some(left) = left else {
            unreachable!("it expires");
        };
        let expiry = Expiry::after(provider.now, left + Duration::from_millis(millis));
        provider.end(fetch, Ok(Offer::Renewed(expiry)));
        let reported = provider
            .take(|effect| matches!(effect, ProviderEffect::ReportNotRenewed).then_some(()));
        assert_eq!(!reported.is_empty(), is_reported, "{millis} ms later");
    }
}

#[test]
fn callers_of_a_rejected_lease_do_not_wait_for_a_fetch_that_a_hold_discards() {
    let mut provider = TestProvider::serving();
    provider.rejected("current");
    let fetch = provider.begin();
    assert!(fetch.is_some());
    let next = |provider: &TestProvider| provider.machine.next_attempt(provider.now.mono());
    assert_eq!(next(&provider), NextAttempt::Running);
    provider.feed(ProviderInput::Hold);
    assert_eq!(next(&provider), NextAttempt::Never);
    provider.feed(ProviderInput::Resume);
    assert_eq!(next(&provider), NextAttempt::Running);
}
