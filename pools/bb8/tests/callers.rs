//! needs: postgresql, quiet
//!
//! Results of callers whose login fails, and of cancelled ones.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod fixture;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use claviger_bb8::{Bb8Pools, CallError};
use futures_util::FutureExt;
use tokio::time::{Instant, timeout};

use fixture::{Fixture, PATIENCE};

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_login_is_the_error_of_one_caller_and_the_next_logs_in() {
    let fixture = Fixture::new().await;
    let pool = fixture.pool(fixture.pools(1)).await;
    let terminated = fixture.server.terminate_connections("app");
    terminated.expect("terminated");
    // Disallows logins to this database only.
    let allow = |allowed: bool| {
        let sql = format!("alter database orders allow_connections {allowed}");
        fixture.server.sql(&sql).expect("set");
    };
    allow(false);
    let began = Instant::now();
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.get().await.map(drop) })
        })
        .collect();
    for call in calls {
        let error = call.await.expect("no panic").expect_err("not allowed");
        assert_eq!(error.code(), Some("55000"), "{error}");
    }
    assert!(began.elapsed() < PATIENCE, "no call waits for its time-out");
    let logged = "not currently accepting connections";
    let failed = fixture.server.log().count(logged).expect("a log");
    assert!(failed >= 20, "each call has a login of its own: {failed}");
    allow(true);
    drop(pool.get().await.expect("a connection"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_gets_the_drivers_error() {
    let fixture = Fixture::new().await;
    let pools = fixture.pools(4);
    let pool = fixture
        .pool(pools.with_acquire_timeout(Duration::from_secs(1)))
        .await;
    fixture
        .server
        .sql("alter database orders allow_connections false")
        .expect("set");
    let error = pool.get().await.map(drop).expect_err("not allowed");
    assert_eq!(error.code(), Some("55000"), "{error}");
    let original = error.postgres_error().and_then(|error| error.as_db_error());
    assert!(original.is_some());
    assert_eq!(fixture.provider.calls().len(), 1, "no fetch");
    fixture
        .server
        .sql("alter database orders allow_connections true")
        .expect("set");

    let mut busy = Vec::new();
    for _ in 0..4 {
        busy.push(pool.get().await.expect("a connection"));
    }
    let error = pool.get().await.map(drop).expect_err("all are in use");
    assert!(matches!(error, CallError::TimedOut), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_a_hook_is_an_error_and_costs_no_place() {
    let fixture = Fixture::new().await;
    let panics = Arc::new(AtomicBool::new(false));
    let armed = Arc::clone(&panics);
    let connect = fixture.connect().with_after_connect(move |_| {
        assert!(!armed.load(Ordering::Relaxed), "the hook panics");
        Box::pin(async { Ok(()) })
    });
    let pool = fixture.pool(Bb8Pools::new(connect, 1)).await;
    panics.store(true, Ordering::Relaxed);
    let error = pool.get().await.map(drop).expect_err("it panics");
    assert!(error.to_string().contains("panicked"), "{error}");
    panics.store(false, Ordering::Relaxed);
    let again = timeout(PATIENCE, pool.get()).await.expect("there is room");
    drop(again.expect("a connection"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_transaction_leaves_no_connection_inside_it() {
    let fixture = Fixture::new().await;
    let pool = fixture.pool(fixture.pools(2)).await;
    drop((
        pool.get().await.expect("a connection"),
        pool.get().await.expect("a connection"),
    ));
    let (mut cancelled, mut inside) = (0, 0);
    for polls in (1..=8).cycle() {
        if cancelled == 2_000 {
            break;
        }
        let began = AtomicBool::new(false);
        let mut call = Box::pin(async {
            let mut client = pool.get().await.expect("a connection");
            began.store(true, Ordering::Relaxed);
            let transaction = client.transaction().await.expect("it begins");
            let row = transaction.query_one("select 1", &[]).await;
            drop(row.expect("a row"));
            transaction.commit().await.expect("it commits");
        });
        // Cancelled at another await point each time.
        let mut pending = true;
        for _ in 0..polls {
            pending = pending && call.as_mut().now_or_never().is_none();
            tokio::task::yield_now().await;
        }
        cancelled += u32::from(pending);
        inside += u32::from(pending && began.load(Ordering::Relaxed));
    }
    assert!(
        inside > 100,
        "the hazard: {inside} transactions were cancelled"
    );
    let mut busy = Vec::new();
    for _ in 0..2 {
        let connection = pool.get().await.expect("a connection");
        // Its response comes after that to a rollback which is under way.
        connection.batch_execute("").await.expect("it works");
        busy.push(connection);
    }
    let open = "select count(*) from pg_stat_activity where usename = 'app' \
                  and state like 'idle in transaction%'";
    assert_eq!(fixture.server.sql(open).expect("a count").trim(), "0");
}
