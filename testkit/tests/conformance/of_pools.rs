//! A correct pool passes, and each fault of an incorrect one is found.

use std::time::Duration;

use claviger_testkit::conformance::{self, CheckReport, Outcome, PoolConformance, Report};
use tokio::task::JoinSet;

use crate::fault::Fault;
use crate::memory_pools::MemoryPools;
use crate::memory_server::MemoryServer;

/// Each fault, and the checks that find it.
const FAULTS: [(Fault, &[&str]); 57] = [
    (Fault::CheckRejectsAll, &["check_accepts_a_valid_lease"]),
    (
        Fault::VerifyRejectsAll,
        &["verify_accepts_valid_credentials"],
    ),
    (Fault::VerifyAcceptsAll, &["verify_rejects_an_old_password"]),
    (
        Fault::VerifyCallsRejectionsUnreachable,
        &["verify_rejects_an_old_password"],
    ),
    (
        Fault::VerifyCallsOutagesRejections,
        &["verify_reports_an_unreachable_server"],
    ),
    (
        Fault::VerifyKeepsItsConnection,
        &["verify_leaves_no_connection"],
    ),
    (
        Fault::VerifyLeaksWhenDropped,
        &["a_dropped_verify_leaves_no_connection"],
    ),
    (
        Fault::VerifyAsPoolKeepsItsConnection,
        &["verify_as_pool_leaves_no_connection"],
    ),
    (Fault::VerifyHangs, &["verify_accepts_valid_credentials"]),
    (Fault::VerifyPanics, &["verify_accepts_valid_credentials"]),
    (Fault::OpenConnects, &["open_opens_no_connection"]),
    (
        Fault::TryGetLogsIn,
        &["try_get_returns_idle_connections_alone"],
    ),
    (
        Fault::TryGetIgnoresIdle,
        &["try_get_returns_idle_connections_alone"],
    ),
    (
        Fault::TryGetBlocks,
        &["try_get_returns_idle_connections_alone"],
    ),
    (
        Fault::GiveBackCloses,
        &["give_back_makes_a_connection_available"],
    ),
    (
        Fault::GiveBackIsLate,
        &["give_back_makes_a_connection_available"],
    ),
    (
        Fault::DropKeepsPlace,
        &["a_dropped_connection_becomes_available"],
    ),
    (Fault::DiscardReturns, &["discard_closes_the_connection"]),
    (Fault::DiscardKeepsPlace, &["discard_closes_the_connection"]),
    (Fault::CountsBusyAlone, &["connections_and_idle_are_true"]),
    (Fault::CountsAllAsIdle, &["connections_and_idle_are_true"]),
    (
        Fault::AcceptsKilledConnections,
        &[
            "check_connection_finds_killed_connections",
            "killed_connections_are_not_handed_out",
        ],
    ),
    (Fault::WarmOpensOne, &["warm_opens_connections"]),
    (
        Fault::MakeRoomClosesNone,
        &["make_room_closes_no_busy_connection"],
    ),
    (Fault::OneConnectionLess, &["get_opens_up_to_the_maximum"]),
    (
        Fault::OneConnectionMore,
        &[
            "get_waits_for_a_returned_connection",
            "many_callers_stay_within_the_maximum",
        ],
    ),
    (
        Fault::FailsWhenFull,
        &["get_waits_for_a_returned_connection"],
    ),
    (
        Fault::DroppedGetKeepsPlace,
        &[
            "a_dropped_get_keeps_no_place",
            "cancelled_calls_leave_the_pool_at_full_size",
        ],
    ),
    (
        Fault::HandedConnectionIsLost,
        &["a_dropped_get_keeps_no_place"],
    ),
    (
        Fault::UpdateClosesConnections,
        &[
            "update_in_place_keeps_connections",
            "no_call_fails_when_the_pool_is_updated",
        ],
    ),
    (
        Fault::UpdateKeepsCredentials,
        &["update_in_place_logs_in_with_the_new_credentials"],
    ),
    (
        Fault::WaitingLoginsKeepCredentials,
        &["a_waiting_login_uses_the_new_credentials"],
    ),
    (
        Fault::UpdateReturnsFalse,
        &["update_in_place_logs_in_with_the_new_credentials"],
    ),
    (
        Fault::UpdateAcceptsAnotherAddress,
        &["update_in_place_is_false_for_another_address"],
    ),
    (
        Fault::ClassifiesAllAsOther,
        &[
            "classify_recognises_a_rejected_login",
            "a_changed_password_costs_one_fetch",
        ],
    ),
    (
        Fault::ClassifiesRejectionsAsUnreachable,
        &[
            "classify_recognises_a_rejected_login",
            "a_changed_password_costs_one_fetch",
        ],
    ),
    (Fault::ClassifyLosesTheCode, &["classify_keeps_the_code"]),
    (
        Fault::ClassifiesOutagesAsRejections,
        &[
            "an_unreachable_server_is_no_rejection",
            "an_outage_causes_no_fetch",
        ],
    ),
    (
        Fault::ErrorLosesTheRejection,
        &["error_keeps_a_shared_rejection"],
    ),
    (
        Fault::TimeOutsAreUnknown,
        &["time_outs_and_closed_pools_are_recognised"],
    ),
    (
        Fault::ClosedIsUnknown,
        &[
            "time_outs_and_closed_pools_are_recognised",
            "a_vacant_pool_is_closed",
        ],
    ),
    (
        Fault::AccountHasThePassword,
        &[
            "account_and_server_outlast_a_password",
            "no_secret_is_shown",
        ],
    ),
    (
        Fault::OneServerName,
        &["account_and_server_outlast_a_password"],
    ),
    (Fault::DebugShowsThePassword, &["no_secret_is_shown"]),
    (Fault::ErrorShowsThePassword, &["no_secret_is_shown"]),
    (Fault::NoPermits, &["logins_wait_for_a_permit"]),
    (Fault::OnePermitForAll, &["each_login_has_a_permit"]),
    (Fault::CountsWaitingLogins, &["waiting_logins_do_not_count"]),
    (Fault::RetriesRejectedLogins, &["failed_logins_are_bounded"]),
    (Fault::VacantHangs, &["a_vacant_pool_is_closed"]),
    (Fault::VacantHasConnections, &["a_vacant_pool_is_closed"]),
    (
        Fault::DrainDoesNothing,
        &[
            "drain_closes_idle_connections_at_once",
            "drain_resolves_when_the_last_connection_has_closed",
            "a_drained_pool_opens_no_connection",
            "shutdown_closes_every_connection",
        ],
    ),
    (
        Fault::DrainKeepsIdle,
        &[
            "drain_closes_idle_connections_at_once",
            "shutdown_closes_every_connection",
        ],
    ),
    (
        Fault::DrainCutsBusy,
        &[
            "drain_lets_busy_connections_finish",
            "no_call_fails_when_the_pool_is_replaced",
        ],
    ),
    (
        Fault::DrainResolvesAtOnce,
        &["drain_resolves_when_the_last_connection_has_closed"],
    ),
    (
        Fault::DrainNeverResolves,
        &["drain_resolves_when_the_last_connection_has_closed"],
    ),
    (
        Fault::DrainedPoolOpens,
        &["a_drained_pool_opens_no_connection"],
    ),
];

/// Checks that find their faults only in pools with a queue of their own. Other pools are not
/// dropped within a login.
const OWN_QUEUE: [&str; 5] = [
    "logins_wait_for_a_permit",
    "each_login_has_a_permit",
    "waiting_logins_do_not_count",
    "a_waiting_login_uses_the_new_credentials",
    "cancelled_calls_leave_the_pool_at_full_size",
];

fn kit(fault: Option<Fault>, own_queue: bool) -> PoolConformance<MemoryPools, MemoryServer> {
    let server = MemoryServer::new();
    let pools = MemoryPools::new(server.clone(), fault);
    let pools = if own_queue {
        pools.with_own_queue()
    } else {
        pools
    };
    conformance::pool(pools, server)
}

fn is_failed(check: &CheckReport) -> bool {
    matches!(check.outcome, Outcome::Failed { .. })
}

#[tokio::test]
async fn a_correct_pool_passes() {
    let report = kit(None, false).await;
    report.assert_passed();
    for (check, reason) in report.not_applicable() {
        assert!(reason.contains("own_queue"), "{check}");
    }
}

#[tokio::test]
async fn a_correct_pool_with_its_own_queue_passes_every_check() {
    let report = kit(None, true).await;
    report.assert_passed();
    assert_eq!(report.not_applicable().count(), 0, "{report}");
    let names = PoolConformance::<MemoryPools, MemoryServer>::names();
    assert_eq!(report.checks().len(), names.len());
}

/// Each check alone, because some are not run after others have failed.
#[tokio::test(flavor = "multi_thread")]
async fn each_fault_is_found_by_its_checks() {
    let mut runs = JoinSet::new();
    for (fault, checks) in FAULTS {
        for own_queue in [false, true] {
            for name in checks.iter().copied() {
                let run = kit(Some(fault), own_queue).with_checks([name]);
                runs.spawn(async move { (fault, own_queue, name, run.await) });
            }
        }
    }
    let mut missed = Vec::new();
    while let Some(run) = runs.join_next().await {
        let (fault, own_queue, name, report) = run.expect("the kit never panics");
        let check = report.check(name).expect("it ran");
        if !is_failed(check) && (own_queue || !OWN_QUEUE.contains(&name)) {
            missed.push(format!("{fault:?} (own queue: {own_queue}) by {check}"));
        }
        assert!(!report.to_string().contains("s3cret"), "{report}");
    }
    assert!(missed.is_empty(), "not found:\n{}", missed.join("\n"));
}

/// One cause has one failure, not twenty.
#[tokio::test(flavor = "multi_thread")]
async fn a_fault_fails_no_other_checks_than_its_own() {
    let mut runs = JoinSet::new();
    for (fault, checks) in FAULTS {
        let run = kit(Some(fault), true);
        runs.spawn(async move { (fault, checks, run.await) });
    }
    let mut others = Vec::new();
    while let Some(run) = runs.join_next().await {
        let (fault, checks, report) = run.expect("the kit never panics");
        assert!(!report.has_passed(), "{fault:?}: {report}");
        let failed = report
            .failed()
            .filter(|check| !checks.contains(&check.name));
        others.extend(failed.map(|check| format!("{fault:?}: {check}")));
        assert!(!report.to_string().contains("s3cret"), "{report}");
    }
    assert!(others.is_empty(), "{}", others.join("\n"));
}

#[test]
fn each_check_has_a_fault_that_it_finds() {
    for name in PoolConformance::<MemoryPools, MemoryServer>::names() {
        let finds = FAULTS.iter().any(|(_, checks)| checks.contains(&name));
        assert!(finds, "no fault shows that {name} can fail");
    }
}

fn failure(report: &Report) -> String {
    let failed = report.failed().next().expect("a failed check");
    failed.to_string()
}

#[tokio::test]
async fn a_subject_that_panics_or_hangs_fails_its_check_alone() {
    let both = [
        "make_room_closes_no_busy_connection",
        "get_waits_for_a_returned_connection",
    ];
    for (fault, text) in [
        (Fault::MakeRoomPanics, "a panic: scripted panic"),
        (Fault::MakeRoomHangs, "pending after 10 s"),
        (Fault::MakeRoomBlocks, "still running, and was aborted"),
    ] {
        let kit = kit(Some(fault), false).with_checks(both);
        let limit = Duration::from_secs(12);
        let report = kit.with_limit(limit).await;
        assert!(failure(&report).contains(text), "{report}");
        let other = report.check(both[1]).expect("it ran");
        assert_eq!(other.outcome, Outcome::Passed, "{report}");
    }
}
