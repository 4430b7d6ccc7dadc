//! Drains and the close.

use super::*;

#[test]
fn a_replaced_generation_keeps_its_lease_until_it_has_drained() {
    let mut pool = TestPool::serving(&lease("r1"), 1);
    let effects = pool.hand_over(&lease("r2"), HandoverMode::Replace);
    let generation = 1;
    assert!(!effects.contains(&PoolEffect::ReturnLease { generation }));
    let start = PoolEffect::StartDrain {
        generation,
        since: pool.now.mono(),
        deadline: pool.now.mono() + DRAIN_TIMEOUT,
    };
    assert_eq!(
        pool.feed(PoolInput::StartDrains),
        std::slice::from_ref(&start)
    );
    assert_eq!(pool.feed(PoolInput::StartDrains), [], "it has a task");
    assert_eq!(
        pool.feed(PoolInput::DrainLost { generation }),
        [PoolEffect::Wake]
    );
    assert!(pool.wake(&lease("r2")).contains(&start));
    let overdue = |connections| PoolInput::DrainOverdue {
        generation,
        connections,
    };
    assert_eq!(pool.feed(overdue(0)), [], "it ends soon");
    let abandoned = PoolEffect::ReportAbandoned {
        generation,
        connections: 3,
    };
    assert_eq!(pool.feed(overdue(3)), [abandoned]);
    assert_eq!(pool.feed(overdue(3)), [], "reported once");
    assert!(!pool.machine.drains().is_empty(), "nothing is cut");
    let drained = PoolInput::Drained { generation };
    let returned = PoolEffect::ReturnLease { generation };
    assert_eq!(pool.feed(drained.clone()), [returned]);
    assert_eq!(pool.feed(drained), [], "returned once");
    assert!(pool.machine.drains().is_empty());
}

#[test]
fn a_generation_drains_before_its_lease_ends_its_connections() {
    // A margin of 10 % of the lifetime of 100 s.
    let cases = [(100, 90), (50, 40), (11, 2), (0, 2)];
    let treatments = [OldConnections::EndWithLease, OldConnections::Reauthenticate];
    let cases = treatments.map(|old| cases.map(|(left, expected)| (old, left, expected)));
    for (old_connections, left, expected) in cases.into_iter().flatten() {
        let now = Timestamp::now();
        let r1 = LeaseFacts {
            old_connections,
            ..ending("r1", now, 200)
        };
        let mut pool = TestPool::serving(&r1, 200 - left);
        pool.hand_over(&lease("r2"), HandoverMode::Replace);
        let effects = pool.feed(PoolInput::StartDrains);
        let PoolEffect::StartDrain {
            since, deadline, ..
        } = effects[0]
        else {
            panic!("{effects:?}");
        };
        let time = deadline.saturating_duration_since(since).as_millis();
        let expected = match old_connections {
            OldConnections::Reauthenticate => expected.min(DRAIN_TIMEOUT.as_millis() / 1_000),
            _ => expected,
        };
        // The pool's clock started some milliseconds after the lease.
        let range = expected * 1_000 - 50..=expected * 1_000;
        assert!(range.contains(&time), "{left}: {time}");
    }
}

#[test]
fn connections_that_outlive_their_lease_drain_until_their_own_expiry() {
    let hour = 3_600;
    for (old_connections, expected) in [
        // A margin of 10 % of the lifetime of 100 s.
        (OldConnections::EndWithLease, 12 * hour - 10),
        // Their pool was replaced, so they do not authenticate again.
        (OldConnections::Reauthenticate, DRAIN_TIMEOUT.as_secs()),
    ] {
        let now = Timestamp::now();
        let r1 = LeaseFacts {
            old_connections,
            connection_expiry: Expiry::after(now, Duration::from_secs(12 * hour)),
            ..ending("r1", now, 900)
        };
        let mut pool = TestPool::serving(&r1, 0);
        pool.hand_over(&lease("r2"), HandoverMode::Replace);
        let effects = pool.feed(PoolInput::StartDrains);
        let PoolEffect::StartDrain {
            since, deadline, ..
        } = effects[0]
        else {
            panic!("{effects:?}");
        };
        let time = deadline.saturating_duration_since(since).as_millis();
        let expected = u128::from(expected) * 1_000;
        assert!((expected - 1_000..=expected).contains(&time), "{time}");
    }
}

#[test]
fn nothing_starts_after_the_pool_was_closed() {
    let (r1, r2) = (lease("r1"), lease("r2"));
    let mut pool = TestPool::serving(&r1, 20);
    pool.wake(&r2);
    pool.verified();
    let effects = pool.feed(PoolInput::Close);
    assert!(matches!(
        effects[..],
        [PoolEffect::StartDrain { generation: 1, .. }]
    ));
    assert_eq!(pool.opened(HandoverMode::Replace), []);
    assert_eq!(pool.wake(&r2), []);
    assert_eq!(pool.feed(PoolInput::CallerRejected { generation: 1 }), []);
    assert_eq!(pool.machine.next_deadline(), None);
    assert_eq!(pool.feed(PoolInput::Close), []);
    let generation = 1;
    let effects = pool.feed(PoolInput::Drained { generation });
    assert_eq!(effects, [PoolEffect::ReturnLease { generation }]);
}

#[test]
fn a_verification_that_a_closed_pool_fails_is_not_reported_to_the_provider() {
    let mut pool = TestPool::new();
    pool.wake(&lease("r1"));
    pool.feed(PoolInput::Close);
    let effects = pool.failed(ConnectErrorKind::Rejected);
    assert_eq!(reported(&effects), [""; 0]);
}
