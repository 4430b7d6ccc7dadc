//! Rejections of the current generation and of candidates.

use super::*;

#[test]
fn a_rejection_shortly_after_a_verification_is_verified_before_it_is_reported() {
    let r1 = lease("r1");
    for (seconds, is_reported) in [(1, false), (60, true)] {
        let mut pool = TestPool::serving(&r1, seconds);
        let effects = pool.feed(PoolInput::CallerRejected { generation: 1 });
        assert_eq!(effects, [REJECT, PoolEffect::Wake]);
        let effects = pool.wake(&r1);
        assert_eq!(reported(&effects).len(), usize::from(is_reported));
        assert_eq!(started(&effects).is_some(), !is_reported, "{effects:?}");
        if !is_reported {
            let effects = pool.failed(ConnectErrorKind::Rejected);
            assert_eq!(reported(&effects), ["r1"], "and then reported");
        }
    }
}

#[test]
fn an_unconfirmed_rejection_is_reported_after_one_failed_verification_of_any_kind() {
    let r1 = lease("r1");
    for kind in [ConnectErrorKind::Unreachable, ConnectErrorKind::Other] {
        let mut pool = TestPool::serving(&r1, 1);
        pool.feed(PoolInput::CallerRejected { generation: 1 });
        pool.wake(&r1);
        assert_eq!(reported(&pool.failed(kind)), [""; 0]);
        let standing = pool.machine.current().map(|active| active.standing);
        assert_eq!(standing, Some(Standing::Rejected), "{kind:?}");
        assert_eq!(reported(&pool.wake(&r1)), ["r1"], "{kind:?}");
    }
}

#[test]
fn an_unconfirmed_rejection_is_reported_at_once_if_the_provider_has_another_lease() {
    let mut pool = TestPool::serving(&lease("r1"), 1);
    pool.feed(PoolInput::CallerRejected { generation: 1 });
    assert_eq!(reported(&pool.wake(&lease("r2"))), ["r1"]);
}

#[test]
fn an_unconfirmed_rejection_is_reported_if_the_budget_allows_no_verification() {
    let r1 = lease("r1");
    for (logins, is_reported) in [(1, false), (12, true)] {
        let mut pool = TestPool::serving(&r1, 1);
        for _ in 0..logins {
            pool.feed(PoolInput::LoginRejected { generation: 1 });
        }
        let effects = pool.wake(&r1);
        assert_eq!(reported(&effects).len(), usize::from(is_reported));
        assert_eq!(started(&effects).is_some(), !is_reported, "{effects:?}");
    }
}

#[test]
fn only_the_first_rejection_of_the_current_generation_ends_it() {
    let r1 = lease("r1");
    let mut pool = TestPool::serving(&r1, 20);
    pool.hand_over(&lease("r2"), HandoverMode::Replace);
    for input in [
        PoolInput::CallerRejected { generation: 1 },
        PoolInput::LoginRejected { generation: 1 },
    ] {
        assert_eq!(pool.feed(input), [], "an older one");
    }
    let generation = 2;
    let effects = pool.feed(PoolInput::CallerRejected { generation });
    assert_eq!(
        effects,
        [PoolEffect::Reject { generation }, PoolEffect::Wake]
    );
    let effects = pool.feed(PoolInput::CallerRejected { generation });
    assert_eq!(effects, [PoolEffect::Wake]);
}

#[test]
fn each_rejected_login_of_an_attempt_is_counted() {
    let mut pool = TestPool::new();
    let r1 = lease("r1");
    pool.wake(&r1);
    pool.verified();
    let attempt = pool.attempt;
    pool.feed(PoolInput::MoreRejected {
        attempt: attempt + 1,
        logins: 100,
    });
    pool.feed(PoolInput::MoreRejected {
        attempt,
        logins: 12,
    });
    pool.failed(ConnectErrorKind::Rejected);
    let (pause, _) = pool.wake_when_due(&r1);
    assert_eq!(pause.as_secs(), 30, "the budget of 13 is spent");
}

#[test]
fn a_rejected_login_of_a_generation_that_drains_or_has_drained_is_counted() {
    for has_drained in [false, true] {
        let mut pool = TestPool::serving(&lease("r1"), 20);
        pool.hand_over(&lease("r2"), HandoverMode::Replace);
        if has_drained {
            pool.feed(PoolInput::Drained { generation: 1 });
        }
        for _ in 0..13 {
            pool.feed(PoolInput::LoginRejected { generation: 1 });
        }
        pool.wake(&lease("r3"));
        let (pause, _) = pool.wake_when_due(&lease("r3"));
        assert_eq!(pause.as_secs(), 30, "the budget is spent: {has_drained}");
    }
}

#[test]
fn an_early_candidate_is_verified_again_without_a_report() {
    let (r1, r2) = (lease("r1"), lease("r2"));
    let mut pool = TestPool::serving(&r1, 60);
    for _ in 0..9 {
        if started(&pool.wake(&r2)).is_none() {
            pool.wake_when_due(&r2);
        }
        let effects = pool.failed(ConnectErrorKind::Rejected);
        let revision = Revision::new("r2");
        let is_early = true;
        assert_eq!(effects, [PoolEffect::ReportFailure { revision, is_early }]);
    }
}

#[test]
fn a_candidate_that_stays_rejected_is_reported_if_the_active_lease_ends_its_connections() {
    let now = Timestamp::now();
    let (r1, r2) = (ending("r1", now, 900), ending("r2", now, 900));
    let mut pool = TestPool::serving(&r1, 1);
    let mut reports = Vec::new();
    for _ in 0..4 {
        if started(&pool.wake(&r2)).is_none() {
            pool.wake_when_due(&r2);
        }
        reports.push(reported(&pool.failed(ConnectErrorKind::Rejected)).len());
    }
    assert_eq!(reports, [0, 0, 0, 1]);
}

#[test]
fn both_are_reported_if_the_active_lease_is_rejected_too() {
    let (r1, r2) = (lease("r1"), lease("r2"));
    let mut pool = TestPool::serving(&r1, 60);
    pool.feed(PoolInput::CallerRejected { generation: 1 });
    pool.wake(&r2);
    let effects = pool.failed(ConnectErrorKind::Rejected);
    assert_eq!(reported(&effects), ["r1", "r2"]);
}

#[test]
fn a_rejected_candidate_is_verified_after_the_active_lease_is_rejected() {
    let (r1, r2) = (lease("r1"), lease("r2"));
    for second in [ConnectErrorKind::Rejected, ConnectErrorKind::Unreachable] {
        let mut pool = TestPool::serving(&r1, 60);
        for kind in [ConnectErrorKind::Rejected, second] {
            if started(&pool.wake(&r2)).is_none() {
                pool.wake_when_due(&r2);
            }
            pool.failed(kind);
        }
        assert_eq!(started(&pool.wake(&r2)), None, "{second:?}");
        pool.feed(PoolInput::CallerRejected { generation: 1 });
        let effects = pool.wake(&r2);
        assert_eq!(started(&effects), Some(Purpose::HandOver), "{second:?}");
    }
}

#[test]
fn a_rejected_login_of_a_generation_updated_in_place_counts() {
    let now = Timestamp::now();
    let (r1, r2) = (ending("r1", now, 900), ending("r2", now, 900));
    let mut pool = TestPool::serving(&r1, 0);
    pool.hand_over(&r2, HandoverMode::InPlace);
    pool.feed(PoolInput::LoginRejected { generation: 1 });
    let logins = pool
        .machine
        .budget
        .logins_at_once(&r1.account, 0, pool.now.mono());
    assert!(logins.is_some());
}

#[test]
fn a_rejected_login_of_one_of_the_four_generations_before_counts() {
    for (handovers, counts) in [(1, true), (4, true), (5, false)] {
        let mut pool = TestPool::serving(&lease("r0"), 20);
        for number in 1..=handovers {
            pool.hand_over(&lease(&format!("r{number}")), HandoverMode::InPlace);
        }
        pool.feed(PoolInput::LoginRejected { generation: 1 });
        let logins = pool
            .machine
            .budget
            .logins_at_once("app@db", 0, pool.now.mono());
        assert_eq!(logins.is_some(), counts, "after {handovers} handovers");
    }
}

impl TestPool {
    /// Rehearses with this lease, which the database rejects.
    fn rehearse(&mut self, lease: &LeaseFacts) {
        let lease = lease.clone();
        let mut effects = self.feed(PoolInput::RehearsalBegins { lease });
        effects.extend(self.feed(PoolInput::RehearsalEnded { rejected: true }));
        effects.retain(|effect| !matches!(effect, PoolEffect::LimitLogins { .. }));
        assert_eq!(effects, [PoolEffect::Wake]);
    }
}

#[test]
fn a_rejected_rehearsal_counts_and_changes_nothing_else() {
    let mut pool = TestPool::serving(&lease("r1"), 60);
    pool.wake(&lease("r1"));
    let spend = |pool: &mut TestPool, number: u32| {
        let lease = lease(&format!("rehearsed {number}"));
        let now = pool.now.mono();
        let is_allowed = pool.machine.rehearsal_allowed_at(&lease, now) <= now;
        if is_allowed {
            pool.rehearse(&lease);
        }
        is_allowed
    };
    let allowed = (0..30).filter(|number| spend(&mut pool, *number)).count();
    assert!(
        (10..=13).contains(&allowed),
        "{allowed} logins in the window"
    );
    assert!(pool.machine.current().is_some_and(Active::is_accepted));
    assert_eq!(pool.machine.failure(), None);
    pool.wait(31);
    assert!(spend(&mut pool, 99), "the window has ended");
}

#[test]
fn a_rejected_rehearsal_of_the_active_lease_schedules_no_verification() {
    let lease = lease("r1");
    let mut pool = TestPool::serving(&lease, 60);
    pool.rehearse(&lease);
    let now = pool.now.mono();
    assert_eq!(pool.machine.rehearsal_allowed_at(&lease, now), now);
    assert_eq!(started(&pool.wake(&lease)), None);
}

#[test]
fn the_budget_of_an_attempt_and_of_a_rehearsal_is_reserved_while_they_log_in() {
    let (r1, r2) = (lease("r1"), lease("r2"));
    for attempt_first in [true, false] {
        let mut pool = TestPool::serving(&r1, 60);
        let now = pool.now.mono();
        // One login is left for a verification.
        let limit = 10 + budget::RESERVED_LOGINS - 2;
        for _ in 0..limit {
            pool.machine.budget.caller_rejected(&r1, now);
        }
        pool.machine.budget.cancel(&r1);
        let rehearsed = lease("rehearsed");
        let begins = PoolInput::RehearsalBegins {
            lease: rehearsed.clone(),
        };
        if attempt_first {
            let begins = started(&pool.wake(&r2));
            assert_eq!(begins, Some(Purpose::HandOver));
            assert!(pool.machine.rehearsal_allowed_at(&rehearsed, now) > now);
        } else {
            assert!(pool.machine.rehearsal_allowed_at(&rehearsed, now) <= now);
            pool.feed(begins);
            assert_eq!(started(&pool.wake(&r2)), None);
            assert!(pool.machine.is_verifying());
            let ended = PoolInput::RehearsalEnded { rejected: false };
            assert_eq!(pool.feed(ended), [PoolEffect::Wake]);
            assert_eq!(started(&pool.wake(&r2)), Some(Purpose::HandOver));
        }
    }
}

#[test]
fn a_rehearsal_leaves_the_published_logins_of_callers_free() {
    let (r0, r1, r2) = (lease("r0"), lease("r1"), lease("r2"));
    let mut pool = TestPool::new();
    let now = pool.now.mono();
    for _ in 0..10 {
        pool.machine.budget.caller_rejected(&r0, now);
    }
    pool.machine.budget.cancel(&r0);
    pool.hand_over(&r1, HandoverMode::Replace);
    // Callers, an attempt and the logins before use up the budget of 13.
    let Some((2, until)) = pool.machine.limited else {
        panic!("published {:?}", pool.machine.limited);
    };
    let rehearsed = lease("rehearsed");
    assert_eq!(pool.machine.rehearsal_allowed_at(&rehearsed, now), until);
    assert_eq!(pool.machine.rehearsal_allowed_at(&rehearsed, until), until);
    let of_other = LeaseFacts {
        account: Arc::from("other@db"),
        ..rehearsed
    };
    assert_eq!(pool.machine.rehearsal_allowed_at(&of_other, now), now);
    assert_eq!(started(&pool.wake(&r2)), Some(Purpose::HandOver));
}

#[test]
fn fewer_callers_log_in_at_a_time_after_rejected_candidates() {
    let r1 = lease("r1");
    let mut pool = TestPool::serving(&r1, 60);
    let mut limits = Vec::new();
    for number in 0..20 {
        let wrong = lease(&format!("wrong {number}"));
        let mut effects = pool.wake(&wrong);
        if started(&effects).is_none() {
            let (_, due) = pool.wake_when_due(&wrong);
            effects.extend(due);
        }
        effects.extend(pool.failed(ConnectErrorKind::Rejected));
        let until = |effect| match effect {
            PoolEffect::LimitLogins { width, .. } => Some(width),
            _ => None,
        };
        limits.extend(effects.into_iter().filter_map(until));
        if pool.machine.budget.spent("app@db") == 12 {
            break;
        }
    }
    // A pool of ten lets three of them log in at a time.
    assert_eq!(limits, [2, 1]);
}

#[test]
fn callers_wait_for_an_attempt_that_waits_for_a_rehearsal() {
    let (r1, r2) = (lease("r1"), lease("r2"));
    for rejected in [false, true] {
        let mut pool = TestPool::serving(&r1, 60);
        let now = pool.now;
        for _ in 0..11 {
            pool.machine.budget.caller_rejected(&r1, now.mono());
        }
        pool.machine.budget.cancel(&r1);
        let begins = PoolInput::RehearsalBegins {
            lease: lease("rehearsed"),
        };
        pool.feed(begins);
        assert_eq!(started(&pool.wake(&r2)), None);
        let next = |pool: &TestPool| {
            let lease = Some((&r2.revision, r2.expiry));
            pool.machine.next_attempt(lease, now)
        };
        assert_eq!(next(&pool), NextAttempt::Running);
        pool.feed(PoolInput::RehearsalEnded { rejected });
        let is_later = matches!(next(&pool), NextAttempt::Due(_));
        assert_eq!(is_later, rejected, "{:?}", next(&pool));
    }
}

#[test]
fn an_unconfirmed_rejection_waits_for_a_rehearsal() {
    let r1 = lease("r1");
    for rejected in [false, true] {
        let mut pool = TestPool::serving(&r1, 1);
        for _ in 0..11 {
            pool.feed(PoolInput::LoginRejected { generation: 1 });
        }
        let begins = PoolInput::RehearsalBegins {
            lease: lease("rehearsed"),
        };
        pool.feed(begins);
        let effects = pool.wake(&r1);
        assert_eq!((reported(&effects).len(), started(&effects)), (0, None));
        pool.feed(PoolInput::RehearsalEnded { rejected });
        let effects = pool.wake(&r1);
        assert_eq!(reported(&effects).len(), usize::from(rejected));
        assert_eq!(started(&effects).is_none(), rejected, "{effects:?}");
    }
}
