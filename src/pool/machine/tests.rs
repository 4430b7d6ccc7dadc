//! Each transition of the machine.

#![expect(clippy::panic, reason = "a test fails by panicking")]

use super::input::{LeaseFacts, Publication};
use super::*;
use crate::expiry::Expiry;
use crate::lease::OldConnections;
use crate::next_attempt::NextAttempt;
use crate::pool::factory::HandoverPolicy;
use crate::report::HandoverMode;

const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);

/// A machine and its clock.
struct TestPool {
    machine: PoolMachine,
    now: Timestamp,
    attempt: u64,
}

fn after(now: Timestamp, time: Duration) -> Timestamp {
    Timestamp::at(now.wall() + time, now.mono() + time)
}

fn lease(revision: &str) -> LeaseFacts {
    LeaseFacts {
        revision: Revision::new(revision),
        account: Arc::from("app@db"),
        expiry: Expiry::never(),
        old_connections: OldConnections::Drain,
    }
}

/// Returns a lease that ends its connections, and expires after this time.
fn ending(revision: &str, now: Timestamp, seconds: u64) -> LeaseFacts {
    LeaseFacts {
        expiry: Expiry::after(now, Duration::from_secs(seconds)),
        old_connections: OldConnections::EndWithLease,
        ..lease(revision)
    }
}

fn seeded(seed: u64) -> TestPool {
    let now = Timestamp::now();
    TestPool {
        machine: PoolMachine::new(10, DRAIN_TIMEOUT, seed, now),
        now,
        attempt: 0,
    }
}

impl TestPool {
    fn new() -> Self {
        seeded(1)
    }

    /// Returns a pool that has served this lease for some seconds.
    fn serving(lease: &LeaseFacts, seconds: u64) -> Self {
        let mut pool = Self::new();
        pool.hand_over(lease, HandoverMode::Replace);
        pool.wait(seconds);
        pool
    }

    fn wait(&mut self, seconds: u64) {
        self.now = after(self.now, Duration::from_secs(seconds));
    }

    fn feed(&mut self, input: PoolInput) -> Vec<PoolEffect> {
        let effects = self.machine.handle(input, self.now);
        for effect in &effects {
            if let PoolEffect::StartAttempt { attempt, .. } = effect {
                self.attempt = *attempt;
            }
        }
        effects
    }

    fn wake(&mut self, lease: &LeaseFacts) -> Vec<PoolEffect> {
        let lease = Some(lease.clone());
        self.feed(PoolInput::Wake { lease })
    }

    /// Wakes it at its next deadline. Returns the pause.
    fn wake_when_due(&mut self, lease: &LeaseFacts) -> (Duration, Vec<PoolEffect>) {
        let Some(at) = self.machine.next_deadline() else {
            panic!("nothing is planned");
        };
        let pause = at.saturating_duration_since(self.now.mono());
        self.now = after(self.now, pause);
        (pause, self.wake(lease))
    }

    fn verified(&mut self) -> Vec<PoolEffect> {
        let attempt = self.attempt;
        self.feed(PoolInput::Verified { attempt })
    }

    fn opened(&mut self, mode: HandoverMode) -> Vec<PoolEffect> {
        let attempt = self.attempt;
        self.feed(PoolInput::Opened {
            attempt,
            mode,
            lifetime: Some(Duration::from_secs(100)),
        })
    }

    fn failed(&mut self, kind: ConnectErrorKind) -> Vec<PoolEffect> {
        let attempt = self.attempt;
        self.feed(PoolInput::Failed { attempt, kind })
    }

    fn hand_over(&mut self, lease: &LeaseFacts, mode: HandoverMode) -> Vec<PoolEffect> {
        self.wake(lease);
        self.verified();
        let effects = self.opened(mode);
        let attempt = self.attempt;
        self.feed(PoolInput::Reported { attempt });
        effects
    }
}

fn started(effects: &[PoolEffect]) -> Option<Purpose> {
    effects.iter().find_map(|effect| match effect {
        PoolEffect::StartAttempt { purpose, .. } => Some(*purpose),
        _ => None,
    })
}

fn reported(effects: &[PoolEffect]) -> Vec<&str> {
    let report = |effect: &'_ PoolEffect| matches!(effect, PoolEffect::ReportRejected { .. });
    effects
        .iter()
        .filter(|effect| report(effect))
        .map(|effect| match effect {
            PoolEffect::ReportRejected { revision } => revision.as_str(),
            _ => "",
        })
        .collect()
}

const REJECT: PoolEffect = PoolEffect::Reject { generation: 1 };

#[test]
fn a_lease_is_verified_then_opened_then_published_then_settled() {
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
    assert_eq!(pool.wake(&r1), [], "not settled before it is reported");
    assert_eq!(
        pool.feed(PoolInput::Reported { attempt: 1 }),
        [PoolEffect::Wake]
    );
    let revision = Revision::new("r1");
    assert_eq!(pool.wake(&r1), [PoolEffect::Settle { revision }]);
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
fn a_doubted_rejection_is_reported_after_one_failed_verification_of_any_kind() {
    let r1 = lease("r1");
    let mut pool = TestPool::serving(&r1, 1);
    pool.feed(PoolInput::CallerRejected { generation: 1 });
    pool.wake(&r1);
    assert_eq!(
        reported(&pool.failed(ConnectErrorKind::Unreachable)),
        [""; 0]
    );
    assert_eq!(reported(&pool.wake(&r1)), ["r1"]);
}

#[test]
fn a_doubted_rejection_is_reported_at_once_if_the_provider_has_another_lease() {
    let mut pool = TestPool::serving(&lease("r1"), 1);
    pool.feed(PoolInput::CallerRejected { generation: 1 });
    assert_eq!(reported(&pool.wake(&lease("r2"))), ["r1"]);
}

#[test]
fn a_doubted_rejection_is_reported_if_the_budget_allows_no_verification() {
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
fn a_handover_is_in_place_as_leased_by_policy_or_with_an_equal_revision() {
    let (r1, r2) = (Revision::new("r1"), Revision::new("r2"));
    let keeping = LeaseFacts {
        old_connections: OldConnections::Keep,
        ..lease("r1")
    };
    let new = TestPool::new().machine;
    let drains = TestPool::serving(&lease("r1"), 1).machine;
    let keeps = TestPool::serving(&keeping, 1).machine;
    for (policy, expected) in [
        (HandoverPolicy::AsLeased, [false, false, true, true]),
        (HandoverPolicy::AlwaysInPlace, [false, true, true, true]),
        (HandoverPolicy::AlwaysReplace, [false, false, false, true]),
    ] {
        let tries = [(&new, &r1), (&drains, &r2), (&keeps, &r2), (&drains, &r1)];
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
    let mut pool = TestPool::serving(&r1, 60);
    for kind in [ConnectErrorKind::Rejected, ConnectErrorKind::Unreachable] {
        if started(&pool.wake(&r2)).is_none() {
            pool.wake_when_due(&r2);
        }
        pool.failed(kind);
    }
    assert_eq!(started(&pool.wake(&r2)), None);
    pool.feed(PoolInput::CallerRejected { generation: 1 });
    assert_eq!(started(&pool.wake(&r2)), Some(Purpose::HandOver));
}

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
fn a_clock_jump_leads_to_a_check() {
    let r1 = lease("r1");
    for (seconds, purpose) in [(60, None), (61, Some(Purpose::Check))] {
        let mut pool = TestPool::serving(&r1, 1);
        let jump = Duration::from_secs(seconds);
        pool.now = Timestamp::at(pool.now.wall() + jump, pool.now.mono());
        assert_eq!(started(&pool.wake(&r1)), purpose);
    }
}

#[test]
fn a_login_of_unknown_result_leads_to_a_check_ten_seconds_after_the_last_verification() {
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
        let verified = PoolEffect::ReportVerified { revision, account };
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
    assert_eq!(pool.wake(&r1), [report], "and not doubted");
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
    assert_eq!(reported(&pool.wake(&r1)), ["r1"], "and not doubted");
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
    assert_eq!(worked, [PoolEffect::ReportVerified { revision, account }]);
}

#[test]
fn a_login_elsewhere_leads_to_a_verification_of_the_rejected_lease() {
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
fn connections_of_a_lease_that_ends_them_are_probed_every_30_seconds() {
    let now = Timestamp::now();
    let r1 = ending("r1", now, 900);
    let mut pool = TestPool::serving(&r1, 0);
    let generation = 1;
    for _ in 0..3 {
        let (pause, effects) = pool.wake_when_due(&r1);
        assert_eq!(
            (pause.as_secs(), effects.last()),
            (30, Some(&PoolEffect::Probe { generation }))
        );
        assert_eq!(pool.machine.next_deadline(), None, "one probe at a time");
        let result = ProbeResult::Passed;
        pool.feed(PoolInput::Probed { generation, result });
    }
    assert_eq!(
        TestPool::serving(&lease("r1"), 0).machine.next_deadline(),
        None
    );
}

#[test]
fn unverified_connections_lead_to_probes_every_10_seconds_until_a_late_one_passes() {
    let now = Timestamp::now();
    let r1 = ending("r1", now, 900);
    let mut pool = TestPool::serving(&r1, 5);
    let generation = 1;
    let unverified = PoolInput::Unverified { generation };
    let passed = PoolInput::Probed {
        generation,
        result: ProbeResult::Passed,
    };
    let effects = pool.feed(unverified.clone());
    assert_eq!(
        effects,
        [PoolEffect::ProbeBeforeUse { generation }, PoolEffect::Wake]
    );
    let probe = PoolEffect::Probe { generation };
    assert!(pool.wake(&r1).contains(&probe), "at once");
    assert_eq!(pool.feed(passed.clone()), [], "too early to settle it");
    assert_eq!(pool.wake_when_due(&r1).0.as_secs(), 10);
    pool.feed(unverified);
    assert_eq!(pool.feed(passed.clone()), [], "another one came meanwhile");
    assert_eq!(pool.wake_when_due(&r1).0.as_secs(), 10);
    let result = ProbeResult::Unknown;
    assert_eq!(pool.feed(PoolInput::Probed { generation, result }), []);
    assert_eq!(pool.wake_when_due(&r1).0.as_secs(), 10);
    assert_eq!(pool.feed(passed), [PoolEffect::StopProbing { generation }]);
    assert_eq!(pool.wake_when_due(&r1).0.as_secs(), 30);
}

#[test]
fn a_rejected_probe_ends_its_generation_alone() {
    let now = Timestamp::now();
    let (r1, r2) = (ending("r1", now, 900), ending("r2", now, 900));
    let rejected = PoolInput::Probed {
        generation: 1,
        result: ProbeResult::Rejected,
    };
    let mut pool = TestPool::serving(&r1, 0);
    pool.wake_when_due(&r1);
    assert_eq!(pool.feed(rejected.clone()), [REJECT, PoolEffect::Wake]);
    assert_eq!(pool.feed(rejected.clone()), [], "it was handled");
    let mut pool = TestPool::serving(&r1, 0);
    pool.wake_when_due(&r1);
    pool.hand_over(&r2, HandoverMode::Replace);
    assert_eq!(pool.feed(rejected), []);
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
        .logins_at_once(&r1.account, pool.now.mono());
    assert!(logins.is_some());
}

#[test]
fn a_rejected_login_in_a_probes_place_counts_as_a_failed_login() {
    let now = Timestamp::now();
    let r1 = ending("r1", now, 900);
    for (result, limited) in [
        (ProbeResult::Rejected, false),
        (ProbeResult::LoginRejected, true),
    ] {
        let mut pool = TestPool::serving(&r1, 0);
        pool.wake_when_due(&r1);
        let generation = 1;
        pool.feed(PoolInput::Probed { generation, result });
        let logins = pool
            .machine
            .budget
            .logins_at_once(&r1.account, pool.now.mono());
        assert_eq!(logins.is_some(), limited);
    }
}

#[test]
fn nothing_is_probed_once_the_lease_has_expired() {
    let start = Timestamp::now();
    let r1 = ending("r1", start, 20);
    let mut pool = TestPool::serving(&r1, 0);
    for seconds in 0..120 {
        pool.feed(PoolInput::Unverified { generation: 1 });
        let effects = pool.feed(PoolInput::Wake { lease: None });
        let probe = PoolEffect::Probe { generation: 1 };
        assert!(seconds < 20 || !effects.contains(&probe), "{seconds} s");
        pool.feed(PoolInput::Probed {
            generation: 1,
            result: ProbeResult::Unknown,
        });
        let next = pool.machine.next_deadline();
        assert!(next.is_none_or(|next| next > pool.now.mono()), "{next:?}");
        pool.wait(1);
    }
}

#[test]
fn a_lease_that_was_extended_after_it_had_expired_is_probed_at_once() {
    let now = Timestamp::now();
    let r1 = ending("r1", now, 20);
    let mut pool = TestPool::serving(&r1, 60);
    pool.wake(&r1);
    let effects = pool.wake(&ending("r1", now, 900));
    assert!(effects.contains(&PoolEffect::Probe { generation: 1 }));
    assert_eq!(pool.machine.next_deadline(), None);
}

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
    for (left, expected) in [(100, 90), (50, 40), (11, 2), (0, 2)] {
        let now = Timestamp::now();
        let r1 = ending("r1", now, 200);
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
        // The pool's clock started some milliseconds after the lease.
        let range = expected * 1_000 - 50..=expected * 1_000;
        assert!(range.contains(&time), "{left}: {time}");
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
        "a check helps nobody"
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
