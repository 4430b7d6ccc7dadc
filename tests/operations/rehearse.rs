//! A rotation is rehearsed: fetched and verified, not served.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use claviger::error::{ConnectErrorKind, ErrorKind};
use claviger::lease::OldConnections;
use claviger::report::{HandoverMode, RehearsalReport, RotationTrigger};
use claviger::{Credentials, Endpoint, Lease, Revision, Supervisor};
use claviger_fixtures::{Fixture, Scripted, backend_down, query};
use claviger_testkit::{ScriptedPools, ScriptedProvider};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

const MINUTE: Duration = Duration::from_secs(60);

async fn rehearse(supervisor: &Supervisor) -> RehearsalReport {
    supervisor.rehearse("login").await.expect("a lease")
}

/// Asserts that the pool serves the first password, and the provider has it.
fn assert_unchanged(scripted: &Scripted) {
    let status = scripted.lab.supervisor.status();
    let first = Revision::new("1").digest();
    assert_eq!(status.providers[0].revision.as_ref(), Some(&first));
    assert_eq!(status.pools[0].revision.as_ref(), Some(&first));
    assert_eq!(scripted.pool.generation(), 1);
    assert!(status.providers[0].last_error.is_none() && status.pools[0].last_error.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_new_credential_is_verified_in_each_pool_then_released_and_never_served() {
    let scripted = Scripted::new().await;
    let supervisor = &scripted.lab.supervisor;
    let other = ScriptedPools::new(10);
    other.accept_only(["password-1"]);
    let other = scripted.lab.add_pool("other", &scripted.credentials, other);
    other.await;
    let connection = scripted.pool.current().connection();
    scripted.provider.rotate();
    let report = rehearse(supervisor).await;
    let calls = scripted.provider.calls();
    let trigger = calls.last().map(|call| call.trigger);
    assert_eq!(trigger, Some(RotationTrigger::Rehearsal));
    assert_eq!(report.revision, Revision::new("2").digest());
    assert!(!report.is_current && !report.is_verified());
    let [orders, other] = &report.pools[..] else {
        unreachable!("two pools: {report:?}");
    };
    assert_eq!((&*orders.pool, orders.error.is_none()), ("orders", true));
    assert_eq!(
        (orders.mode, orders.max_connections, orders.at_most),
        (HandoverMode::Replace, 4, 5)
    );
    assert_eq!(
        (orders.connections, orders.in_use),
        (1, 1),
        "they would drain"
    );
    let error = other.error.as_ref().expect("its database rejects it");
    assert_eq!(
        (error.kind(), error.code()),
        (ConnectErrorKind::Rejected, Some("28P01"))
    );
    drop(connection);
    sleep(MINUTE).await;
    assert_unchanged(&scripted);
    assert_eq!(
        scripted.provider.released(),
        [Revision::new("2")],
        "it is not served"
    );
    // The rehearsed credential can still be adopted.
    supervisor.rotate_now("login").await.expect("it rotates");
    assert_eq!(scripted.pool.current().password(), "password-2");
}

#[tokio::test(start_paused = true)]
async fn the_current_credential_is_verified_if_the_backend_has_no_other() {
    let scripted = Scripted::new().await;
    let report = rehearse(&scripted.lab.supervisor).await;
    assert!(report.is_current && report.is_verified(), "{report:?}");
    sleep(MINUTE).await;
    assert_eq!(scripted.provider.released(), []);
    assert_unchanged(&scripted);
    scripted.database.accept_only(["another"]);
    let report = rehearse(&scripted.lab.supervisor).await;
    assert!(!report.is_verified());
    assert_unchanged(&scripted);
    assert!(
        scripted.lab.supervisor.readiness().ready,
        "a rehearsal changes nothing"
    );
}

#[tokio::test(start_paused = true)]
async fn the_report_has_the_mode_and_the_connections_that_a_handover_would_open() {
    let provider = ScriptedProvider::new().with_old_connections(OldConnections::Keep);
    let scripted = Scripted::with(provider).await;
    scripted.provider.rotate();
    let report = rehearse(&scripted.lab.supervisor).await;
    let pool = &report.pools[0];
    assert_eq!(
        (pool.mode, pool.opens, pool.at_most),
        (HandoverMode::InPlace, 0, 5)
    );
    let database = ScriptedPools::new(16).with_warm_connections(3);
    let scripted = Scripted::with_database(ScriptedProvider::new(), database).await;
    scripted.provider.rotate();
    let report = rehearse(&scripted.lab.supervisor).await;
    let pool = &report.pools[0];
    assert_eq!(
        (pool.mode, pool.opens, pool.at_most),
        (HandoverMode::Replace, 3, 20)
    );
}

#[tokio::test(start_paused = true)]
async fn a_rehearsal_of_one_pool_logs_in_there_alone() {
    let scripted = Scripted::new().await;
    let other = ScriptedPools::new(4);
    let added = scripted
        .lab
        .add_pool("other", &scripted.credentials, other.clone());
    added.await;
    let logins = scripted.database.verifications().len();
    let supervisor = &scripted.lab.supervisor;
    let report = supervisor.rehearse_pool("other").await.expect("a lease");
    let pools: Vec<_> = report.pools.iter().map(|pool| &*pool.pool).collect();
    assert_eq!(pools, ["other"]);
    assert_eq!(scripted.database.verifications().len(), logins);
    let error = supervisor.rehearse_pool("orders-2").await;
    let error = error.expect_err("there is none");
    assert_eq!(error.kind(), ErrorKind::NotRegistered);
    let error = supervisor.rehearse("orders").await;
    let error = error.expect_err("it is a pool");
    assert_eq!(error.kind(), ErrorKind::NotRegistered);
}

#[tokio::test(start_paused = true)]
async fn a_failed_fetch_of_a_rehearsal_changes_nothing() {
    let scripted = Scripted::new().await;
    scripted.provider.fail_next(1, backend_down());
    let error = scripted.lab.supervisor.rehearse("login").await;
    let error = error.expect_err("the backend is down");
    assert_eq!(error.kind(), ErrorKind::Provider);
    assert_unchanged(&scripted);
    let fetches = scripted.provider.calls().len();
    sleep(MINUTE).await;
    assert_eq!(
        scripted.provider.calls().len(),
        fetches,
        "it is not retried"
    );
}

#[tokio::test(start_paused = true)]
async fn rehearsals_begin_a_second_apart_like_manual_requests() {
    let scripted = Scripted::new().await;
    let began = Instant::now();
    for _ in 0..5 {
        rehearse(&scripted.lab.supervisor).await;
    }
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(4), "{took:?}");
    assert_eq!(scripted.provider.calls().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn rejected_logins_of_rehearsals_stay_within_the_login_budget() {
    let scripted = Scripted::new().await;
    scripted.database.accept_only(["password-1"]);
    let mut limited = 0;
    for _ in 0..20 {
        scripted.provider.rotate();
        let report = rehearse(&scripted.lab.supervisor).await;
        let error = report.pools[0].error.as_ref().expect("it is rejected");
        if error.kind() != ConnectErrorKind::Rejected {
            assert!(error.message().contains("are limited"), "{error}");
            limited += 1;
        }
    }
    let rejected = scripted.database.rejected();
    assert!(rejected <= 4 + 3, "law 11: {rejected} failed logins");
    assert!(limited > 0 && rejected >= 4, "the hazard: they are limited");
    assert_unchanged(&scripted);
}

#[tokio::test(start_paused = true)]
async fn a_pool_whose_rehearsal_panics_is_reported_with_an_error() {
    let scripted = Scripted::new().await;
    let other = ScriptedPools::new(4);
    let other = scripted.lab.add_pool("other", &scripted.credentials, other);
    other.await;
    scripted
        .database
        .on_call(|method| assert_ne!(method, "check", "scripted panic"));
    scripted.provider.rotate();
    let report = rehearse(&scripted.lab.supervisor).await;
    let [orders, other] = &report.pools[..] else {
        unreachable!("two pools: {report:?}");
    };
    assert_eq!((&*orders.pool, &*other.pool), ("orders", "other"));
    let error = orders.error.as_ref().expect("it was not verified");
    assert_eq!(error.kind(), ConnectErrorKind::Other);
    assert!(error.message().contains("panicked"), "{error}");
    assert!(other.error.is_none() && !report.is_verified());
    assert_unchanged(&scripted);
}

#[tokio::test(start_paused = true)]
async fn a_held_provider_can_be_rehearsed() {
    let scripted = Scripted::new().await;
    let supervisor = &scripted.lab.supervisor;
    supervisor.hold("login").expect("it is registered");
    scripted.provider.rotate();
    let report = rehearse(supervisor).await;
    assert!(report.is_verified() && !report.is_current);
    sleep(MINUTE).await;
    assert_unchanged(&scripted);
}

#[tokio::test(start_paused = true)]
async fn a_rehearsal_whose_caller_is_gone_releases_its_lease() {
    let scripted = Scripted::new().await;
    scripted.provider.rotate();
    scripted.provider.stall();
    let supervisor = scripted.lab.supervisor.clone();
    let calling = tokio::spawn(async move { supervisor.rehearse("login").await });
    sleep(Duration::from_secs(1)).await;
    calling.abort();
    scripted.provider.resume();
    sleep(MINUTE).await;
    assert_eq!(scripted.provider.released(), [Revision::new("2")]);
    assert_unchanged(&scripted);
}

#[tokio::test(start_paused = true)]
async fn the_removal_of_a_pool_waits_for_a_login_of_a_rehearsal_and_permits_no_other() {
    let scripted = Scripted::new().await;
    scripted.provider.rotate();
    scripted.database.stall();
    let supervisor = &scripted.lab.supervisor;
    let calling = supervisor.clone();
    let calling = tokio::spawn(async move { calling.rehearse("login").await });
    sleep(Duration::from_secs(1)).await;
    let removing = supervisor.clone();
    let removing = tokio::spawn(async move { removing.remove_pool("orders").await });
    sleep(Duration::from_secs(1)).await;
    assert!(!removing.is_finished(), "a login is under way");
    let other = Arc::new(AtomicBool::new(false));
    let begun = Arc::clone(&other);
    scripted.database.on_call(move |method| {
        begun.fetch_or(method.starts_with("verify"), Ordering::AcqRel);
    });
    scripted.database.resume();
    removing.await.expect("no panic").expect("it is registered");
    let report = calling.await.expect("no panic").expect("a lease");
    let error = report.pools[0].error.as_ref().expect("it ends early");
    assert!(error.message().contains("closed"), "{error}");
    assert!(!other.load(Ordering::Acquire), "law 14: another login");
}

#[tokio::test(start_paused = true)]
async fn a_rehearsal_and_an_attempt_log_in_to_a_full_pool_in_turn() {
    let scripted = Scripted::new().await;
    let full = [(); 4].map(|()| scripted.pool.current().connection());
    scripted.provider.rotate();
    scripted.database.stall();
    let (began, logins) = mpsc::channel();
    scripted.database.on_call(move |method| {
        if method == "verify" {
            let _ = began.send(());
        }
    });
    let supervisor = scripted.lab.supervisor.clone();
    let rehearsing = tokio::spawn(async move { supervisor.rehearse("login").await });
    // Manual requests and rehearsals begin a second apart.
    sleep(Duration::from_millis(1_200)).await;
    let supervisor = scripted.lab.supervisor.clone();
    let rotating = tokio::spawn(async move { supervisor.rotate_now("login").await });
    sleep(Duration::from_millis(500)).await;
    assert!(
        scripted.provider.calls().len() > 2,
        "the hazard: a new lease"
    );
    assert_eq!(
        logins.try_iter().count(),
        1,
        "law 10: one login beside the pool"
    );
    // The attempt waits for a second at most.
    sleep(Duration::from_millis(1_500)).await;
    assert_eq!(logins.try_iter().count(), 1);
    scripted.database.resume();
    let report = rehearsing.await.expect("no panic").expect("a lease");
    assert!(report.is_verified(), "{report:?}");
    rotating.await.expect("no panic").expect("it rotates");
    drop(full);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_a_rehearsal_and_releases_its_lease() {
    let scripted = Scripted::new().await;
    scripted.provider.rotate();
    scripted.database.stall();
    let supervisor = scripted.lab.supervisor.clone();
    let calling = tokio::spawn(async move { supervisor.rehearse("login").await });
    sleep(Duration::from_secs(1)).await;
    let report = scripted.lab.supervisor.shutdown(MINUTE).await;
    scripted.database.resume();
    assert!(report.unreleased.is_empty(), "{report:?}");
    let _ended = calling.await.expect("no panic");
    let mut released = scripted.provider.released();
    released.sort();
    assert_eq!(released, [Revision::new("1"), Revision::new("2")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_logs_in_to_the_database_and_reports_its_rejection() {
    let fixture = Fixture::new().await;
    let db = fixture.pool(4).await;
    query(&db).await.expect("the query succeeds");
    let report = rehearse(&fixture.supervisor).await;
    assert!(report.is_current && report.is_verified(), "{report:?}");
    let wrong = Credentials::new("app", "not the password");
    fixture
        .provider
        .return_next(Lease::new(wrong, Revision::new("wrong")));
    let rejected = fixture.rejected_logins();
    let report = rehearse(&fixture.supervisor).await;
    let error = report.pools[0].error.as_ref().expect("it is rejected");
    assert_eq!(
        (error.kind(), error.code()),
        (ConnectErrorKind::Rejected, Some("28P01"))
    );
    assert_eq!(fixture.rejected_logins(), rejected + 1, "one login");
    assert_eq!(db.generation(), 1);
    query(&db).await.expect("the current lease is in service");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_reports_user_and_server_of_a_login_that_hangs() {
    let fixture = Fixture::new().await;
    let _db = fixture.pool(4).await;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let next = Credentials::new("next", "s3cret");
    let next = next.with_endpoint(Endpoint::server("127.0.0.1", port));
    let next = Lease::new(next, Revision::new("next"));
    fixture.provider.return_next(next);
    let report = rehearse(&fixture.supervisor).await;
    let error = report.pools[0].error.as_ref().expect("it hangs");
    assert_eq!(error.kind(), ConnectErrorKind::Unreachable);
    let target = error.target().expect("as in an attempt");
    let expected = format!("user \"next\" at 127.0.0.1:{port}");
    assert!(target.starts_with(&expected), "{target}");
}
