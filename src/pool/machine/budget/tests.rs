use proptest::prelude::*;

use super::account::{LATER_WINDOW, MAX_REFUNDS, WINDOW};
use super::*;
use crate::expiry::Expiry;
use crate::lease::OldConnections;

fn lease_of(user: &str, revision: &str) -> LeaseFacts {
    LeaseFacts {
        revision: Revision::new(revision),
        account: Arc::from(user),
        expiry: Expiry::never(),
        old_connections: OldConnections::Drain,
        connection_expiry: Expiry::never(),
    }
}

fn lease(revision: impl ToString) -> LeaseFacts {
    lease_of("app", &revision.to_string())
}

fn with_max(max: u32) -> LoginBudget {
    LoginBudget::new(max, fastrand::Rng::with_seed(1))
}

fn start_of_test() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Returns a candidate's longest wait for its next verification while only the active revision is
/// rejected: in the first window, and in later ones.
fn longest_waits(max: u32) -> [Duration; 2] {
    let start = start_of_test();
    let (mut budget, revision) = (with_max(max), lease("r"));
    budget.rejected(&lease("served"), start);
    let mut longest = [Duration::ZERO; 2];
    let mut now = start;
    while now < start + Duration::from_secs(90) {
        budget.verification_rejected(&revision, Role::Candidate, now);
        let next = budget.next_at(&revision, 0, now);
        let window = usize::from(now >= start + WINDOW);
        longest[window] = longest[window].max(next - now);
        now = next;
    }
    longest
}

#[test]
fn a_rejected_candidate_is_verified_again_at_an_even_pace_without_a_gap() {
    for max in [1, 2, 4, 10, 20] {
        let slack = if max < 4 {
            Duration::from_secs(3)
        } else {
            Duration::from_secs(1)
        };
        let [first, second] = longest_waits(max);
        assert!(first <= WINDOW / (max + 3) + slack, "{max}: {first:?}");
        assert!(
            second <= LATER_WINDOW / (max + 3) + slack,
            "{max}: {second:?}"
        );
    }
}

#[test]
fn the_window_opens_with_the_first_failed_login() {
    let start = start_of_test();
    let (mut budget, revision) = (with_max(10), lease("r"));
    // A probe finds that the role was dropped: a rejection without a login.
    budget.rejected(&revision, start);
    let first = start + Duration::from_secs(20);
    let (mut now, mut failed) = (first, 0);
    while now < first + WINDOW {
        budget.verification_rejected(&revision, Role::Active, now);
        failed += 1;
        now = budget.next_at(&revision, 0, now);
    }
    assert!((11..=13).contains(&failed), "{failed}");
}

#[test]
fn a_candidate_that_is_early_is_verified_again_within_200_milliseconds() {
    let now = start_of_test();
    for max in [1, 4, 10] {
        let (mut budget, revision) = (with_max(max), lease("r"));
        budget.verification_rejected(&revision, Role::Candidate, now);
        let pause = budget.next_at(&revision, 0, now) - now;
        assert!((100..=200).contains(&pause.as_millis()), "{pause:?}");
    }
}

#[test]
fn a_rejected_candidate_is_verified_at_once_after_a_change() {
    let now = start_of_test();
    let (mut budget, revision) = (with_max(10), lease("r"));
    for _ in 0..3 {
        budget.verification_rejected(&revision, Role::Candidate, now);
    }
    assert!(budget.next_at(&revision, 0, now) > now);
    budget.retry_now(&revision, now);
    assert_eq!(budget.next_at(&revision, 0, now), now);
}

#[test]
fn after_a_success_of_another_revision_a_rejected_one_is_verified_within_a_second() {
    let now = start_of_test();
    let (mut budget, bad, good) = (with_max(4), lease("bad"), lease("good"));
    for _ in 0..3 {
        budget.verification_rejected(&bad, Role::Candidate, now);
    }
    budget.worked(&good, now);
    assert!(budget.next_at(&bad, 0, now) <= now + Duration::from_secs(1));
}

#[test]
fn a_file_rewritten_each_second_with_wrong_passwords_costs_one_budget() {
    let start = start_of_test();
    let mut budget = with_max(10);
    let mut failed = 0;
    for second in 0..30 {
        let now = start + Duration::from_secs(second);
        let revision = lease(second);
        if budget.next_at(&revision, 0, now) <= now {
            budget.verification_rejected(&revision, Role::Candidate, now);
            failed += 1;
        }
    }
    assert!((11..=13).contains(&failed), "{failed}");
    // The right one waits at most for the pause between revisions that were never tried.
    let mut budget = with_max(10);
    for second in 0..15 {
        let now = start + Duration::from_secs(second);
        let revision = lease(second);
        if budget.next_at(&revision, 0, now) <= now {
            budget.verification_rejected(&revision, Role::Candidate, now);
        }
    }
    let now = start + Duration::from_secs(15);
    assert!(budget.next_at(&lease("right"), 0, now) <= now + NEVER_TRIED_EVERY);
}

/// Returns this budget of four after as many callers of the active revision were rejected.
fn with_rejected_callers(
    mut budget: LoginBudget,
    served: &LeaseFacts,
    now: Instant,
) -> LoginBudget {
    (0..4).for_each(|_| budget.caller_rejected(served, now));
    budget
}

#[test]
fn a_revision_that_was_accepted_late_does_not_delay_the_next_one() {
    let start = start_of_test();
    for seconds in [10, 35] {
        let (mut budget, second) = (with_max(4), lease("second"));
        (0..2).for_each(|_| budget.verification_rejected(&second, Role::Candidate, start));
        budget.worked(&second, start + Duration::from_secs(5));
        budget.superseded_by(&second);
        let now = start + Duration::from_secs(seconds);
        let mut budget = with_rejected_callers(budget, &second, now);
        (0..2).for_each(|_| budget.verification_rejected(&second, Role::Active, now));
        assert_eq!(budget.next_at(&lease("third"), 0, now), now, "{seconds}");
    }
}

#[test]
fn a_rejected_revision_of_an_earlier_window_does_not_delay_the_next_one() {
    let start = start_of_test();
    let (mut budget, served) = (with_max(4), lease("served"));
    budget.verification_rejected(&lease("wrong"), Role::Candidate, start);
    let now = start + WINDOW + Duration::from_secs(1);
    budget = with_rejected_callers(budget, &served, now);
    (0..2).for_each(|_| budget.verification_rejected(&served, Role::Active, now));
    assert_eq!(budget.next_at(&lease("right"), 0, now), now);
}

#[test]
fn a_revision_that_works_elsewhere_is_verified_at_once_within_the_budget() {
    let now = start_of_test();
    let (served, right) = (lease("served"), lease("right"));
    let mut budget = with_rejected_callers(with_max(4), &served, now);
    budget.verification_rejected(&lease("wrong"), Role::Candidate, now);
    assert!(budget.next_at(&right, 0, now) >= now + NEVER_TRIED_EVERY);
    assert!(!budget.worked_elsewhere("other", &right.revision, now));
    assert!(budget.worked_elsewhere("app", &right.revision, now));
    assert!(
        !budget.worked_elsewhere("app", &right.revision, now),
        "once"
    );
    assert_eq!(budget.next_at(&right, 0, now), now);
    // It is rejected here, too: once more a second later, after another login elsewhere.
    budget.verification_rejected(&right, Role::Candidate, now);
    assert!(budget.next_at(&right, 0, now) >= now + NEVER_TRIED_EVERY);
    budget.worked_elsewhere("app", &right.revision, now);
    assert!(budget.next_at(&right, 0, now) <= now + RETRY_PAUSES[1]);
    budget.verification_rejected(&right, Role::Candidate, now);
    let last = lease("last");
    budget.worked_elsewhere("app", &last.revision, now);
    assert_eq!(
        budget.next_at(&last, 0, now),
        now + WINDOW,
        "the budget is used up"
    );
}

#[test]
fn users_have_budgets_of_their_own() {
    let now = start_of_test();
    let mut budget = with_max(1);
    for revision in 0..4 {
        budget.verification_rejected(&lease(revision), Role::Candidate, now);
    }
    assert_eq!(budget.next_at(&lease("new"), 0, now), now + WINDOW);
    assert_eq!(budget.next_at(&lease_of("other", "new"), 0, now), now);
}

#[test]
fn rotations_may_be_rolled_back_one_after_the_other() {
    let start = start_of_test();
    let (mut budget, first) = (with_max(10), lease("first"));
    let mut failed = 0;
    for round in 0..100 {
        let now = start + round * Duration::from_millis(250);
        if budget.next_at(&first, 0, now) > now {
            break;
        }
        budget.worked(&first, now);
        budget.caller_rejected(&first, now);
        failed += 1;
        budget.superseded_by(&lease(round));
    }
    assert!(failed > 13 + MAX_REFUNDS - 3, "{failed}");
    assert!(failed <= 13 + MAX_REFUNDS, "{failed}");
}

#[test]
fn a_revision_that_the_database_accepts_late_costs_nothing() {
    let start = start_of_test();
    let mut budget = with_max(4);
    for round in 0..10 {
        let (now, revision) = (start + round * Duration::from_millis(200), lease(round));
        assert_eq!(budget.next_at(&revision, 0, now), now, "{round}");
        budget.verification_rejected(&revision, Role::Candidate, now);
        budget.worked(&revision, now + Duration::from_millis(100));
        budget.superseded_by(&revision);
    }
}

proptest! {
    /// A window costs at most max + 3, as long as each round of callers stays within its limit.
    #[test]
    fn a_window_costs_at_most_max_plus_three(
        max in 1u32..20,
        steps in prop::collection::vec((0u64..8_000, 0u8..5, any::<bool>()), 1..300),
    ) {
        let start = start_of_test();
        let mut budget = with_max(max);
        let served = lease("served");
        let mut now = start;
        let mut rejected = false;
        let mut candidates = 0;
        for (step, kind, good) in steps {
            now += Duration::from_millis(step);
            let candidate = lease(candidates);
            if kind == 4 {
                candidates += 1;
            } else if kind == 3 {
                if budget.next_at(&candidate, 0, now) <= now {
                    budget.verification_rejected(&candidate, Role::Candidate, now);
                }
            } else if !rejected {
                let count = budget.logins_at_once("app", 0, now).map_or(max, |(logins, _)| logins);
                (0..count).for_each(|_| budget.caller_rejected(&served, now));
                rejected = true;
            } else if kind == 0 {
                budget.retry_now(&served, now);
            } else if budget.next_at(&served, 0, now) <= now {
                if good {
                    budget.worked(&served, now);
                    rejected = false;
                } else {
                    budget.verification_rejected(&served, Role::Active, now);
                }
            }
            if let Some(account) = budget.accounts.get("app") {
                let most = max + RESERVED_LOGINS;
                prop_assert!(account.spent <= most, "{} of {most}", account.spent);
            }
        }
    }

    /// The database accepts and rejects one revision in turn, and a caller's result arrives while
    /// the verification runs. Without a rotation, nothing is refunded.
    #[test]
    fn late_results_of_callers_stay_within_the_budget(
        max in 1u32..20,
        rounds in prop::collection::vec((0u64..2_000, any::<bool>(), any::<bool>()), 1..60),
    ) {
        let start = start_of_test();
        let (mut budget, served) = (with_max(max), lease("served"));
        let (mut now, mut failed) = (start, 0);
        let mut rejected = false;
        for (step, good, late) in rounds {
            now += Duration::from_millis(step);
            if !rejected {
                budget.caller_rejected(&served, now);
                failed += 1;
            }
            rejected = true;
            now = now.max(budget.next_at(&served, 0, now));
            if now >= start + WINDOW {
                break;
            }
            if late {
                budget.caller_rejected(&served, now);
                failed += 1;
            }
            if good {
                budget.worked(&served, now);
                rejected = false;
            } else {
                budget.verification_rejected(&served, Role::Active, now);
                failed += 1;
            }
            prop_assert!(failed <= max + RESERVED_LOGINS, "{failed} of {}", max + RESERVED_LOGINS);
        }
    }

    /// A rejected revision is always verified again.
    #[test]
    fn the_next_verification_is_at_most_a_window_away(max in 1u32..20, failures in 1usize..60) {
        let mut now = start_of_test();
        let (mut budget, revision) = (with_max(max), lease("r"));
        for _ in 0..failures {
            budget.verification_rejected(&revision, Role::Candidate, now);
            let next = budget.next_at(&revision, 0, now);
            prop_assert!(next > now && next <= now + LATER_WINDOW + JITTER);
            now = next;
        }
    }
}
