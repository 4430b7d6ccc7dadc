//! A return to the previous lease.

use super::*;

/// Returns a pool that served `r1`, serves `r2`, and is being returned to `r1`.
fn rolling_back() -> TestPool {
    let mut pool = TestPool::serving(&lease("r1"), 60);
    pool.hand_over(&lease("r2"), HandoverMode::Replace);
    pool.wait(60);
    pool.wake(&lease("r2"));
    let effects = pool.roll_back(Expiry::never());
    assert_eq!(effects, [PoolEffect::Wake]);
    pool
}

/// Returns a pool that was returned to `r1`, until this time at most.
fn rolled_back(until: Expiry) -> TestPool {
    let mut pool = TestPool::serving(&lease("r1"), 60);
    pool.hand_over(&lease("r2"), HandoverMode::Replace);
    pool.wait(60);
    pool.roll_back(until);
    let effects = pool.hand_over(&lease("r2"), HandoverMode::Replace);
    let published = |effect: &PoolEffect| matches!(effect, PoolEffect::Publish(_));
    assert!(effects.iter().any(published));
    assert!(pool.machine.is_rolled_back());
    pool
}

impl TestPool {
    fn roll_back(&mut self, until: Expiry) -> Vec<PoolEffect> {
        let Ok(lease) = self.machine.previous_lease(None).cloned() else {
            panic!("there is a previous lease");
        };
        self.feed(PoolInput::RollBack { lease, until })
    }

    fn serves(&self, revision: &str) -> bool {
        self.machine
            .current()
            .is_some_and(|active| active.lease.revision.as_str() == revision)
    }
}

#[test]
fn the_previous_lease_is_verified_and_published_as_a_new_generation() {
    let mut pool = rolling_back();
    assert_eq!(started(&pool.wake(&lease("r2"))), Some(Purpose::HandOver));
    assert!(pool.serves("r2"), "until the previous lease is verified");
    assert_eq!(pool.verified(), [PoolEffect::Open]);
    pool.opened(HandoverMode::Replace);
    pool.feed(PoolInput::Reported { attempt: 3 });
    assert!(pool.serves("r1") && pool.machine.is_rolled_back());
    assert_eq!(
        pool.machine.current().map(|active| active.generation),
        Some(3)
    );
    pool.wait(600);
    assert_eq!(
        started(&pool.wake(&lease("r2"))),
        None,
        "the provider's lease is not taken"
    );
    assert_eq!(started(&pool.wake(&lease("r3"))), None, "nor a newer one");
}

#[test]
fn the_end_of_a_rollback_returns_to_the_current_lease() {
    let mut pool = rolled_back(Expiry::never());
    pool.feed(PoolInput::Hold(None));
    assert!(pool.serves("r1"), "until the current lease is verified");
    pool.hand_over(&lease("r2"), HandoverMode::Replace);
    assert!(pool.serves("r2") && !pool.machine.is_rolled_back());
}

#[test]
fn a_later_hold_ends_a_rollback() {
    for (hold, ends) in [(Some(7), false), (Some(8), true), (None, true)] {
        let mut pool = rolled_back(Expiry::never());
        pool.feed(PoolInput::Hold(Some(7)));
        pool.feed(PoolInput::Hold(hold));
        assert_eq!(pool.machine.is_rolled_back(), !ends, "{hold:?}");
    }
}

#[test]
fn a_previous_lease_that_is_not_verified_changes_nothing() {
    for kind in [ConnectErrorKind::Rejected, ConnectErrorKind::Unreachable] {
        let mut pool = rolling_back();
        pool.wake(&lease("r2"));
        let effects = pool.failed(kind);
        assert!(effects.contains(&PoolEffect::RollBackFailed), "{effects:?}");
        let early = PoolEffect::ReportFailure {
            revision: Revision::new("r1"),
            is_early: true,
        };
        assert!(!effects.contains(&early), "it is not verified again");
        assert!(pool.serves("r2"));
        pool.wait(600);
        assert_eq!(started(&pool.wake(&lease("r2"))), None);
        assert_eq!(pool.machine.failure(), None);
    }
}

#[test]
fn the_failure_of_another_attempt_does_not_end_a_rollback() {
    let mut pool = TestPool::serving(&lease("r1"), 60);
    pool.hand_over(&lease("r2"), HandoverMode::Replace);
    pool.wake(&lease("r3"));
    pool.roll_back(Expiry::never());
    let effects = pool.failed(ConnectErrorKind::Rejected);
    assert!(!effects.contains(&PoolEffect::RollBackFailed));
    assert_eq!(started(&pool.wake(&lease("r3"))), Some(Purpose::HandOver));
    pool.verified();
    pool.opened(HandoverMode::Replace);
    assert!(pool.serves("r1"));
}

/// Otherwise callers would get the lease that a rollback leaves out, and a failed rollback would
/// stay with it.
#[test]
fn a_rollback_ends_a_handover_to_another_lease_without_a_publication() {
    for opens in [false, true] {
        let mut pool = TestPool::serving(&lease("r1"), 60);
        pool.hand_over(&lease("r2"), HandoverMode::Replace);
        pool.wake(&lease("r3"));
        if opens {
            assert_eq!(pool.verified(), [PoolEffect::Open]);
        }
        pool.roll_back(Expiry::never());
        let effects = if opens {
            pool.opened(HandoverMode::Replace)
        } else {
            pool.verified()
        };
        let continues =
            |effect: &PoolEffect| matches!(effect, PoolEffect::Publish(_) | PoolEffect::Open);
        assert!(!effects.iter().any(continues), "{effects:?}");
        assert!(pool.serves("r2"));
        assert_eq!(started(&pool.wake(&lease("r3"))), Some(Purpose::HandOver));
        pool.failed(ConnectErrorKind::Rejected);
        assert!(pool.serves("r2"), "the rollback has failed");
        assert_eq!(started(&pool.wake(&lease("r3"))), Some(Purpose::HandOver));
    }
}

#[test]
fn a_pool_without_another_lease_or_rolled_back_already_has_no_previous_one() {
    assert_eq!(
        TestPool::new().machine.previous_lease(None),
        Err(NoRollBack::NoPrevious)
    );
    let pool = TestPool::serving(&lease("r1"), 60);
    assert_eq!(
        pool.machine.previous_lease(None),
        Err(NoRollBack::NoPrevious)
    );
    let pool = rolled_back(Expiry::never());
    assert_eq!(
        pool.machine.previous_lease(None),
        Err(NoRollBack::RolledBack)
    );
}

#[test]
fn a_previous_lease_that_is_rejected_ends_the_rollback() {
    let mut pool = rolled_back(Expiry::never());
    pool.wait(60);
    let generation = 3;
    pool.feed(PoolInput::LoginRejected { generation });
    let effects = pool.wake(&lease("r2"));
    assert!(
        effects.contains(&PoolEffect::ReportRollBackEnd),
        "{effects:?}"
    );
    assert_eq!(started(&effects), Some(Purpose::HandOver));
    pool.verified();
    pool.opened(HandoverMode::Replace);
    assert!(pool.serves("r2"));
}

#[test]
fn a_previous_lease_that_expires_soon_ends_the_rollback() {
    let until = Expiry::after(Timestamp::now(), Duration::from_secs(500));
    let mut pool = rolled_back(until);
    let (pause, effects) = pool.wake_when_due(&lease("r2"));
    assert!(pause > Duration::from_secs(300), "{pause:?}");
    assert!(effects.contains(&PoolEffect::ReportRollBackEnd));
    assert_eq!(started(&effects), Some(Purpose::HandOver));
}

#[test]
fn an_abandoned_rollback_ends_unless_its_attempt_runs() {
    let mut pool = rolling_back();
    let effects = pool.feed(PoolInput::AbandonRollBack);
    assert_eq!(effects, [PoolEffect::RollBackFailed, PoolEffect::Wake]);
    assert_eq!(started(&pool.wake(&lease("r2"))), None);
    let mut pool = rolling_back();
    pool.wake(&lease("r2"));
    assert_eq!(pool.feed(PoolInput::AbandonRollBack), []);
    pool.verified();
    pool.opened(HandoverMode::Replace);
    assert!(pool.serves("r1"));
}

#[test]
fn a_wake_before_the_handover_is_reported_does_not_end_the_rollback() {
    let mut pool = rolling_back();
    pool.wake(&lease("r2"));
    pool.verified();
    pool.opened(HandoverMode::Replace);
    pool.feed(PoolInput::Hold(None));
    assert!(pool.machine.is_rolled_back(), "the provider is held next");
}

#[test]
fn an_attempt_that_is_lost_is_repeated_with_the_previous_lease() {
    let mut pool = rolling_back();
    pool.wake(&lease("r2"));
    let attempt = pool.attempt;
    pool.feed(PoolInput::Lost { attempt });
    let effects = pool.wake(&lease("r2"));
    let again = PoolEffect::StartAttempt {
        attempt: attempt + 1,
        revision: Revision::new("r1"),
        purpose: Purpose::HandOver,
    };
    assert!(effects.contains(&again), "{effects:?}");
}

#[test]
fn a_pool_that_is_closed_ends_its_rollback() {
    let mut pool = rolling_back();
    let effects = pool.feed(PoolInput::Close);
    assert!(effects.contains(&PoolEffect::RollBackFailed));
}

#[test]
fn a_rollback_does_not_end_before_its_handover_is_reported() {
    let mut pool = TestPool::serving(&lease("r1"), 60);
    pool.hand_over(&lease("r2"), HandoverMode::Replace);
    pool.roll_back(Expiry::after(pool.now, Duration::from_secs(100)));
    pool.wake(&lease("r2"));
    pool.verified();
    pool.opened(HandoverMode::Replace);
    pool.wait(200);
    let effects = pool.wake(&lease("r2"));
    assert!(
        !effects.contains(&PoolEffect::ReportRollBackEnd),
        "{effects:?}"
    );
    assert!(pool.machine.is_rolled_back(), "its caller waits");
    assert_eq!(pool.machine.next_deadline(), None, "no wake in vain");
    let attempt = pool.attempt;
    pool.feed(PoolInput::Reported { attempt });
    let effects = pool.wake(&lease("r2"));
    assert!(effects.contains(&PoolEffect::ReportRollBackEnd));
}

#[test]
fn the_lease_that_the_provider_has_is_not_a_previous_one() {
    let mut pool = rolled_back(Expiry::never());
    pool.feed(PoolInput::Hold(None));
    let current = Revision::new("r2");
    assert_eq!(
        pool.machine.previous_lease(Some(&current)),
        Err(NoRollBack::Current)
    );
    pool.hand_over(&lease("r2"), HandoverMode::Replace);
    let previous = pool.machine.previous_lease(Some(&current));
    assert_eq!(previous, Ok(&lease("r1")));
}

#[test]
fn generations_with_the_same_lease_do_not_hide_the_previous_one() {
    let (r1, r2) = (lease("r1"), lease("r2"));
    let mut pool = TestPool::serving(&r1, 60);
    pool.hand_over(&r2, HandoverMode::Replace);
    // The database rejects and accepts the lease in turn.
    for generation in 2..=6 {
        pool.wait(60);
        pool.feed(PoolInput::LoginRejected { generation });
        pool.wake(&r2);
        if pool.machine.attempt.is_none() {
            pool.wake_when_due(&r2);
        }
        pool.hand_over(&r2, HandoverMode::Replace);
    }
    assert_eq!(
        pool.machine.current().map(|active| active.generation),
        Some(7)
    );
    assert_eq!(pool.machine.previous_lease(Some(&r2.revision)), Ok(&r1));
}
