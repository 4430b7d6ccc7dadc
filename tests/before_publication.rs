//! Logins before a publication and after it. They make room on the same server alone, and run in
//! steps. They end with the lease or its first rejection.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use claviger::error::{ConnectError, ConnectErrorKind};
use claviger::lease::Revision;
use claviger::report::RotationTrigger;
use claviger::{Credentials, Endpoint, Lease};
use claviger_fixtures::{Scripted, backend_down, fetches, until_generation, until_rejected};
use claviger_testkit::{ScriptedConnection, ScriptedPools, ScriptedProvider};
use tokio::time::sleep;

/// Maximum of a pool whose handover may exceed it by three connections.
const MAX: u32 = 12;
/// Connections that are opened ahead of demand.
const WARM: u32 = 10;

/// Counts calls of one method of a pool factory.
fn count_calls(database: &ScriptedPools, method: &'static str) -> Arc<AtomicUsize> {
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    database.on_call(move |called| {
        counter.fetch_add(usize::from(called == method), Ordering::AcqRel);
    });
    calls
}

async fn rotate_to_host(scripted: &Scripted, host: &str, revision: &str) {
    let credentials =
        Credentials::new("app", "password").with_endpoint(Endpoint::server(host, 5432));
    let lease = Lease::new(credentials, Revision::new(revision));
    scripted.provider.return_next(lease);
    let rotated = scripted.lab.supervisor.rotate_now("login").await;
    drop(rotated.expect("a new lease"));
}

#[tokio::test(start_paused = true)]
async fn a_full_server_takes_a_connection_from_a_pool_on_the_same_server_alone() {
    let database = ScriptedPools::new(4);
    database.disable_in_place();
    let scripted = Scripted::with_database(ScriptedProvider::new(), database).await;
    rotate_to_host(&scripted, "one", "a").await;
    until_generation(&scripted.pool, 2).await;
    drop(scripted.pool.get().await.expect("an idle connection"));
    let rooms = count_calls(&scripted.database, "make_room");
    let full = ConnectError::new(ConnectErrorKind::Overloaded, "too many connections");

    scripted.database.fail_next(1, full.clone());
    rotate_to_host(&scripted, "two", "b").await;
    until_generation(&scripted.pool, 3).await;
    assert_eq!(rooms.load(Ordering::Acquire), 0, "another server is full");

    drop(scripted.pool.get().await.expect("an idle connection"));
    scripted.database.fail_next(1, full.clone());
    rotate_to_host(&scripted, "two", "c").await;
    until_generation(&scripted.pool, 4).await;
    assert_eq!(rooms.load(Ordering::Acquire), 1, "the same server is full");

    scripted.database.fail_next(1, full);
    rotate_to_host(&scripted, "two", "d").await;
    until_generation(&scripted.pool, 5).await;
    assert_eq!(rooms.load(Ordering::Acquire), 1, "it made room just now");
}

#[tokio::test(start_paused = true)]
async fn connections_are_opened_ahead_alone_first_and_then_in_quarters_of_the_maximum() {
    let database = ScriptedPools::new(MAX).with_warm_connections(WARM);
    let steps = count_calls(&database, "warm");
    let scripted = Scripted::with_database(ScriptedProvider::new(), database).await;
    assert_eq!(scripted.database.logins().len(), WARM as usize);
    assert_eq!(steps.load(Ordering::Acquire), 4, "1, 4, 7 and 10 open");
}

/// Returns a pool in which two connections were opened before the publication, because old ones
/// are in use.
async fn opened_in_part() -> (Scripted, Vec<ScriptedConnection>) {
    let provider = ScriptedProvider::new().with_lifetime(Duration::from_secs(60));
    let database = ScriptedPools::new(MAX).with_warm_connections(WARM);
    database.disable_in_place();
    let scripted = Scripted::with_database(provider, database).await;
    let mut old = Vec::new();
    for _ in 0..MAX {
        old.push(scripted.pool.get().await.expect("a connection"));
    }
    let before = scripted.database.logins().len();
    scripted.provider.rotate();
    let rotated = scripted.lab.supervisor.rotate_now("login").await;
    drop(rotated.expect("a new lease"));
    until_generation(&scripted.pool, 2).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(
        scripted.database.logins().len(),
        before + 2,
        "the hazard: there is no room for more"
    );
    (scripted, old)
}

#[tokio::test(start_paused = true)]
async fn the_rest_is_opened_when_old_connections_are_returned() {
    let (scripted, old) = opened_in_part().await;
    let before = scripted.database.logins().len();
    drop(old);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(scripted.database.logins().len(), before + WARM as usize - 2);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_login_ends_the_opening_and_causes_a_fetch() {
    let (scripted, old) = opened_in_part().await;
    let before = scripted.database.logins().len();
    scripted.database.accept_only(["another password"]);
    scripted.provider.fail_next(1_000, backend_down());
    drop(old);
    until_rejected(&scripted.pool).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(scripted.database.logins()[before..], [false]);
    assert!(fetches(&scripted.provider, RotationTrigger::Rejected) > 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_opened_after_the_lease_has_expired() {
    let (scripted, old) = opened_in_part().await;
    scripted.provider.fail_next(1_000, backend_down());
    scripted.lab.clock.jump(Duration::from_secs(60));
    let before = scripted.database.logins().len();
    drop(old);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(scripted.database.logins().len(), before);
}
