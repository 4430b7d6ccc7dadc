//! A lease whose connections authenticate again: on pools that can, before the server ends the
//! connections; on others, which are replaced before that.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use claviger::lease::OldConnections;
use claviger::report::HandoverMode;
use claviger_fixtures::{Scripted, backend_down, until_drained};
use claviger_testkit::{ScriptedPools, ScriptedProvider};
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
