//! needs: postgresql
//!
//! Many callers get one error: what it costs the database, and recovery when it ends.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use claviger::lease::OldConnections;
use claviger::{Handle, PgPools};
use claviger_fixtures::{
    Fixture, Scripted, eventually, eventually_within, query, query_at_once, signal,
    until_generation, until_rejected, until_serving,
};
use claviger_testkit::{ScriptedPools, ScriptedProvider};
use sqlx::Executor;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

/// Opens connections and keeps them busy.
async fn open(
    db: &Handle<PgPools>,
    connections: usize,
) -> Vec<sqlx::pool::PoolConnection<sqlx::Postgres>> {
    let mut opened = Vec::new();
    for _ in 0..connections {
        opened.push(db.acquire().await.expect("a connection"));
    }
    opened
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_password_during_a_drain_costs_one_login_budget() {
    let fixture = Fixture::new().await;
    let options = fixture
        .pool_options(10)
        .acquire_timeout(Duration::from_secs(2));
    let db = fixture.pool_with(options).await;
    let busy = open(&db, 1).await;
    fixture.rotate_announced().await;
    until_generation(&db, 2).await;
    assert_eq!(
        db.status().expect("supervised").draining.len(),
        1,
        "the hazard: an old connection is open"
    );
    fixture.terminate_connections().await;
    drop(busy);
    let busy = open(&db, 1).await;
    fixture.rotate_announced().await;
    until_generation(&db, 3).await;

    let before = fixture.rejected_logins();
    fixture.set_password("another password").await;
    drop(query_at_once(&db, 1_000).await);
    let rejected = fixture.rejected_logins() - before;
    assert!(
        (1..=13).contains(&rejected),
        "{rejected} failed logins with a maximum of 10"
    );
    drop(busy);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_password_costs_callers_a_quarter_of_the_pool_in_failed_logins() {
    let fixture = Fixture::new().await;
    let options = fixture
        .pool_options(20)
        .acquire_timeout(Duration::from_millis(500));
    let db = fixture.pool_with(options).await;
    let before = fixture.rejected_logins();
    // After a recent successful login, callers are admitted without waiting for a first one.
    let busy = open(&db, 1).await;
    fixture.set_password("another password").await;
    let began = Instant::now();
    let rejection = async {
        until_rejected(&db).await;
        began.elapsed()
    };
    let (results, took) = tokio::join!(query_at_once(&db, 1_000), rejection);
    drop(results);
    // Five logins of callers, and the verifications of the first seconds. A caller keeps its place
    // for 100 ms. If the first rejection takes longer, five more logins have begun.
    let most = if took < Duration::from_millis(100) {
        10
    } else {
        15
    };
    let rejected = fixture.rejected_logins() - before;
    assert!(
        (1..=most).contains(&rejected),
        "{rejected} failed logins with a maximum of 20, the first rejected after {took:?}"
    );
    drop(busy);
}

#[tokio::test(flavor = "multi_thread")]
async fn queued_callers_are_served_after_a_handover_in_place() {
    let fixture =
        Fixture::with(ScriptedProvider::new().with_old_connections(OldConnections::Keep)).await;
    let db = fixture.pool(2).await;
    let busy = open(&db, 1).await;
    // After a rejection and a new verification, logins are limited for a while.
    fixture.set_password("another password").await;
    let waiting = tokio::spawn({
        let db = db.clone();
        async move { query(&db).await.is_ok() }
    });
    until_rejected(&db).await;
    fixture.set_password("password-1").await;
    until_serving(&db).await;
    waiting.await.expect("no panic");
    let mut connections = busy;
    connections.extend(open(&db, 1).await);
    let before = db.generation();

    let callers: Vec<_> = (0..6)
        .map(|_| {
            let db = db.clone();
            tokio::spawn(async move { query(&db).await.map(drop) })
        })
        .collect();
    sleep(Duration::from_millis(50)).await;
    let next = fixture.provider.rotate();
    fixture.set_password(&next).await;
    fixture.provider.hint();
    eventually("the next generation is current", || {
        db.generation() > before
    })
    .await;
    drop(connections);
    for caller in callers {
        caller.await.expect("no panic").expect("the query succeeds");
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_rewritten_with_wrong_passwords_does_not_exclude_the_right_one() {
    for (max, every) in [(10, 1), (4, 1), (20, 1), (10, 3), (10, 5)] {
        for seconds in (5..=105).step_by(10) {
            write_wrong_passwords_and_then_the_right_one(max, every, seconds).await;
        }
    }
}

/// Writes a wrong password every `every` seconds, and the correct one after `seconds`.
async fn write_wrong_passwords_and_then_the_right_one(max: u32, every: u64, seconds: u64) {
    let Scripted {
        provider,
        database,
        pool,
        ..
    } = Scripted::with_database(ScriptedProvider::new(), ScriptedPools::new(max)).await;
    database.accept_only(["password-1"]);
    let began = Instant::now();
    let (mut in_window, mut windows) = (0, [30, 90].into_iter());
    let mut window = windows.next();
    while began.elapsed() < Duration::from_secs(seconds) {
        if window.is_some_and(|ends| began.elapsed() >= Duration::from_secs(ends)) {
            (in_window, window) = (database.rejected(), windows.next());
        }
        provider.rotate();
        provider.hint();
        sleep(Duration::from_secs(every)).await;
        let rejected = database.rejected() - in_window;
        assert!(
            rejected <= max as usize + 3,
            "{rejected} failed logins in one window with a maximum of {max}"
        );
    }
    assert!(database.rejected() >= 3, "the hazard: logins are rejected");
    let right = provider.rotate();
    database.accept_only([right.clone()]);
    provider.hint();
    sleep(Duration::from_secs(20)).await;
    assert_eq!(
        pool.current().password(),
        right,
        "maximum {max}, a wrong password every {every} s, the right one after {seconds} s"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_with_a_connection_limit_of_the_pool_s_maximum_is_rotated() {
    for (connections, max, min) in [
        (OldConnections::Keep, 4, 0),
        (OldConnections::Drain, 4, 0),
        // Two connections are opened before the publication, and there is room for one.
        (OldConnections::Drain, 12, 4),
    ] {
        let (fixture, db) = at_the_connection_limit(connections, max, min).await;
        drop(open(&db, max as usize).await);
        eventually("all connections are idle", || {
            db.current().num_idle() == max as usize
        })
        .await;
        fixture.rotate_announced().await;
        until_rotated(&db, Duration::from_secs(20)).await;
        assert_limit_was_reached(&fixture);
        query(&db).await.expect("the query succeeds");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_at_its_connection_limit_is_rotated_while_all_connections_are_busy() {
    let (fixture, db) = at_the_connection_limit(OldConnections::Drain, 4, 0).await;
    let busy = open(&db, 4).await;
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let (db, stop) = (db.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut failed = 0;
                while !stop.load(Ordering::Relaxed) {
                    let result = sqlx::query("SELECT pg_sleep(0.02)").execute(&db).await;
                    failed += u32::from(result.is_err());
                }
                failed
            })
        })
        .collect();
    drop(busy);
    fixture.rotate_announced().await;
    until_rotated(&db, Duration::from_secs(40)).await;
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        assert_eq!(caller.await.expect("no panic"), 0, "failed statements");
    }
    assert_limit_was_reached(&fixture);
}

/// Returns a pool whose role may have as many connections as the pool.
async fn at_the_connection_limit(
    old_connections: OldConnections,
    max: u32,
    min: u32,
) -> (Fixture, Handle<PgPools>) {
    let provider = ScriptedProvider::new().with_old_connections(old_connections);
    let fixture = Fixture::with(provider).await;
    let credentials = fixture.add_provider().await;
    let options = fixture.pool_options(max).min_connections(min);
    let pools = fixture.pools_with(options);
    let db = fixture.add_pool("orders", &credentials, pools).await;
    let limit = format!("ALTER ROLE app CONNECTION LIMIT {max}");
    fixture.sql(&limit).await;
    (fixture, db)
}

async fn until_rotated(db: &Handle<PgPools>, within: Duration) {
    eventually_within(within, "the next generation is current", || {
        db.generation() == 2
    })
    .await;
}

fn assert_limit_was_reached(fixture: &Fixture) {
    let log = fixture.server.log();
    let rejections = log.count("too many connections for role");
    assert!(rejections.expect("the log") >= 1, "the hazard");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_connection_frees_its_permit() {
    let fixture = Fixture::new().await;
    let credentials = fixture.add_provider().await;
    let options = fixture
        .pool_options(1)
        .acquire_timeout(Duration::from_secs(20));
    let pools = PgPools::new(fixture.connect_options(), options)
        .with_return_timeout(Duration::from_millis(300));
    let db = fixture.add_pool("orders", &credentials, pools).await;
    let mut hangs = db.acquire().await.expect("a connection");
    let _first = Frozen::behind(&mut hangs).await;
    drop(hangs);
    timeout(Duration::from_secs(5), query(&db))
        .await
        .expect("within the timeout")
        .expect("a new connection");
    // Without the option, a cancelled statement on the handle frees its permit as well.
    let db = fixture
        .supervisor
        .add_pool(
            "reports",
            &credentials,
            fixture.pools_with(
                fixture
                    .pool_options(1)
                    .acquire_timeout(Duration::from_secs(20)),
            ),
        )
        .await;
    let db = db.expect("verified");
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(&db)
        .await
        .expect("a connection");
    let frozen = async {
        let statement = sqlx::query("SELECT pg_sleep(0.2)").execute(&db);
        let stop = async {
            sleep(Duration::from_millis(100)).await;
            signal("-STOP", pid);
            std::future::pending::<()>().await;
        };
        tokio::select! { _ = statement => {} () = stop => {} }
    };
    assert!(
        timeout(Duration::from_secs(1), frozen).await.is_err(),
        "the hazard: the connection hangs"
    );
    let began = Instant::now();
    query(&db).await.expect("a new connection");
    assert!(began.elapsed() < Duration::from_secs(15));
    signal("-CONT", pid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_begin_on_a_server_that_hangs_for_long_leaves_no_transaction_open() {
    let fixture = Fixture::new().await;
    let credentials = fixture.add_provider().await;
    let pools = fixture
        .pools_with(fixture.pool_options(1))
        .with_check_after_idle(Duration::from_secs(60));
    let db = fixture.add_pool("orders", &credentials, pools).await;
    let mut connection = db.acquire().await.expect("a connection");
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(&mut *connection)
        .await
        .expect("its process");
    drop(connection);
    eventually("the connection is idle", || db.current().num_idle() == 1).await;
    signal("-STOP", pid);
    let begin = timeout(Duration::from_millis(300), db.begin()).await;
    assert!(begin.is_err(), "the hazard: the server hangs");
    // Longer than a connection may take to be returned.
    sleep(Duration::from_secs(11)).await;
    signal("-CONT", pid);
    query(&db).await.expect("the query succeeds");
    let open = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'";
    assert_eq!(fixture.sql(open).await.trim(), "0");
}

/// A stopped server process behind a connection, as if the network dropped all packets. It is
/// killed on drop, because the server's shutdown would wait for it.
struct Frozen(i32);

impl Frozen {
    async fn behind(connection: &mut sqlx::PgConnection) -> Self {
        let pid = sqlx::query_scalar("SELECT pg_backend_pid()")
            .fetch_one(connection)
            .await
            .expect("the connection's process");
        signal("-STOP", pid);
        Self(pid)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        signal("-KILL", self.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn opening_idle_connections_delays_no_caller() {
    let fixture = Fixture::new().await;
    // Each connection waits in its hook for a permit. The first generation needs one for its
    // verification and eight for its pool.
    let (permits, entered) = (Arc::new(Semaphore::new(9)), Arc::new(AtomicU32::new(0)));
    let hook = (Arc::clone(&permits), Arc::clone(&entered));
    let pools = PgPools::new(
        fixture.connect_options(),
        fixture.pool_options(8).min_connections(6),
    )
    .with_after_connect(move |_| {
        let (permits, entered) = hook.clone();
        Box::pin(async move {
            entered.fetch_add(1, Ordering::AcqRel);
            permits.acquire().await.expect("never closed").forget();
            Ok(())
        })
    });
    let db = fixture.pool_from(pools).await;
    let mut busy = open(&db, 8).await;
    // The second generation needs one for its verification and one for the connection opened before
    // publishing. The overlap then allows no more until an old connection closes.
    permits.add_permits(2);
    fixture.rotate_announced().await;
    until_generation(&db, 2).await;
    // sqlx's old pool is closed 100 ms after the handover. A connection whose return begins in that
    // instant would stay idle until no other is busy.
    sleep(Duration::from_millis(300)).await;
    for others in 1..=3 {
        eventually("all connections are idle", || {
            db.current().num_idle() == others
        })
        .await;
        drop(busy.pop());
        eventually("one more connection is being opened", || {
            entered.load(Ordering::Acquire) as usize >= 11 + others
        })
        .await;
        // A login that takes longer than 5 s is abandoned.
        eventually_within(
            Duration::from_secs(2),
            "the other connections are idle",
            || db.current().num_idle() == others,
        )
        .await;
        let query = timeout(Duration::from_secs(2), query(&db)).await;
        query
            .expect("no caller waits for the connection that is being opened")
            .expect("the query succeeds");
        permits.add_permits(1);
    }
    permits.add_permits(100);
    drop(busy);
    let opened = || db.current().size() >= 6;
    eventually_within(Duration::from_secs(10), "min_connections are open", opened).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_fail_after_connect_are_not_published() {
    let fixture = Fixture::new().await;
    fixture
        .sql("CREATE ROLE owner NOLOGIN; GRANT owner TO app")
        .await;
    let credentials = fixture.add_provider().await;
    let ours = PgPools::new(fixture.connect_options(), fixture.pool_options(2)).with_after_connect(
        |connection| Box::pin(async move { connection.execute("SET ROLE owner").await.map(drop) }),
    );
    let theirs = fixture.pool_options(2).after_connect(|connection, _| {
        Box::pin(async move { connection.execute("SET ROLE owner").await.map(drop) })
    });
    let pools = [
        fixture.add_pool("ours", &credentials, ours).await,
        fixture
            .add_pool("theirs", &credentials, fixture.pools_with(theirs))
            .await,
    ];
    fixture.sql("REVOKE owner FROM app").await;
    // The server has the password first, so that no verification fails for another reason.
    let next = fixture.provider.rotate();
    fixture.set_password(&next).await;
    fixture.provider.hint();
    let fails = |db: &Handle<PgPools>, why: &str| {
        db.status()
            .and_then(|status| status.last_error)
            .is_some_and(|error| error.message().contains(why))
    };
    eventually_within(Duration::from_secs(15), "both verifications fail", || {
        fails(&pools[0], "permission denied to set role") && fails(&pools[1], "after_connect")
    })
    .await;
    assert!(pools.iter().all(|db| db.generation() == 1));
    fixture.sql("GRANT owner TO app").await;
    eventually_within(
        Duration::from_secs(30),
        "both pools adopt the next lease",
        || pools.iter().all(|db| db.generation() == 2),
    )
    .await;
    for db in &pools {
        let role: String = sqlx::query_scalar("SELECT current_user::text")
            .fetch_one(db)
            .await
            .expect("the query succeeds");
        assert_eq!(role, "owner");
    }
}
