//! A correct pool passes, and each defect of an incorrect one is found.

use std::time::Duration;

use claviger_testkit::conformance::{self, CheckReport, Outcome, PoolConformance, Report};
use tokio::task::JoinSet;

use crate::defect::{DEFECTS, Defect};
use crate::memory_pools::MemoryPools;
use crate::memory_server::MemoryServer;

/// Checks that find their defects only in pools with a queue of their own. Other pools are not
/// dropped within a login.
const OWN_QUEUE: [&str; 5] = [
    "logins_wait_for_a_permit",
    "each_login_has_a_permit",
    "waiting_logins_do_not_count",
    "a_waiting_login_uses_the_new_credentials",
    "cancelled_calls_leave_the_pool_at_full_size",
];

fn kit(defect: Option<Defect>, own_queue: bool) -> PoolConformance<MemoryPools, MemoryServer> {
    let server = MemoryServer::new();
    let pools = MemoryPools::new(server.clone(), defect);
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
async fn each_defect_is_found_by_its_checks() {
    let mut runs = JoinSet::new();
    for (defect, checks) in DEFECTS {
        for own_queue in [false, true] {
            for name in checks.iter().copied() {
                let run = kit(Some(defect), own_queue).with_checks([name]);
                runs.spawn(async move { (defect, own_queue, name, run.await) });
            }
        }
    }
    let mut missed = Vec::new();
    while let Some(run) = runs.join_next().await {
        let (defect, own_queue, name, report) = run.expect("the kit never panics");
        let check = report.check(name).expect("it ran");
        if !is_failed(check) && (own_queue || !OWN_QUEUE.contains(&name)) {
            missed.push(format!("{defect:?} (own queue: {own_queue}) by {check}"));
        }
        assert!(!report.to_string().contains("s3cret"), "{report}");
    }
    assert!(missed.is_empty(), "not found:\n{}", missed.join("\n"));
}

/// One cause has one failure, not twenty.
#[tokio::test(flavor = "multi_thread")]
async fn a_defect_fails_no_other_checks_than_its_own() {
    let mut runs = JoinSet::new();
    for (defect, checks) in DEFECTS {
        let run = kit(Some(defect), true);
        runs.spawn(async move { (defect, checks, run.await) });
    }
    let mut others = Vec::new();
    while let Some(run) = runs.join_next().await {
        let (defect, checks, report) = run.expect("the kit never panics");
        assert!(!report.has_passed(), "{defect:?}: {report}");
        let failed = report
            .failed()
            .filter(|check| !checks.contains(&check.name));
        others.extend(failed.map(|check| format!("{defect:?}: {check}")));
        assert!(!report.to_string().contains("s3cret"), "{report}");
    }
    assert!(others.is_empty(), "{}", others.join("\n"));
}

#[test]
fn each_check_has_a_defect_that_it_finds() {
    for name in PoolConformance::<MemoryPools, MemoryServer>::names() {
        let finds = DEFECTS.iter().any(|(_, checks)| checks.contains(&name));
        assert!(finds, "no defect shows that {name} can fail");
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
    for (defect, text) in [
        (Defect::MakeRoomPanics, "a panic: scripted panic"),
        (Defect::MakeRoomHangs, "pending after 10 s"),
        (Defect::MakeRoomBlocks, "still running, and was aborted"),
    ] {
        let kit = kit(Some(defect), false).with_checks(both);
        let limit = Duration::from_secs(12);
        let report = kit.with_limit(limit).await;
        assert!(failure(&report).contains(text), "{report}");
        let other = report.check(both[1]).expect("it ran");
        assert_eq!(other.outcome, Outcome::Passed, "{report}");
    }
}
