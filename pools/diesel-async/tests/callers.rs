//! needs: postgresql, quiet
//!
//! Connections of callers that are cancelled inside a transaction, or whose role is dropped.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod kind;

use std::future::pending;
use std::time::Duration;

use claviger::error::ConnectErrorKind;
use claviger::lease::OldConnections;
use claviger::pool::{Check, PoolFactory};
use claviger_diesel_async::diesel;
use claviger_diesel_async::diesel_async::{AsyncConnection, RunQueryDsl};
use claviger_pool_laws::{Fixture, ONE, PATIENCE, PgKind, Settings};
use tokio::time::{sleep, timeout};

use kind::Diesel;

/// No call follows, which would find the transaction.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_transaction_closes_its_connection() {
    let fixture = Fixture::<Diesel>::new(OldConnections::Drain, Settings::of(2)).await;
    let open = "select count(*) from pg_stat_activity where usename = 'app' \
                and state like 'idle in transaction%'";
    let until_open = async |expected: &str| {
        let counted = async {
            while fixture.sql(open) != expected {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, counted).await.expect(expected);
    };
    let mut connection = fixture.pool.get().await.expect("a connection");
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
    let mut connection = fixture.pool.get().await.expect("a connection");
    assert_eq!(Diesel::value(&mut connection, ONE).await, Ok(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_finds_that_the_role_was_dropped() {
    let settings = Settings::of(1);
    let fixture = Fixture::<Diesel>::new(OldConnections::Drain, settings).await;
    let pools = Diesel::factory(fixture.connect(), settings);
    let mut connection = fixture.pool.get().await.expect("a connection");
    let pid = Diesel::value(&mut connection, "select pg_backend_pid()::bigint as value").await;
    let pid = pid.expect("a process");
    let working = pools.check_connection(&mut connection, Check::Probe).await;
    working.expect("the role exists");
    for sql in [
        "alter database orders owner to current_user",
        "drop role app",
    ] {
        fixture.sql(sql);
    }
    let pinged = pools.check_connection(&mut connection, Check::Ping).await;
    pinged.expect("the hazard: a ping does not find it");
    let probed = pools.check_connection(&mut connection, Check::Probe).await;
    let error = probed.expect_err("no such role");
    let kind = pools.classify_probe(&error).kind();
    assert_eq!(kind, ConnectErrorKind::Rejected, "{error:?}");
    // Waits until the process has ended.
    let terminate = format!("select pg_terminate_backend({pid}, 10000)");
    assert_eq!(fixture.sql(&terminate), "t");
    let probed = pools.check_connection(&mut connection, Check::Probe).await;
    let kind = pools.classify_probe(&probed.expect_err("closed")).kind();
    assert_eq!(kind, ConnectErrorKind::Unreachable);
}
