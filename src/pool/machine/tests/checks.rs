//! Checks of the active lease.

use super::*;

#[test]
fn a_clock_jump_causes_a_check() {
    let r1 = lease("r1");
    for (seconds, purpose) in [(60, None), (61, Some(Purpose::Check))] {
        let mut pool = TestPool::serving(&r1, 1);
        let jump = Duration::from_secs(seconds);
        pool.now = Timestamp::at(pool.now.wall() + jump, pool.now.mono());
        assert_eq!(started(&pool.wake(&r1)), purpose);
    }
}

#[test]
fn a_login_of_unknown_result_causes_a_check_ten_seconds_after_the_last_verification() {
    let r1 = lease("r1");
    for (seconds, pause) in [(1, 9), (30, 0)] {
        let mut pool = TestPool::serving(&r1, seconds);
        let unknown = PoolInput::LoginUnknown { generation: 1 };
        assert_eq!(pool.feed(unknown.clone()), [PoolEffect::Wake]);
        assert_eq!(pool.feed(unknown.clone()), [], "one check for all of them");
        let (waited, effects) = pool.wake_when_due(&r1);
        assert_eq!(waited.as_secs(), pause);
        assert_eq!(started(&effects), Some(Purpose::Check));
        let revision = Revision::new("r1");
        let account = Arc::from("app@db");
        let verified = PoolEffect::NotifyPoolsOfLogin { revision, account };
        assert_eq!(pool.verified(), [verified]);
        pool.feed(unknown);
        assert_eq!(pool.wake_when_due(&r1).0.as_secs(), 10);
    }
}

#[test]
fn a_check_with_an_unknown_error_is_unexplained_until_one_works() {
    let r1 = lease("r1");
    for (kind, has_unknown_login_error) in [
        (ConnectErrorKind::Other, true),
        (ConnectErrorKind::Misconfigured, true),
        (ConnectErrorKind::Unreachable, false),
        (ConnectErrorKind::Overloaded, false),
    ] {
        let mut pool = TestPool::serving(&r1, 30);
        pool.feed(PoolInput::LoginUnknown { generation: 1 });
        pool.wake(&r1);
        pool.failed(kind);
        pool.wake(&r1);
        assert_eq!(
            pool.machine.has_unknown_login_error(),
            has_unknown_login_error,
            "{kind:?}"
        );
        assert_eq!(pool.machine.failure(), Some(kind));
        let (_, effects) = pool.wake_when_due(&r1);
        assert_eq!(started(&effects), Some(Purpose::Check));
        pool.verified();
        assert!(!pool.machine.has_unknown_login_error() && pool.machine.failure().is_none());
    }
}

/// Returns a pool whose last check of this lease failed for an unknown reason.
fn unexplained(lease: &LeaseFacts) -> TestPool {
    let mut pool = TestPool::serving(lease, 30);
    pool.feed(PoolInput::LoginUnknown { generation: 1 });
    pool.wake(lease);
    pool.failed(ConnectErrorKind::Other);
    assert!(pool.machine.has_unknown_login_error());
    pool
}

#[test]
fn an_unexplained_lease_that_callers_are_rejected_with_ends_and_is_reported() {
    let (r1, revision) = (lease("r1"), Revision::new("r1"));
    for input in [
        PoolInput::CallerRejected { generation: 1 },
        PoolInput::LoginRejected { generation: 1 },
    ] {
        let mut pool = unexplained(&r1);
        assert_eq!(pool.feed(input.clone()), [REJECT, PoolEffect::Wake]);
        assert!(!pool.machine.has_unknown_login_error());
        assert_eq!(pool.machine.failure(), Some(ConnectErrorKind::Rejected));
        assert_eq!(pool.feed(input), [PoolEffect::Wake], "it ends once");
        let report = PoolEffect::ReportRejected {
            revision: revision.clone(),
        };
        assert_eq!(pool.wake(&r1), [report], "the verification is not recent");
        assert!(pool.machine.current().is_some_and(Active::is_rejected));
    }
}

#[test]
fn an_unexplained_lease_that_a_check_finds_rejected_ends_and_is_reported() {
    let (r1, revision) = (lease("r1"), Revision::new("r1"));
    let mut pool = unexplained(&r1);
    assert_eq!(started(&pool.wake_when_due(&r1).1), Some(Purpose::Check));
    let report = PoolEffect::ReportRejected {
        revision: revision.clone(),
    };
    let failure = PoolEffect::ReportFailure {
        revision,
        is_early: false,
    };
    assert_eq!(
        pool.failed(ConnectErrorKind::Rejected),
        [failure, REJECT, report.clone()]
    );
    assert!(!pool.machine.has_unknown_login_error());
    assert_eq!(pool.wake(&r1), [report], "and confirmed");
    assert!(pool.machine.current().is_some_and(Active::is_rejected));
}

#[test]
fn an_unexplained_lease_is_replaced_by_the_next_generation_as_an_accepted_one() {
    let r1 = lease("r1");
    for (mode, replaced) in [
        (HandoverMode::Replace, Some(1)),
        (HandoverMode::InPlace, None),
    ] {
        let mut pool = unexplained(&r1);
        let returned = PoolEffect::ReturnLease { generation: 1 };
        let published = PoolEffect::Publish(Publication {
            generation: 2,
            replaced,
            after_rejection: false,
            limited: None,
        });
        let mut expected = vec![published];
        expected.extend(replaced.is_none().then_some(returned));
        assert_eq!(pool.hand_over(&lease("r2"), mode), expected);
        assert!(!pool.machine.has_unknown_login_error());
        assert_eq!(pool.machine.failure(), None);
        let standing = pool.machine.current().map(|active| active.standing);
        assert_eq!(standing, Some(Standing::Accepted));
    }
}

#[test]
fn a_rejected_check_ends_the_generation_and_is_reported() {
    let r1 = lease("r1");
    let mut pool = TestPool::serving(&r1, 30);
    pool.feed(PoolInput::LoginUnknown { generation: 1 });
    pool.wake(&r1);
    let effects = pool.failed(ConnectErrorKind::Rejected);
    assert!(effects.contains(&REJECT), "{effects:?}");
    assert_eq!(reported(&effects), ["r1"]);
    assert_eq!(reported(&pool.wake(&r1)), ["r1"], "and confirmed");
}

#[test]
fn a_rejected_check_is_confirmed_shortly_after_a_verification() {
    let r1 = lease("r1");
    let mut pool = TestPool::serving(&r1, 1);
    let jump = Duration::from_secs(61);
    pool.now = Timestamp::at(pool.now.wall() + jump, pool.now.mono());
    assert_eq!(started(&pool.wake(&r1)), Some(Purpose::Check));
    pool.failed(ConnectErrorKind::Rejected);
    let effects = pool.wake(&r1);
    assert_eq!((reported(&effects), started(&effects)), (vec!["r1"], None));
}

#[test]
fn a_login_of_unknown_result_during_a_check_causes_another_ten_seconds_later() {
    let r1 = lease("r1");
    let unknown = PoolInput::LoginUnknown { generation: 1 };
    for is_lost in [false, true] {
        let mut pool = TestPool::serving(&r1, 30);
        pool.feed(unknown.clone());
        assert_eq!(started(&pool.wake(&r1)), Some(Purpose::Check));
        pool.feed(unknown.clone());
        let attempt = pool.attempt;
        if is_lost {
            pool.feed(PoolInput::Lost { attempt });
        } else {
            pool.verified();
        }
        let (pause, effects) = pool.wake_when_due(&r1);
        assert_eq!(pause.as_secs(), 10);
        assert_eq!(started(&effects), Some(Purpose::Check));
    }
}
