//! A lease whose connections authenticate again: on pools that can, before the server ends the
//! connections; on others, which are replaced before that.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use claviger::events::Event;
use claviger::lease::OldConnections;
use claviger::report::{HandoverMode, RotationTrigger};
use claviger_fixtures::{
    Scripted, backend_down, eventually, fetches, rejection, until_drained, until_rejected,
};
use claviger_testkit::{ScriptedPools, ScriptedProvider};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn a_pool_that_cannot_authenticate_again_is_replaced() {
    for (old_connections, expected) in [
        (OldConnections::Keep, HandoverMode::InPlace),
        (OldConnections::Reauthenticate, HandoverMode::Replace),
        (OldConnections::EndWithLease, HandoverMode::Replace),
    ] {
        let provider = ScriptedProvider::new()
            .with_old_connections(old_connections)
            .with_lifetime(Duration::from_secs(900));
        let scripted = Scripted::with(provider).await;
        scripted.provider.rotate();
        let rotated = scripted.lab.supervisor.rotate_now("login").await;
        rotated.expect("a new lease");
        let status = scripted.pool.status().expect("a status");
        let mode = status.last_handover.expect("a handover").mode;
        assert_eq!(mode, expected, "{old_connections:?}");
        until_drained(&scripted.pool).await;
    }
}

/// A pool whose tokens are valid for 15 minutes, and whose connections for 12 hours.
async fn scripted() -> Scripted {
    let provider = ScriptedProvider::new()
        .with_old_connections(OldConnections::Reauthenticate)
        .with_new_credential_per_fetch()
        .with_lifetime(15 * MINUTE)
        .with_connection_lifetime(12 * HOUR);
    let pools = ScriptedPools::new(4).with_reauthentication();
    Scripted::with_database(provider, pools).await
}

#[tokio::test(start_paused = true)]
async fn connections_outlive_a_token_until_they_have_to_authenticate_again() {
    let began = Instant::now();
    let scripted = scripted().await;
    drop(scripted.pool.get().await.expect("a connection"));
    let logins = scripted.database.logins().len();
    scripted.provider.fail_next(100_000, backend_down());
    for minutes in [16, 60, 12 * 60 - 2] {
        sleep_until(began + minutes * MINUTE).await;
        drop(scripted.pool.get().await.expect("an open connection"));
    }
    assert_eq!(
        scripted.database.logins().len(),
        logins,
        "the token expired"
    );
    // In the last minute a command might be interrupted.
    sleep_until(began + 12 * HOUR - MINUTE / 2).await;
    let error = scripted.pool.get().await.expect_err("no connection");
    assert!(error.to_string().contains("expired at"), "{error}");

    scripted.provider.recover();
    scripted
        .lab
        .supervisor
        .rotate_now("login")
        .await
        .expect("a token");
    let status = scripted.pool.status().expect("a status");
    let mode = status.last_handover.expect("a handover").mode;
    assert_eq!(mode, HandoverMode::InPlace);
    drop(scripted.pool.get().await.expect("a connection"));
}

#[tokio::test(start_paused = true)]
async fn connections_that_authenticate_again_stay_open() {
    let began = Instant::now();
    let scripted = scripted().await;
    drop(scripted.pool.get().await.expect("a connection"));
    let logins = scripted.database.logins().len();
    // Longer than a connection stays open without another authentication.
    sleep_until(began + 13 * HOUR).await;
    assert!(scripted.pool.generation() > 60, "the token was renewed");
    scripted.provider.fail_next(100_000, backend_down());
    sleep_until(began + 24 * HOUR).await;
    drop(scripted.pool.get().await.expect("an open connection"));
    assert_eq!(scripted.database.logins().len(), logins);
    assert_eq!(scripted.database.opened().len(), 1);
}

/// Begins a rotation, and returns while open connections authenticate again, which takes an hour.
/// The verify deadline ends that.
async fn rotation_until_authentication(scripted: &Scripted) -> JoinHandle<()> {
    let authenticates = Arc::new(AtomicBool::new(false));
    let began = Arc::clone(&authenticates);
    scripted.database.on_call(move |method| {
        began.fetch_or(method == "reauthenticate", Ordering::AcqRel);
    });
    scripted.database.delay_reauthentication(HOUR);
    let supervisor = scripted.lab.supervisor.clone();
    let rotation = tokio::spawn(async move {
        drop(supervisor.rotate_now("login").await.expect("a token"));
    });
    eventually("connections authenticate again", || {
        authenticates.load(Ordering::Acquire)
    })
    .await;
    rotation
}

#[tokio::test(start_paused = true)]
async fn a_rejected_login_while_connections_authenticate_counts_for_the_new_token() {
    let scripted = scripted().await;
    let busy = scripted.pool.get().await.expect("a connection");
    let mut events = scripted.lab.supervisor.events();
    let rotation = rotation_until_authentication(&scripted).await;
    assert_eq!(
        scripted.pool.generation(),
        2,
        "callers log in with its token"
    );
    scripted.database.accept_only(["another password"]);
    scripted.provider.fail_next(100_000, backend_down());
    let pool = scripted.pool.clone();
    let caller = tokio::spawn(async move { drop(pool.get().await) });
    until_rejected(&scripted.pool).await;
    rotation.await.expect("no panic");
    let rejected = loop {
        match events.next().await {
            Some(Event::Rejected { generation, .. }) => break generation,
            event => assert!(event.is_some(), "no event of a rejection"),
        }
    };
    assert_eq!(rejected, 2);
    eventually("a token is requested", || {
        fetches(&scripted.provider, RotationTrigger::Rejected) > 0
    })
    .await;
    let failed = scripted.database.logins();
    assert_eq!(failed, [true, false], "no caller logs in again");
    drop(busy);
    caller.await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_released_after_connections_have_authenticated_with_the_next_one() {
    let scripted = scripted().await;
    drop(scripted.pool.get().await.expect("a connection"));
    let rotation = rotation_until_authentication(&scripted).await;
    assert_eq!(scripted.pool.generation(), 2, "the next one is published");
    drop(scripted.pool.get().await.expect("the open connection"));
    assert_eq!(scripted.provider.released(), []);
    rotation.await.expect("no panic");
    eventually("the lease is released", || {
        scripted.provider.released().len() == 1
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn connections_that_are_about_to_end_authenticate_before_the_publication() {
    let began = Instant::now();
    let scripted = scripted().await;
    drop(scripted.pool.get().await.expect("a connection"));
    scripted.provider.fail_next(100_000, backend_down());
    sleep_until(began + 12 * HOUR - MINUTE / 2).await;
    let error = scripted.pool.get().await.expect_err("no connection");
    assert!(error.to_string().contains("expired at"), "{error}");
    let generation = scripted.pool.generation();
    scripted.provider.recover();
    let rotation = rotation_until_authentication(&scripted).await;
    assert_eq!(scripted.pool.generation(), generation);
    rotation.await.expect("no panic");
    assert_eq!(scripted.pool.generation(), generation + 1);
    drop(scripted.pool.get().await.expect("a connection"));
}

#[tokio::test(start_paused = true)]
async fn expired_connections_of_a_rejected_token_authenticate_before_the_publication() {
    let began = Instant::now();
    let provider = ScriptedProvider::new()
        .with_old_connections(OldConnections::Reauthenticate)
        .with_new_credential_per_fetch()
        .with_lifetime(15 * MINUTE);
    let pools = ScriptedPools::new(4).with_reauthentication();
    let scripted = Scripted::with_database(provider, pools).await;
    drop(scripted.pool.get().await.expect("a connection"));
    scripted.provider.fail_next(100_000, backend_down());
    // Half a minute before the token expires, and half a minute after the last use of a connection.
    sleep_until(began + 15 * MINUTE - MINUTE / 2).await;
    assert_eq!(scripted.pool.generation(), 1);
    let later = (2..100).map(|number| format!("password-{number}"));
    scripted
        .database
        .accept_only(later.collect::<Vec<_>>().iter().map(String::as_str));
    assert!(scripted.pool.rejected(1, &rejection()));
    until_rejected(&scripted.pool).await;
    scripted.pool.get().await.expect_err("no connection");
    scripted.provider.recover();
    let rotation = rotation_until_authentication(&scripted).await;
    assert_eq!(scripted.pool.generation(), 1, "nobody gets a connection");
    rotation.await.expect("no panic");
    assert_eq!(scripted.pool.generation(), 2);
    drop(scripted.pool.get().await.expect("a connection"));
}
