//! Pools with a queue of their own: callers wait there, and each login waits for a permit. Time is
//! paused.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use claviger::lease::OldConnections;
use claviger::pool::PoolFactory;
use claviger_fixtures::{Scripted, backend_down};
use claviger_testkit::{ScriptedConnection, ScriptedPools, ScriptedProvider};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

const MAX: u32 = 10;
const LOGIN: Duration = Duration::from_millis(20);

async fn scripted(old_connections: OldConnections) -> Scripted {
    let provider = ScriptedProvider::new().with_old_connections(old_connections);
    let database = ScriptedPools::new(MAX).with_own_queue();
    database.delay_logins(LOGIN);
    Scripted::with_database(provider, database).await
}

async fn take(scripted: &Scripted, connections: u32) -> Vec<ScriptedConnection> {
    let mut taken = Vec::new();
    for _ in 0..connections {
        taken.push(scripted.pool.get().await.expect("a connection"));
    }
    taken
}

/// Starts callers that each use a connection for a time. They return how long they waited.
fn call(
    scripted: &Scripted,
    callers: usize,
    use_for: Duration,
) -> Vec<JoinHandle<Option<Duration>>> {
    let call = || {
        let pool = scripted.pool.clone();
        tokio::spawn(async move {
            let began = Instant::now();
            let connection = pool.get().await.ok()?;
            let waited = began.elapsed();
            sleep(use_for).await;
            drop(connection);
            Some(waited)
        })
    };
    (0..callers).map(|_| call()).collect()
}

fn failed_logins(scripted: &Scripted) -> usize {
    let logins = scripted.database.logins();
    logins.iter().filter(|accepted| !**accepted).count()
}

async fn ends(calls: Vec<JoinHandle<Option<Duration>>>) -> Vec<Duration> {
    let mut ends = Vec::new();
    for call in calls {
        let took = call.await.expect("no panic");
        ends.push(took.expect("a connection"));
    }
    ends
}

#[tokio::test(start_paused = true)]
async fn one_changed_password_costs_one_budget_however_many_callers_log_in() {
    let scripted = scripted(OldConnections::Keep).await;
    let password = scripted.provider.rotate();
    scripted.database.accept_only([password]);
    let calls = call(&scripted, 1_000, Duration::from_millis(1));
    let ends = ends(calls).await;
    let failed = failed_logins(&scripted);
    assert!(failed >= 1, "the hazard: a login was rejected");
    assert!(failed <= MAX as usize + 3, "{failed} failed logins");
    assert_eq!(scripted.provider.calls().len(), 2, "one fetch for all");
    let longest = ends.into_iter().max().expect("1,000");
    assert!(
        longest < Duration::from_secs(2),
        "a caller waited {longest:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn callers_share_open_connections_while_the_credentials_are_rejected() {
    let scripted = scripted(OldConnections::Keep).await;
    let taken = take(&scripted, 2).await;
    scripted.database.accept_only(["another password"]);
    assert!(
        timeout(Duration::from_secs(1), scripted.pool.get())
            .await
            .is_err(),
        "both open connections are busy"
    );
    assert!(
        scripted.pool.status().expect("a status").rejected,
        "the hazard"
    );
    drop(taken);
    let before = scripted.database.logins().len();
    let calls = call(&scripted, 100, Duration::from_millis(10));
    assert_eq!(ends(calls).await.len(), 100);
    assert_eq!(scripted.database.logins().len(), before, "nobody logs in");
}

#[tokio::test(start_paused = true)]
async fn callers_get_the_rejection_when_nothing_else_is_to_be_expected() {
    let scripted = scripted(OldConnections::Keep).await;
    scripted.database.accept_only(["another password"]);
    let error = scripted.pool.get().await.expect_err("a rejection");
    assert_eq!(error.code(), Some("28P01"));
}

#[tokio::test(start_paused = true)]
async fn old_and_new_connections_stay_within_the_budget_and_no_caller_starves() {
    let scripted = scripted(OldConnections::Drain).await;
    let mut taken = take(&scripted, MAX).await;
    scripted.provider.rotate();
    scripted
        .lab
        .supervisor
        .rotate_now("login")
        .await
        .expect("a report");
    assert_eq!(scripted.pool.generation(), 2);
    // Two old ones stay for longer than a call may take: eight new ones serve all.
    let leaving = taken.split_off(2);
    tokio::spawn(async move {
        for connection in leaving {
            sleep(LOGIN).await;
            drop(connection);
        }
    });
    let calls = call(&scripted, 64, Duration::from_millis(50));
    let database = scripted.database.clone();
    let most_open = tokio::spawn(async move {
        let mut most = 0;
        for _ in 0..1_000 {
            let pools = database.opened();
            most = most.max(pools.iter().map(|pool| database.connections(pool)).sum());
            sleep(Duration::from_millis(1)).await;
        }
        most
    });
    let longest = ends(calls).await.into_iter().max().expect("64");
    assert!(
        longest < Duration::from_secs(2),
        "a caller waited {longest:?}"
    );
    let most_open: u32 = most_open.await.expect("no panic");
    assert!(most_open >= MAX, "the hazard: old and new were open");
    assert!(most_open <= MAX + MAX / 4, "{most_open} connections");
    drop(taken);
}

#[tokio::test(start_paused = true)]
async fn the_pool_itself_logs_in_with_the_next_credentials_after_a_rejection() {
    let scripted = scripted(OldConnections::Keep).await;
    scripted.provider.fail_next(1, backend_down());
    scripted.database.accept_only(["password-2"]);
    scripted.pool.get().await.expect_err("a rejection");
    let before = scripted.database.logins().len();
    let (database, pool) = (scripted.database.clone(), scripted.pool.current());
    let direct = tokio::spawn(async move { database.get(&pool).await.is_ok() });
    sleep(Duration::from_secs(1)).await;
    assert_eq!(scripted.database.logins().len(), before, "it waits");
    scripted.provider.rotate();
    let rotated = scripted.lab.supervisor.rotate_now("login").await;
    rotated.expect("a report");
    assert!(direct.await.expect("no panic"));
    assert_eq!(scripted.database.logins()[before..], [true]);
}

#[tokio::test(start_paused = true)]
async fn nobody_logs_in_for_a_pool_that_was_replaced() {
    let scripted = scripted(OldConnections::Drain).await;
    let old = scripted.pool.current();
    scripted.database.delay_closing(Duration::from_secs(60));
    scripted.provider.rotate();
    let rotated = scripted.lab.supervisor.rotate_now("login").await;
    rotated.expect("a report");
    let before = scripted.database.logins().len();
    scripted.database.get(&old).await.expect_err("it is over");
    assert_eq!(scripted.database.logins().len(), before);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_has_begun_ends_without_its_caller() {
    let scripted = scripted(OldConnections::Keep).await;
    let before = scripted.database.logins().len();
    let call = timeout(LOGIN / 2, scripted.pool.get()).await;
    assert!(call.is_err(), "the caller gave up");
    sleep(LOGIN).await;
    assert_eq!(scripted.database.logins().len(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_gave_up_while_it_waited_for_a_permit_never_logs_in() {
    let scripted = scripted(OldConnections::Keep).await;
    let before = scripted.database.logins().len();
    // The first one logs in alone, and the others wait for its result.
    let calls = call(&scripted, MAX as usize, Duration::ZERO);
    sleep(LOGIN / 2).await;
    for call in calls {
        call.abort();
    }
    sleep(10 * LOGIN).await;
    assert_eq!(scripted.database.logins().len(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn a_search_for_an_idle_connection_begins_no_login() {
    let scripted = scripted(OldConnections::Keep).await;
    let before = scripted.database.logins().len();
    assert!(scripted.pool.try_get().is_none());
    sleep(10 * LOGIN).await;
    assert_eq!(scripted.database.logins().len(), before);
}

#[tokio::test(start_paused = true)]
async fn callers_that_wait_for_a_slow_login_take_a_returned_connection() {
    let scripted = scripted(OldConnections::Keep).await;
    let taken = take(&scripted, 1).await;
    scripted.database.delay_logins(Duration::from_secs(20));
    // The others no longer log in at once because one has worked.
    sleep(Duration::from_secs(2)).await;
    let calls = call(&scripted, 3, Duration::ZERO);
    sleep(Duration::from_millis(50)).await;
    drop(taken);
    let mut ends = ends(calls).await;
    ends.sort();
    assert!(
        ends[1] < Duration::from_secs(1) && ends[2] >= Duration::from_secs(20),
        "callers waited {ends:?}"
    );
}

/// Returns a pool of generation 2, all connections of generation 1, and logins that the new pool
/// itself began. The connections fill the budget except for one, so the logins wait for permits.
async fn waiting_logins(
    scripted: &Scripted,
    logins: usize,
) -> (Vec<ScriptedConnection>, ScriptedConnection) {
    let old = take(scripted, MAX).await;
    scripted.provider.rotate();
    let rotated = scripted.lab.supervisor.rotate_now("login").await;
    rotated.expect("a report");
    assert_eq!(scripted.pool.generation(), 2);
    let new = scripted.pool.get().await.expect("within the budget");
    for _ in 0..logins {
        let (database, pool) = (scripted.database.clone(), scripted.pool.current());
        tokio::spawn(async move { database.get(&pool).await });
    }
    sleep(10 * LOGIN).await;
    (old, new)
}

#[tokio::test(start_paused = true)]
async fn logins_of_the_pool_itself_leave_the_queue_to_callers_while_rejected() {
    let scripted = scripted(OldConnections::Drain).await;
    let (mut old, new) = waiting_logins(&scripted, 6).await;
    scripted.provider.fail_next(100, backend_down());
    scripted.database.accept_only(["another password"]);
    // One of the logins gets a permit.
    drop(old.pop());
    sleep(10 * LOGIN).await;
    assert!(
        scripted.pool.status().expect("a status").rejected,
        "the hazard"
    );
    drop(new);
    let open = timeout(Duration::from_secs(1), scripted.pool.get()).await;
    open.expect("at once").expect("the open connection");
}

#[tokio::test(start_paused = true)]
async fn no_login_begins_after_the_lease_has_expired() {
    let lifetime = Duration::from_secs(590);
    let provider = ScriptedProvider::new()
        .with_old_connections(OldConnections::Drain)
        .with_lifetime(lifetime);
    let database = ScriptedPools::new(MAX).with_own_queue();
    let scripted = Scripted::with_database(provider, database).await;
    let (mut old, _new) = waiting_logins(&scripted, 6).await;
    scripted.provider.fail_next(1_000, backend_down());
    sleep(lifetime).await;
    let before = scripted.database.logins().len();
    drop(old.pop());
    sleep(Duration::from_secs(10)).await;
    assert_eq!(scripted.database.logins().len(), before);
}
