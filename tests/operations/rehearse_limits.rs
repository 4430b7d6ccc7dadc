//! What a rehearsal must not cost: connections beyond the budget, logins with an expired lease,
//! leases that pile up.

use std::sync::mpsc;
use std::time::Duration;

use claviger::error::ConnectErrorKind;
use claviger::lease::{Expiry, OldConnections, Timestamp};
use claviger::report::{HandoverMode, PoolRehearsal, RehearsalReport};
use claviger::{Credentials, Endpoint, Lease, Revision};
use claviger_fixtures::{Scripted, backend_down};
use claviger_testkit::{ScriptedConnection, ScriptedProvider};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);

/// Begins a rehearsal.
fn begin(scripted: &Scripted) -> JoinHandle<RehearsalReport> {
    let supervisor = scripted.lab.supervisor.clone();
    tokio::spawn(async move { supervisor.rehearse("login").await.expect("a lease") })
}

/// Rehearses, and returns what the only pool reports.
async fn rehearse(scripted: &Scripted) -> PoolRehearsal {
    let report = begin(scripted).await.expect("no panic");
    report.pools.into_iter().next().expect("a pool")
}

/// Returns the message of a rehearsal that did not log in.
fn not_verified(report: &PoolRehearsal) -> &str {
    let error = report.error.as_ref().expect("it did not log in");
    assert_eq!(error.kind(), ConnectErrorKind::Other, "{error}");
    let message = error.message();
    assert!(message.starts_with("not verified, because "), "{message}");
    message
}

/// Counts the logins of rehearsals and attempts from now on.
fn logins(scripted: &Scripted) -> impl Fn() -> usize + use<> {
    let (began, logins) = mpsc::channel();
    scripted.database.on_call(move |method| {
        if method.starts_with("verify") {
            let _ = began.send(());
        }
    });
    move || logins.try_iter().count()
}

/// Replaces a pool whose four connections are in use, and opens the fifth. The pool's maximum is
/// four, and its overlap one.
async fn with_all_connections_in_use(scripted: &Scripted) -> Vec<ScriptedConnection> {
    let mut in_use = Vec::from([(); 4].map(|()| scripted.pool.current().connection()));
    scripted.provider.rotate();
    let supervisor = &scripted.lab.supervisor;
    supervisor.rotate_now("login").await.expect("it rotates");
    in_use.push(scripted.pool.current().connection());
    let status = scripted.lab.supervisor.status();
    let pool = &status.pools[0];
    assert_eq!(
        (pool.draining[0].connections, pool.connections),
        (4, 1),
        "the hazard: there is room for no other"
    );
    in_use
}

#[tokio::test(start_paused = true)]
async fn law_10_a_rehearsal_does_not_log_in_without_room_for_its_connection() {
    let scripted = Scripted::new().await;
    let mut in_use = with_all_connections_in_use(&scripted).await;
    scripted.provider.rotate();
    let logins = logins(&scripted);
    let report = rehearse(&scripted).await;
    assert_eq!(logins(), 0, "law 10: a sixth connection");
    let message = not_verified(&report);
    assert!(message.contains("no room for another connection"));
    assert_eq!(scripted.provider.released(), [Revision::new("3")]);
    in_use.truncate(3);
    let report = rehearse(&scripted).await;
    assert!(report.error.is_none(), "{report:?}");
    assert_eq!(logins(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_rehearsal_of_a_credential_for_another_server_needs_no_room() {
    let scripted = Scripted::new().await;
    let in_use = with_all_connections_in_use(&scripted).await;
    let elsewhere = Credentials::new("app", "next").with_endpoint(Endpoint::of_host("replica"));
    let next = Lease::new(elsewhere, Revision::new("next"));
    scripted.provider.return_next(next);
    let report = rehearse(&scripted).await;
    assert!(report.error.is_none(), "{report:?}");
    drop(in_use);
}

#[tokio::test(start_paused = true)]
async fn an_update_to_another_server_is_reported_as_a_replacement() {
    let provider = ScriptedProvider::new().with_old_connections(OldConnections::Keep);
    let scripted = Scripted::with(provider).await;
    let lease = |host| {
        let credentials = Credentials::new("app", "next").with_endpoint(Endpoint::of_host(host));
        Lease::new(credentials, Revision::new(host)).with_old_connections(OldConnections::Keep)
    };
    for (host, mode) in [
        ("replica", HandoverMode::Replace),
        ("", HandoverMode::InPlace),
    ] {
        scripted.provider.return_next(lease(host));
        assert_eq!(rehearse(&scripted).await.mode, mode, "{host}");
    }
}

#[tokio::test(start_paused = true)]
async fn law_08_a_rehearsal_that_waited_until_its_lease_expired_does_not_log_in() {
    let scripted = Scripted::new().await;
    scripted.provider.rotate();
    scripted.database.stall();
    let logins = logins(&scripted);
    let first = begin(&scripted);
    sleep(2 * SECOND).await;
    assert_eq!(logins(), 1, "the hazard: the next one waits");
    // The wall clock is not paused.
    let expiry = Expiry::after(Timestamp::now(), 3 * SECOND);
    let next = Lease::new(Credentials::new("app", "next"), Revision::new("next"));
    scripted.provider.return_next(next.with_expiry(expiry));
    let second = begin(&scripted);
    sleep(2 * SECOND).await;
    scripted.database.resume();
    let first = first.await.expect("no panic");
    assert!(first.is_verified(), "{first:?}");
    let second = second.await.expect("no panic");
    assert!(not_verified(&second.pools[0]).contains("expired"));
    assert_eq!(logins(), 1, "law 8: only the second login of the first");
}

#[tokio::test(start_paused = true)]
async fn law_08_a_lease_that_expires_during_the_first_login_is_used_for_no_second() {
    let scripted = Scripted::new().await;
    scripted.database.stall();
    let expiry = Expiry::after(Timestamp::now(), SECOND);
    let next = Lease::new(Credentials::new("app", "next"), Revision::new("next"));
    scripted.provider.return_next(next.with_expiry(expiry));
    let logins = logins(&scripted);
    let rehearsing = begin(&scripted);
    sleep(2 * SECOND).await;
    scripted.database.resume();
    let report = rehearsing.await.expect("no panic");
    assert!(not_verified(&report.pools[0]).contains("expired"));
    assert_eq!(logins(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_rehearsal_waits_for_a_database_that_hangs_and_others_end_at_once() {
    let scripted = Scripted::new().await;
    scripted.database.stall();
    let mut rehearsals = Vec::new();
    for _ in 0..4 {
        scripted.provider.rotate();
        rehearsals.push(begin(&scripted));
        sleep(1_100 * SECOND / 1_000).await;
    }
    let have_ended: Vec<_> = rehearsals.iter().map(JoinHandle::is_finished).collect();
    assert_eq!(have_ended, [false, false, true, true]);
    let released = scripted.provider.released();
    assert_eq!(released, [Revision::new("4"), Revision::new("5")]);
    let report = rehearsals.remove(3).await.expect("no panic");
    let message = not_verified(&report.pools[0]);
    assert!(message.contains("another rehearsal waits"), "{message}");
    scripted.database.resume();
    for (rehearsal, is_verified) in rehearsals.into_iter().zip([true, true, false]) {
        let report = rehearsal.await.expect("no panic");
        assert_eq!(report.is_verified(), is_verified, "{report:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn law_11_rehearsals_at_the_same_time_cost_one_failed_login() {
    let scripted = Scripted::new().await;
    scripted.database.accept_only(["password-1"]);
    scripted.provider.rotate();
    scripted.database.stall();
    let mut rehearsals = JoinSet::new();
    for _ in 0..20 {
        let rehearsal = begin(&scripted);
        rehearsals.spawn(async move { rehearsal.await.expect("no panic") });
    }
    sleep(2 * SECOND).await;
    scripted.database.resume();
    let reports = rehearsals.join_all().await;
    let errors = reports.iter().map(|report| report.pools[0].error.as_ref());
    let errors: Vec<_> = errors.map(|error| error.expect("it fails")).collect();
    let rejected = errors.iter().filter(|error| error.code() == Some("28P01"));
    assert_eq!(rejected.count(), 2, "one waited for the other: {errors:?}");
    assert_eq!(scripted.database.rejected(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_rehearsal_right_after_a_rejection_returns_that_rejection() {
    let scripted = Scripted::new().await;
    scripted.database.accept_only(["password-1"]);
    scripted.provider.rotate();
    let mut reports = Vec::new();
    for _ in 0..4 {
        reports.push(rehearse(&scripted).await);
    }
    for report in &reports {
        let error = report.error.as_ref().expect("it is rejected");
        let found = (error.kind(), error.code());
        assert_eq!(found, (ConnectErrorKind::Rejected, Some("28P01")));
    }
    let rejected = scripted.database.rejected();
    assert!(rejected < 4, "the hazard: a pause after each of them");
}

#[tokio::test(start_paused = true)]
async fn a_rehearsal_of_a_credential_that_an_attempt_tried_names_its_rejection() {
    let scripted = Scripted::new().await;
    scripted.database.accept_only(["password-1"]);
    scripted.provider.rotate();
    let supervisor = scripted.lab.supervisor.clone();
    let rotating = tokio::spawn(async move { supervisor.rotate_now("login").await });
    // The pauses between its attempts become longer.
    sleep(20 * SECOND).await;
    let rejected = scripted.database.rejected();
    assert!(rejected > 1, "the hazard: {rejected} rejections");
    let report = rehearse(&scripted).await;
    let message = not_verified(&report);
    assert!(
        message.contains("rejected the same credential"),
        "{message}"
    );
    assert_eq!(scripted.database.rejected(), rejected);
    rotating.abort();
}

#[tokio::test(start_paused = true)]
async fn no_rehearsal_begins_while_many_leases_cannot_be_released() {
    let scripted = Scripted::new().await;
    scripted.provider.fail_releases(10_000, backend_down());
    let supervisor = &scripted.lab.supervisor;
    let mut succeeded = 0;
    let error = loop {
        scripted.provider.rotate();
        match supervisor.rehearse("login").await {
            Ok(_) if succeeded == 100 => unreachable!("leases pile up"),
            Ok(_) => succeeded += 1,
            Err(error) => break error,
        }
    };
    assert!((8..=10).contains(&succeeded), "{succeeded} rehearsals");
    assert!(
        error.to_string().contains("could not be released"),
        "{error}"
    );
}
