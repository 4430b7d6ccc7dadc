//! needs: postgresql, quiet
//!
//! Connections of deadpool's pools on a real PostgreSQL: which are handed out, and which errors.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod fixture;

use std::time::Duration;

use claviger::Credentials;
use claviger::pool::PoolFactory;
use claviger_deadpool_postgres::deadpool_postgres::PoolConfig;
use claviger_deadpool_postgres::{CallError, DeadpoolPools};
use futures_util::FutureExt;

use fixture::{Fixture, eventually, pid};

/// Returns how many TCP connections the server has received, also without a login.
fn connects(fixture: &Fixture) -> usize {
    let received = "connection received: host=127.0.0.1";
    fixture.server.log().count(received).expect("a log")
}

#[test]
fn try_get_works_outside_of_a_runtime() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (fixture, pool) = runtime.block_on(async {
        let fixture = Fixture::new().await;
        let pool = fixture.pool(fixture.pools(4)).await;
        (fixture, pool)
    });
    assert!(pool.try_get().is_none());
    drop(runtime.block_on(pool.get()).expect("a connection"));
    drop(pool.try_get().expect("an idle connection"));
    assert_eq!(fixture.server.connection_count("app").expect("a count"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn try_get_opens_no_connection() {
    let fixture = Fixture::new().await;
    let pool = fixture.pool(fixture.pools(4)).await;
    let before = connects(&fixture);
    for _ in 0..1_000 {
        assert!(pool.try_get().is_none());
    }
    let busy = pool.get().await.expect("a connection");
    for _ in 0..1_000 {
        assert!(pool.try_get().is_none(), "the only connection is in use");
    }
    let only = pid(&busy).await;
    drop(busy);
    let taken = pool.try_get().expect("an idle connection");
    assert_eq!(pid(&taken).await, only);
    assert_eq!(connects(&fixture), before + 1);
    assert_eq!(fixture.open_connections(), 1);
    let status = pool.status().expect("supervised");
    assert_eq!((status.connections, status.idle), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_connection_is_never_handed_out() {
    let fixture = Fixture::new().await;
    let pool = fixture.pool(fixture.pools(4)).await;
    for _ in 0..5 {
        let mut busy = Vec::new();
        for _ in 0..4 {
            busy.push(pool.get().await.expect("a connection"));
        }
        drop(busy);
        fixture.server.terminate_connections("app").expect("killed");
        eventually("the server has closed them", || {
            fixture.open_connections() == 0
        })
        .await;
        let connection = pool.get().await.expect("a connection");
        let queried = connection.query_one("select 1", &[]).await;
        queried.expect("an open connection");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_gets_room_for_the_verification() {
    let fixture = Fixture::new().await;
    let pool = fixture.pool(fixture.pools(4)).await;
    let mut busy = Vec::new();
    for _ in 0..4 {
        busy.push(pool.get().await.expect("a connection"));
    }
    drop(busy);
    fixture
        .server
        .sql("alter role app connection limit 4")
        .expect("limited");
    fixture
        .server
        .set_password("app", "password-2")
        .expect("set");
    fixture.provider.rotate();
    fixture.provider.hint();
    eventually("the next generation is published", || {
        pool.generation() == 2
    })
    .await;
    let full = fixture
        .server
        .log()
        .count("too many connections")
        .expect("a log");
    assert!(full > 0, "the hazard: the role was at its limit");
    drop(pool.get().await.expect("a connection"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_gets_the_drivers_error() {
    let fixture = Fixture::new().await;
    let mut config = PoolConfig::new(4);
    config.timeouts.wait = Some(Duration::from_secs(1));
    let pool = fixture
        .pool(DeadpoolPools::new(fixture.connect(), config))
        .await;
    fixture
        .server
        .sql("alter database orders allow_connections false")
        .expect("set");
    let error = pool.get().await.map(drop).expect_err("not allowed");
    assert_eq!(error.code(), Some("55000"), "{error}");
    let original = error.postgres_error().and_then(|error| error.as_db_error());
    assert!(original.is_some());
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
async fn a_cancelled_transaction_leaves_no_connection_inside_it() {
    let fixture = Fixture::new().await;
    let pool = fixture.pool(fixture.pools(2)).await;
    drop((
        pool.get().await.expect("a connection"),
        pool.get().await.expect("a connection"),
    ));
    let mut cancelled = 0;
    for polls in (1..=8).cycle() {
        if cancelled == 2_000 {
            break;
        }
        let mut call = Box::pin(async {
            let mut client = pool.get().await.expect("a connection");
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
    }
    let mut busy = Vec::new();
    for _ in 0..2 {
        let connection = pool.get().await.expect("a connection");
        // Its response comes after that to a rollback which is under way.
        connection.batch_execute("").await.expect("it works");
        busy.push(connection);
    }
    let inside = "select count(*) from pg_stat_activity where usename = 'app' \
                  and state like 'idle in transaction%'";
    assert_eq!(fixture.server.sql(inside).expect("a count").trim(), "0");
    // A connection reports its statistics at its end.
    drop(busy);
    fixture
        .supervisor
        .remove_pool("orders")
        .await
        .expect("removed");
    let rolled_back = "select xact_rollback > 100 from pg_stat_database where datname = 'orders'";
    eventually("the hazard: transactions were cancelled", || {
        fixture
            .server
            .sql(rolled_back)
            .is_ok_and(|text| text.trim() == "t")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_shown() {
    let fixture = Fixture::new().await;
    let pools = fixture.pools(4);
    let pool = fixture.pool(pools.clone()).await;
    let connection = pool.get().await.expect("a connection");
    let current = pool.current();
    let deadpool = current.deadpool().expect("verified");
    fixture.server.set_password("app", "another").expect("set");
    let error = pools.verify(&Credentials::new("app", "password-1")).await;
    let error = CallError::Connect(error.expect_err("rejected"));
    let shown =
        format!("{pools:?} {pool:?} {current:?} {deadpool:?} {connection:?} {error:?} {error}");
    assert!(shown.contains("28P01"), "{shown}");
    assert!(!shown.contains("password-1"), "{shown}");
}
