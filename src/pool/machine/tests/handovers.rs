//! From a verified lease to the next generation.

use super::*;

#[test]
fn a_lease_is_verified_then_opened_then_published_then_reported() {
    let (mut pool, r1) = (TestPool::new(), lease("r1"));
    assert_eq!(started(&pool.wake(&r1)), Some(Purpose::HandOver));
    assert_eq!(pool.wake(&r1), [], "one attempt at a time");
    assert_eq!(pool.verified(), [PoolEffect::Open]);
    let published = PoolEffect::Publish(Publication {
        generation: 1,
        replaced: None,
        after_rejection: false,
        limited: None,
    });
    assert_eq!(pool.opened(HandoverMode::Replace), [published]);
    assert_eq!(
        pool.wake(&r1),
        [],
        "not before the handover is in the report"
    );
    assert_eq!(
        pool.feed(PoolInput::Reported { attempt: 1 }),
        [PoolEffect::Wake]
    );
    let revision = Revision::new("r1");
    assert_eq!(pool.wake(&r1), [PoolEffect::ReportServing { revision }]);
    assert_eq!(pool.machine.next_deadline(), None);
}

#[test]
fn nothing_is_published_without_a_verification() {
    let (mut pool, r1) = (TestPool::new(), lease("r1"));
    pool.wake(&r1);
    assert_eq!(pool.opened(HandoverMode::Replace), []);
    assert!(pool.machine.current().is_none());
}

#[test]
fn results_of_another_attempt_change_nothing() {
    let (mut pool, r1) = (TestPool::new(), lease("r1"));
    pool.wake(&r1);
    let (attempt, kind) = (7, ConnectErrorKind::Other);
    for input in [
        PoolInput::Verified { attempt },
        PoolInput::Failed { attempt, kind },
        PoolInput::Lost { attempt },
        PoolInput::Reported { attempt },
    ] {
        assert_eq!(pool.feed(input), []);
    }
    assert!(pool.machine.has_attempt() && pool.machine.failure().is_none());
}

#[test]
fn an_attempt_whose_task_is_lost_is_started_again() {
    let (mut pool, r1) = (TestPool::new(), lease("r1"));
    pool.wake(&r1);
    assert_eq!(
        pool.feed(PoolInput::Lost { attempt: 1 }),
        [PoolEffect::Wake]
    );
    assert_eq!(started(&pool.wake(&r1)), Some(Purpose::HandOver));
    pool.verified();
    pool.opened(HandoverMode::Replace);
    pool.feed(PoolInput::Lost { attempt: 2 });
    assert_eq!(started(&pool.wake(&r1)), None, "it was published");
}

#[test]
fn an_equal_revision_is_extended_and_not_handed_over() {
    let mut pool = TestPool::serving(&lease("r1"), 1);
    let expiry = Expiry::after(pool.now, Duration::from_secs(500));
    let renewed = LeaseFacts {
        expiry,
        ..lease("r1")
    };
    let effects = pool.wake(&renewed);
    let generation = 1;
    assert_eq!(effects[0], PoolEffect::Extend { generation, expiry });
    assert_eq!(started(&effects), None);
    let lifetime = pool.machine.current().and_then(|active| active.lifetime);
    assert_eq!(lifetime, Some(Duration::from_secs(500)));
    assert_eq!(started(&pool.wake(&renewed)), None);
}

#[test]
fn an_expired_lease_is_not_verified() {
    let mut pool = TestPool::new();
    let r1 = ending("r1", pool.now, 5);
    pool.wait(5);
    assert_eq!(pool.wake(&r1), []);
    assert_eq!(pool.machine.next_deadline(), None);
}

#[test]
fn a_rejected_revision_that_is_verified_again_is_published_as_a_new_generation() {
    let r1 = lease("r1");
    let mut pool = TestPool::serving(&r1, 1);
    pool.feed(PoolInput::LoginRejected { generation: 1 });
    let effects = pool.hand_over(&r1, HandoverMode::InPlace);
    let PoolEffect::Publish(publication) = &effects[0] else {
        panic!("{effects:?}");
    };
    assert_eq!((publication.generation, publication.replaced), (2, None));
    assert!(publication.after_rejection);
    // Of the 13 logins, one has failed and one is reserved; the pool's maximum is 10.
    assert_eq!(publication.limited.map(|(width, _)| width), Some(10));
    assert_eq!(effects[1], PoolEffect::ReturnLease { generation: 1 });
}

#[test]
fn a_handover_is_in_place_as_leased_by_policy_or_with_an_equal_revision() {
    let (r1, r2) = (Revision::new("r1"), Revision::new("r2"));
    let keeping = LeaseFacts {
        old_connections: OldConnections::Keep,
        ..lease("r1")
    };
    let authenticating = LeaseFacts {
        old_connections: OldConnections::Reauthenticate,
        ..lease("r1")
    };
    let new = TestPool::new().machine;
    let drains = TestPool::serving(&lease("r1"), 1).machine;
    let keeps = TestPool::serving(&keeping, 1).machine;
    let authenticates = TestPool::serving(&authenticating, 1).machine;
    for (policy, expected) in [
        (HandoverPolicy::AsLeased, [false, false, true, true, true]),
        (
            HandoverPolicy::AlwaysInPlace,
            [false, true, true, true, true],
        ),
        (
            HandoverPolicy::AlwaysReplace,
            [false, false, false, false, true],
        ),
    ] {
        let tries = [
            (&new, &r1),
            (&drains, &r2),
            (&keeps, &r2),
            (&authenticates, &r2),
            (&drains, &r1),
        ];
        let tries = tries.map(|(machine, revision)| machine.tries_in_place(revision, policy));
        assert_eq!(tries, expected, "{policy:?}");
    }
}

#[test]
fn connections_are_opened_before_publication_within_the_overlap() {
    let new = TestPool::new();
    assert_eq!(new.machine.ahead_of_demand(false, 8, 3), 8);
    let mut pool = TestPool::serving(&lease("r1"), 1);
    for (has_old, wanted, overlap, expected) in [
        (false, 8, 3, 2),
        (false, 0, 3, 1),
        (false, 8, 1, 0),
        (true, 8, 3, 0),
    ] {
        let ahead = pool.machine.ahead_of_demand(has_old, wanted, overlap);
        assert_eq!(ahead, expected, "{has_old} {wanted} {overlap}");
    }
    pool.feed(PoolInput::CallerRejected { generation: 1 });
    assert_eq!(pool.machine.ahead_of_demand(false, 8, 3), 1);
    assert_eq!(pool.machine.ahead_of_demand(true, 8, 3), 0);
}

#[test]
fn an_attempt_that_fails_after_its_publication_is_over_without_a_failure() {
    let (mut pool, r1) = (TestPool::new(), lease("r1"));
    pool.wake(&r1);
    pool.verified();
    pool.opened(HandoverMode::Replace);
    assert_eq!(pool.failed(ConnectErrorKind::Other), []);
    assert!(!pool.machine.has_attempt() && pool.machine.failure().is_none());
    let revision = Revision::new("r1");
    assert_eq!(pool.wake(&r1), [PoolEffect::ReportServing { revision }]);
}
