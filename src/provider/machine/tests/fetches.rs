//! Triggers and times of fetches.

use super::*;

#[test]
fn each_trigger_causes_a_fetch_of_its_own() {
    let cases: [(ProviderInput, RotationTrigger); 3] = [
        (ProviderInput::Hint, RotationTrigger::Changed),
        (ProviderInput::Manual(RequestId(1)), RotationTrigger::Manual),
        (
            ProviderInput::Rejected(Revision::new("current")),
            RotationTrigger::Rejected,
        ),
    ];
    for (input, trigger) in cases {
        let mut provider = TestProvider::serving();
        assert_eq!(provider.wake(), None);
        provider.feed(input);
        assert_eq!(provider.next(), Some(Duration::ZERO));
        assert_eq!(provider.wake(), Some((FetchId(2), trigger)));
        assert_eq!(provider.next(), None, "one fetch at a time");
    }
    let mut provider = TestProvider::new();
    assert_eq!(provider.wake(), Some((FetchId(1), RotationTrigger::Start)));
    let mut provider = TestProvider::serving();
    provider.pass(POLL);
    assert_eq!(
        provider.wake(),
        Some((FetchId(2), RotationTrigger::Schedule))
    );
}

#[test]
fn a_clock_jump_causes_a_fetch() {
    for jump in [61, -61i64] {
        let mut provider = TestProvider::serving();
        assert_eq!(provider.wake(), None);
        let seconds = Duration::from_secs(jump.unsigned_abs());
        let wall = if jump > 0 {
            provider.now.wall() + seconds
        } else {
            provider.now.wall() - seconds
        };
        provider.now = Timestamp::at(wall, provider.now.mono());
        assert_eq!(
            provider.wake().map(|(_, trigger)| trigger),
            Some(RotationTrigger::ClockJump)
        );
    }
}

#[test]
fn hints_and_manual_requests_share_one_fetch_a_second() {
    let mut provider = TestProvider::serving();
    provider.feed(ProviderInput::Hint);
    let fetch = provider.begin();
    provider.succeed(fetch, "current");
    for request in 0..3 {
        provider.feed(ProviderInput::Manual(RequestId(request)));
        provider.feed(ProviderInput::Hint);
    }
    assert_eq!(provider.begin(), None);
    assert_eq!(provider.next(), Some(COALESCE));
    provider.pass(COALESCE);
    let fetch = provider.begin();
    provider.succeed(fetch, "new");
    assert_eq!(provider.replies().len(), 3, "one fetch for all");
    provider.pass(COALESCE);
    assert_eq!(provider.begin(), None);
}

#[test]
fn the_next_planned_fetch_is_the_earliest_of_all() {
    let mut provider = TestProvider::new();
    provider.fetch("current");
    let now = provider.now.mono();
    assert_eq!(provider.machine.next_planned_fetch(), Some(now + POLL));
    provider.feed(ProviderInput::Hint);
    assert_eq!(provider.machine.next_planned_fetch(), Some(now + COALESCE));
}

#[test]
fn a_failed_fetch_keeps_the_lease_and_is_retried_with_back_off() {
    let mut provider = TestProvider::serving();
    provider.feed(ProviderInput::Hint);
    for pause in [1, 2, 4, 8, 10, 10] {
        let fetch = provider.begin();
        assert!(fetch.is_some(), "{pause}");
        provider.fail(fetch, ProviderErrorKind::Unavailable);
        assert!(provider.is_current("current"));
        assert!(provider.next() >= Some(pause * SECOND));
        // Once empty, the bucket allows one fetch in ten seconds.
        provider.pass(provider.next().unwrap_or_default().max(SECOND));
    }
}

#[test]
fn a_failed_manual_fetch_is_reported_and_retried_by_schedule() {
    let mut provider = TestProvider::serving();
    provider.feed(ProviderInput::Manual(RequestId(1)));
    let fetch = provider.begin();
    provider.fail(fetch, ProviderErrorKind::Unavailable);
    assert!(matches!(provider.replies()[..], [ManualReply::Failed(_)]));
    provider.pass(10 * SECOND);
    assert_eq!(
        provider.wake().map(|(_, trigger)| trigger),
        Some(RotationTrigger::Schedule)
    );
}

#[test]
fn a_lost_fetch_abandons_its_requests_and_begins_again() {
    let mut provider = TestProvider::new();
    provider.feed(ProviderInput::Manual(RequestId(1)));
    let fetch = provider.begin();
    provider.feed(ProviderInput::FetchLost(fetch.unwrap_or(FetchId(0))));
    assert!(matches!(provider.replies()[..], [ManualReply::Abandoned]));
    assert_eq!(provider.begin(), Some(FetchId(2)));
    assert!(provider.succeed(fetch, "late").is_none(), "it was given up");
}

#[test]
fn a_lost_fetch_for_a_clock_jump_or_a_hint_begins_again() {
    for jumps in [true, false] {
        let mut provider = TestProvider::serving();
        if jumps {
            let wall = provider.now.wall() + 120 * SECOND;
            provider.now = Timestamp::at(wall, provider.now.mono());
        } else {
            provider.feed(ProviderInput::Hint);
        }
        let fetch = provider.begin();
        provider.feed(ProviderInput::FetchLost(fetch.unwrap_or(FetchId(0))));
        provider.pass(SECOND);
        assert!(provider.begin().is_some(), "jumps: {jumps}");
    }
}

#[test]
fn no_fourth_fetch_begins_while_three_hang() {
    let mut provider = TestProvider::new();
    for number in 1..=3 {
        assert_eq!(provider.begin(), Some(FetchId(number)));
        provider.feed(ProviderInput::FetchHangs {
            fetch: FetchId(number),
            error: error(ProviderErrorKind::TimedOut),
            jitter: 0.0,
        });
        provider.pass(60 * SECOND);
    }
    assert_eq!(provider.begin(), None);
    provider.pass(HOUR);
    assert_eq!(provider.begin(), None);
    provider.feed(ProviderInput::Manual(RequestId(1)));
    assert_eq!(provider.next(), Some(Duration::ZERO));
    assert_eq!(provider.begin(), None);
    let replies = provider.replies();
    assert!(
        matches!(&replies[..], [ManualReply::Failed(error)]
            if error.kind() == ProviderErrorKind::TimedOut
                && error.to_string().contains("3 fetches have not ended, the first for 1h 3m")),
        "{replies:?}"
    );
    assert_eq!(provider.next(), None);
    provider.feed(ProviderInput::FetchLate {
        fetch: FetchId(2),
        lease: None,
    });
    assert_eq!(provider.begin(), Some(FetchId(4)));
}

#[test]
fn a_success_resets_the_back_off() {
    let mut provider = TestProvider::serving();
    for _ in 0..2 {
        provider.feed(ProviderInput::Hint);
        for pause in [1, 2] {
            let fetch = provider.begin();
            provider.fail(fetch, ProviderErrorKind::Unavailable);
            assert_eq!(provider.next(), Some(pause * SECOND));
            provider.pass(pause * SECOND);
        }
        let fetch = provider.begin();
        provider.succeed(fetch, "current");
        provider.pass(60 * SECOND);
    }
}

#[test]
fn callers_wait_for_no_retry_after_a_permanent_error() {
    for (kind, pause) in [
        (ProviderErrorKind::Unavailable, Some(SECOND)),
        (ProviderErrorKind::Denied, None),
    ] {
        let mut provider = TestProvider::serving();
        provider.feed(ProviderInput::Hint);
        let fetch = provider.begin();
        let now = provider.now.mono();
        assert_eq!(provider.machine.next_attempt(now), NextAttempt::Running);
        provider.fail(fetch, kind);
        let expected = pause.map_or(NextAttempt::Never, |pause| NextAttempt::Due(now + pause));
        assert_eq!(provider.machine.next_attempt(now), expected);
    }
}
