//! needs: postgresql, quiet
//!
//! Results of callers whose login fails, and of cancelled ones.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod fixture;

use std::future::pending;
use std::time::Duration;

use claviger::error::ConnectErrorKind;
use claviger::pool::{Check, PoolFactory};
use claviger_diesel_async::deadpool::managed::PoolConfig;
use claviger_diesel_async::diesel;
use claviger_diesel_async::diesel_async::{AsyncConnection, RunQueryDsl};
use claviger_diesel_async::{CallError, DieselPools};
use futures_util::FutureExt;
use tokio::time::{Instant, sleep, timeout};

use fixture::{Fixture, PATIENCE, value};

#[tokio::test(flavor = "multi_thread")]
async fn each_caller_gets_the_error_of_its_own_login() {
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
    let mut config = PoolConfig::new(4);
    config.timeouts.wait = Some(Duration::from_secs(1));
    let pools = DieselPools::new(fixture.connect(), config);
    let pool = fixture.pool(pools).await;
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
async fn a_cancelled_transaction_closes_its_connection() {
    let fixture = Fixture::new().await;
    let pool = fixture.pool(fixture.pools(2)).await;
    let mut cancelled = 0;
    for polls in (1..=8).cycle().take(200) {
        let mut connection = pool.get().await.expect("a connection");
        let mut call = Box::pin(async move {
            let outcome = connection.transaction(async |connection| {
                diesel::sql_query("select 1").execute(connection).await
            });
            outcome.await.expect("it commits");
        });
        // Cancelled at another await point each time.
        let mut pending = true;
        for _ in 0..polls {
            pending = pending && call.as_mut().now_or_never().is_none();
            sleep(Duration::from_micros(200)).await;
        }
        cancelled += u32::from(pending);
    }
    assert!(cancelled > 20, "the hazard: {cancelled} were cancelled");
    // One more is cancelled while it is certainly inside, and no call follows.
    let open = "select count(*) from pg_stat_activity where usename = 'app' \
                and state like 'idle in transaction%'";
    let until_open = async |expected: &str| {
        let counted = async {
            while fixture.server.sql(open).expect("a count").trim() != expected {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, counted).await.expect(expected);
    };
    let mut connection = pool.get().await.expect("a connection");
    let call = async move {
        let outcome = connection.transaction(async |connection| {
            diesel::sql_query("select 1").execute(connection).await?;
            pending::<Result<(), diesel::result::Error>>().await
        });
        outcome.await
    };
    tokio::select! {
        outcome = call => outcome.expect("it never ends"),
        () = until_open("1") => {}
    }
    until_open("0").await;
    let mut connection = pool.get().await.expect("a connection");
    assert_eq!(value(&mut connection, "1").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_finds_that_the_role_was_dropped() {
    let fixture = Fixture::new().await;
    let pools = fixture.pools(1);
    let pool = fixture.pool(pools.clone()).await;
    let mut connection = pool.get().await.expect("a connection");
    let pid = value(&mut connection, "pg_backend_pid()").await;
    let working = pools.check_connection(&mut connection, Check::Probe).await;
    working.expect("the role exists");
    for sql in [
        "alter database orders owner to current_user",
        "drop role app",
    ] {
        fixture.server.sql(sql).expect("dropped");
    }
    let pinged = pools.check_connection(&mut connection, Check::Ping).await;
    pinged.expect("the hazard: a ping does not find it");
    let probed = pools.check_connection(&mut connection, Check::Probe).await;
    let error = probed.expect_err("no such role");
    let kind = pools.classify_probe(&error).kind();
    assert_eq!(kind, ConnectErrorKind::Rejected, "{error:?}");
    // Waits until the process has ended.
    let terminate = format!("select pg_terminate_backend({pid}, 10000)");
    assert_eq!(fixture.server.sql(&terminate).expect("ended").trim(), "t");
    let probed = pools.check_connection(&mut connection, Check::Probe).await;
    let kind = pools.classify_probe(&probed.expect_err("closed")).kind();
    assert_eq!(kind, ConnectErrorKind::Unreachable);
}
