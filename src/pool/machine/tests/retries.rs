//! Pauses between verifications, and what ends them early.

use super::*;

#[test]
fn a_verification_that_fails_without_a_rejection_is_retried_with_back_off() {
    let r1 = lease("r1");
    let r2 = lease("r2");
    for (kind, seconds) in [
        (ConnectErrorKind::Unreachable, [1, 2, 4, 8, 15]),
        (ConnectErrorKind::Misconfigured, [15; 5]),
    ] {
        let mut pool = TestPool::serving(&r1, 1);
        pool.wake(&r2);
        for expected in seconds {
            let effects = pool.failed(kind);
            assert_eq!(reported(&effects), [""; 0]);
            let (pause, effects) = pool.wake_when_due(&r2);
            assert_eq!(started(&effects), Some(Purpose::HandOver));
            let expected = Duration::from_secs(expected);
            let range = expected..=expected.mul_f64(1.1);
            assert!(range.contains(&pause), "{kind:?} {pause:?}");
        }
    }
}

#[test]
fn a_server_that_is_unreachable_is_tried_every_second_while_no_caller_logs_in() {
    let r1 = lease("r1");
    let mut rejected = TestPool::serving(&r1, 1);
    rejected.feed(PoolInput::CallerRejected { generation: 1 });
    let mut expired = TestPool::new();
    let short = ending("r0", expired.now, 10);
    expired.hand_over(&short, HandoverMode::Replace);
    expired.wait(20);
    for (mut pool, lease) in [
        (TestPool::new(), r1.clone()),
        (rejected, lease("r2")),
        (expired, r1),
    ] {
        pool.wake(&lease);
        for _ in 0..20 {
            pool.failed(ConnectErrorKind::Unreachable);
            let (pause, effects) = pool.wake_when_due(&lease);
            assert_eq!(started(&effects), Some(Purpose::HandOver));
            let range = Duration::from_millis(500)..Duration::from_secs(1);
            assert!(range.contains(&pause), "{pause:?}");
        }
    }
}

/// Its password may have been sent, and rejected after the verify deadline.
#[test]
fn a_verification_that_takes_a_second_is_retried_with_back_off() {
    let r1 = lease("r1");
    let mut pool = TestPool::new();
    pool.wake(&r1);
    for expected in [1, 2, 4, 8, 15] {
        pool.wait(5);
        pool.failed(ConnectErrorKind::Unreachable);
        let (pause, _) = pool.wake_when_due(&r1);
        let expected = Duration::from_secs(expected);
        let range = expected..=expected.mul_f64(1.1);
        assert!(range.contains(&pause), "{pause:?}");
    }
}

#[test]
fn pauses_between_verifications_differ_from_pool_to_pool() {
    let r1 = lease("r1");
    let mut pauses = std::collections::HashSet::new();
    for seed in 0..8 {
        let mut pool = seeded(seed);
        pool.wake(&r1);
        pool.failed(ConnectErrorKind::Unreachable);
        pauses.insert(pool.wake_when_due(&r1).0);
    }
    assert!(pauses.len() > 4, "{pauses:?}");
}

#[test]
fn a_failure_of_another_lease_is_over_with_that_lease() {
    let (r1, r2) = (lease("r1"), lease("r2"));
    let mut pool = TestPool::serving(&r1, 30);
    pool.wake(&r2);
    pool.failed(ConnectErrorKind::Rejected);
    assert_eq!(pool.machine.failure(), Some(ConnectErrorKind::Rejected));
    pool.wake(&r1);
    assert_eq!(pool.machine.failure(), None);
}

#[test]
fn a_login_that_worked_is_reported_for_the_current_generation_alone() {
    let mut pool = TestPool::serving(&lease("r1"), 1);
    pool.hand_over(&lease("r2"), HandoverMode::Replace);
    assert_eq!(pool.feed(PoolInput::LoginWorked { generation: 1 }), []);
    let (revision, account) = (Revision::new("r2"), Arc::from("app@db"));
    let worked = pool.feed(PoolInput::LoginWorked { generation: 2 });
    assert_eq!(
        worked,
        [PoolEffect::NotifyPoolsOfLogin { revision, account }]
    );
}

#[test]
fn a_login_elsewhere_causes_a_verification_of_the_rejected_lease() {
    let (r1, r2) = (lease("r1"), lease("r2"));
    let mut pool = TestPool::serving(&r1, 60);
    let elsewhere = |revision: &str| PoolInput::VerifiedElsewhere {
        revision: Revision::new(revision),
        account: Arc::from("app@db"),
    };
    assert_eq!(pool.feed(elsewhere("r1")), [], "it is accepted here, too");
    pool.wake(&r2);
    for _ in 0..5 {
        pool.failed(ConnectErrorKind::Rejected);
        assert_eq!(pool.feed(elsewhere("r3")), [], "another one");
        pool.feed(elsewhere("r2"));
        assert_eq!(pool.feed(elsewhere("r2")), [], "once each");
        let (pause, effects) = pool.wake_when_due(&r2);
        assert_eq!(started(&effects), Some(Purpose::HandOver));
        assert!(pause <= Duration::from_millis(1_100), "{pause:?}");
    }
    // With steady logins elsewhere, too.
    let mut verifications = 0;
    for _ in 0..50 {
        pool.failed(ConnectErrorKind::Rejected);
        pool.feed(elsewhere("r2"));
        pool.now = after(pool.now, Duration::from_millis(50));
        verifications += usize::from(started(&pool.wake(&r2)).is_some());
    }
    assert!((1..=3).contains(&verifications), "{verifications} in 2.5 s");
}

#[test]
fn a_login_elsewhere_causes_a_verification_of_a_lease_that_was_never_tried() {
    let (r1, r2, r3) = (lease("r1"), lease("r2"), lease("r3"));
    let elsewhere = || PoolInput::VerifiedElsewhere {
        revision: Revision::new("r3"),
        account: Arc::from("app@db"),
    };
    for is_known in [true, false] {
        let mut pool = TestPool::serving(&r1, 60);
        (0..10).for_each(|_| drop(pool.feed(PoolInput::LoginRejected { generation: 1 })));
        assert!(started(&pool.wake(&r2)).is_some(), "with the reserve");
        pool.failed(ConnectErrorKind::Rejected);
        if is_known {
            assert_eq!(started(&pool.wake(&r3)), None);
            assert_eq!(pool.feed(elsewhere()), [PoolEffect::Wake]);
            assert_eq!(pool.feed(elsewhere()), [], "once");
        } else {
            assert_eq!(pool.feed(elsewhere()), [], "the wake follows");
        }
        assert_eq!(started(&pool.wake(&r3)), Some(Purpose::HandOver));
    }
}

#[test]
fn a_login_elsewhere_shortens_the_back_off_to_a_second_if_it_is_to_the_same_server() {
    let (r1, r2) = (lease("r1"), lease("r2"));
    let elsewhere = |account| PoolInput::VerifiedElsewhere {
        revision: Revision::new("r2"),
        account: Arc::from(account),
    };
    for (kind, shortened) in [
        (ConnectErrorKind::Unreachable, true),
        (ConnectErrorKind::Misconfigured, false),
    ] {
        let mut pool = TestPool::serving(&r1, 60);
        pool.wake(&r2);
        for _ in 0..5 {
            pool.failed(kind);
            assert_eq!(pool.feed(elsewhere("app@another")), []);
            let wakes: Vec<_> = (0..2).map(|_| pool.feed(elsewhere("app@db"))).collect();
            let once = shortened.then_some(PoolEffect::Wake);
            assert_eq!(wakes, [Vec::from_iter(once), vec![]]);
            let (pause, effects) = pool.wake_when_due(&r2);
            assert_eq!(pause == Duration::from_secs(1), shortened, "{pause:?}");
            assert_eq!(started(&effects), Some(Purpose::HandOver));
        }
    }
}

#[test]
fn the_next_attempt_is_one_that_may_help_callers() {
    let (r1, r2) = (lease("r1"), lease("r2"));
    let next_attempt = |pool: &TestPool, lease: &LeaseFacts| {
        let known = (&lease.revision, lease.expiry);
        pool.machine.next_attempt(Some(known), pool.now)
    };
    let mut pool = TestPool::new();
    assert_eq!(
        pool.machine.next_attempt(None, pool.now),
        NextAttempt::Never
    );
    assert_eq!(
        next_attempt(&pool, &r1),
        NextAttempt::Running,
        "before the wake"
    );
    pool.wake(&r1);
    assert_eq!(
        next_attempt(&pool, &r1),
        NextAttempt::Running,
        "an attempt runs"
    );
    pool.failed(ConnectErrorKind::Unreachable);
    let at = pool.machine.next_deadline();
    assert_eq!(Some(next_attempt(&pool, &r1)), at.map(NextAttempt::Due));
    pool.wake_when_due(&r1);
    pool.verified();
    pool.opened(HandoverMode::Replace);
    pool.feed(PoolInput::Reported { attempt: 2 });
    pool.wake(&r1);
    assert_eq!(next_attempt(&pool, &r1), NextAttempt::Never, "it is active");
    assert_eq!(
        next_attempt(&pool, &r2),
        NextAttempt::Running,
        "before the wake"
    );
    pool.feed(PoolInput::LoginUnknown { generation: 1 });
    assert_eq!(
        next_attempt(&pool, &r1),
        NextAttempt::Never,
        "a check helps no caller"
    );
    pool.wait(60);
    pool.feed(PoolInput::CallerRejected { generation: 1 });
    assert_eq!(
        next_attempt(&pool, &r1),
        NextAttempt::Running,
        "before the wake"
    );
    pool.wake(&r1);
    pool.failed(ConnectErrorKind::Rejected);
    assert!(matches!(next_attempt(&pool, &r1), NextAttempt::Due(_)));
    pool.feed(PoolInput::Close);
    assert_eq!(next_attempt(&pool, &r1), NextAttempt::Never);
}

#[test]
fn a_login_elsewhere_causes_a_verification_of_the_rejected_active_lease() {
    let r1 = lease("r1");
    let mut pool = TestPool::serving(&r1, 60);
    pool.feed(PoolInput::CallerRejected { generation: 1 });
    pool.wake(&r1);
    for _ in 0..3 {
        pool.wake_when_due(&r1);
        pool.failed(ConnectErrorKind::Rejected);
    }
    let elsewhere = PoolInput::VerifiedElsewhere {
        revision: Revision::new("r1"),
        account: Arc::from("app@db"),
    };
    assert_eq!(pool.feed(elsewhere), [PoolEffect::Wake]);
    let (pause, effects) = pool.wake_when_due(&r1);
    assert_eq!(pause, Duration::from_secs(1));
    assert_eq!(started(&effects), Some(Purpose::HandOver));
}
