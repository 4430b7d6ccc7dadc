//! needs: postgresql, quiet
//!
//! Settings of deadpool itself, on a real PostgreSQL.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod kind;

use std::time::Duration;

use claviger::error::ConnectErrorKind;
use claviger::lease::OldConnections;
use claviger::pool::{Check, PoolFactory};
use claviger::{Credentials, Lease, Revision};
use claviger_deadpool_postgres::deadpool_postgres::PoolConfig;
use claviger_deadpool_postgres::tokio_postgres::Config;
use claviger_deadpool_postgres::{DeadpoolPools, PgConnect};
use claviger_pool_laws::{Fixture, PgKind, Settings};

use kind::Deadpool;

#[tokio::test(flavor = "multi_thread")]
async fn a_check_without_a_response_ends_at_its_limit() {
    let settings = Settings::of(1);
    let fixture = Fixture::<Deadpool>::new(OldConnections::Drain, settings).await;
    let mut config = PoolConfig::new(1);
    config.timeouts.recycle = Some(Duration::from_millis(100));
    let pools = DeadpoolPools::new(fixture.connect(), config);
    let mut connection = fixture.pool.get().await.expect("a connection");
    let pid = Deadpool::value(&mut connection, "select pg_backend_pid()::bigint as value").await;
    let pid = pid.expect("a process");
    signal("-STOP", pid);
    let checked = pools.check_connection(&mut connection, Check::Ping).await;
    signal("-CONT", pid);
    let error = checked.expect_err("no response");
    let kind = error.connect_error().map(|error| error.kind());
    assert_eq!(kind, Some(ConnectErrorKind::Unreachable), "{error}");
}

fn signal(signal: &str, pid: i64) {
    let sent = std::process::Command::new("kill")
        .args([signal, &pid.to_string()])
        .status();
    assert!(sent.expect("kill runs").success());
}

#[test]
fn invalid_timeouts_are_errors_that_name_them() {
    let lease = Lease::new(Credentials::new("app", "password-1"), Revision::new("1"));
    let with = |set: fn(&mut PoolConfig)| {
        let mut config = PoolConfig::new(4);
        set(&mut config);
        let mut server = Config::new();
        server.host("db.internal").dbname("orders");
        DeadpoolPools::new(PgConnect::new(server), config).check(&lease)
    };
    with(|_| ()).expect("valid");
    let create = with(|config| config.timeouts.create = Some(Duration::from_secs(5)));
    let error = create.expect_err("it would end the wait for a permit");
    assert!(error.to_string().contains("timeouts.create: "), "{error}");
    let recycle = with(|config| config.timeouts.recycle = Some(Duration::ZERO));
    let error = recycle.expect_err("no check could succeed");
    assert!(error.to_string().contains("timeouts.recycle: "), "{error}");
}
