//! needs: postgresql, quiet
//!
//! Settings, connections and errors of pools of deadpool-postgres.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod kind;

use std::time::Duration;

use claviger::error::ConnectErrorKind;
use claviger::lease::OldConnections;
use claviger::pool::{Check, CheckPolicy, PoolFactory};
use claviger::report::RotationTrigger;
use claviger::{Credentials, Lease, Revision, Supervisor, static_credentials};
use claviger_deadpool_postgres::deadpool_postgres::PoolConfig;
use claviger_deadpool_postgres::tokio_postgres::Config;
use claviger_deadpool_postgres::{DeadpoolPools, PgConnect};
use claviger_pool_laws::{Fixture, PgKind, Settings, eventually};
use claviger_testkit::ScriptedProvider;
use tokio::time::timeout;

use kind::Deadpool;

claviger_pool_laws::pool_tests!(kind::Deadpool);

#[test]
fn try_get_works_outside_of_a_runtime() {
    claviger_pool_laws::tests::try_get_works_outside_of_a_runtime::<kind::Deadpool>();
}

/// The caller has deadpool's own object, so the handle does not receive its errors.
#[tokio::test(flavor = "multi_thread")]
async fn a_reported_end_of_a_connection_causes_checks() {
    let settings = Settings {
        checks: CheckPolicy::AfterIdle(Duration::from_secs(3_600)),
        ..Settings::of(2)
    };
    let logged = |connect: PgConnect| {
        connect.with_check_sql("do $$ begin raise log 'checked by the handle'; end $$")
    };
    let provider = ScriptedProvider::new();
    let fixture = Fixture::<Deadpool>::with_connect(provider, settings, logged).await;
    let checks = || fixture.logged("LOG:  checked by the handle");
    drop(fixture.hold(2).await);
    // The verification executes the statement, too.
    let before = checks();
    let generation = fixture.pool.generation();
    let connection = fixture.pool.get().await.expect("a connection");
    let terminate = "select pg_terminate_backend(pg_backend_pid())";
    let error = connection.batch_execute(terminate).await;
    let error = error.expect_err("the connection ends");
    drop(connection);

    drop(fixture.hold(1).await);
    assert_eq!(checks(), before, "the handle does not know of the error");
    assert!(!fixture.pool.rejected(generation, &error), "{error}");
    drop(fixture.hold(2).await);
    assert!(checks() > before, "connections are checked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reported_error_of_a_dropped_role_causes_a_fetch() {
    let old_connections = OldConnections::EndWithLease;
    let fixture = Fixture::<Deadpool>::new(old_connections, Settings::of(1)).await;
    let generation = fixture.pool.generation();
    let connection = fixture.pool.get().await.expect("a connection");
    fixture.sql("alter database orders owner to current_user");
    fixture.sql("drop role app");
    let error = connection
        .batch_execute("select current_user, session_user")
        .await;
    let error = error.expect_err("the role is dropped");
    drop(connection);
    let rejected = || {
        let calls = fixture.provider.calls();
        let mut triggers = calls.iter().map(|call| call.trigger);
        triggers.any(|trigger| trigger == RotationTrigger::Rejected)
    };

    drop(fixture.hold(1).await);
    assert!(!rejected(), "the handle does not know of the error");
    assert!(!fixture.pool.rejected(generation, &error), "{error}");
    // The connection is probed, and the call waits for other credentials.
    let waiting = timeout(Duration::from_secs(1), fixture.pool.get()).await;
    assert!(!matches!(waiting, Ok(Ok(_))), "{waiting:?}");
    eventually("the dropped role causes a fetch", rejected).await;
}

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

#[tokio::test]
async fn a_limit_out_of_range_has_the_name_that_deadpool_gives_it() {
    let supervisor = Supervisor::start();
    let provider = static_credentials(Credentials::new("app", "password-1"));
    let provider = supervisor.add_provider("login", provider).await;
    let provider = provider.expect("a lease");
    let error = |size: usize, wait: Duration, more: fn(DeadpoolPools) -> DeadpoolPools| {
        let mut config = PoolConfig::new(size);
        config.timeouts.wait = Some(wait);
        let pools = more(DeadpoolPools::new(PgConnect::new(Config::new()), config));
        let added = supervisor.add_pool_in_background("orders", &provider, pools);
        added.expect_err("out of range").to_string()
    };
    let minute = Duration::from_secs(60);
    let shown = error(0, minute, |pools| pools);
    assert!(shown.starts_with("max_size: 0 is out of range"), "{shown}");
    let shown = error(4, Duration::ZERO, |pools| pools);
    assert!(shown.starts_with("timeouts.wait: 0s is out"), "{shown}");
    let shown = error(4, minute, |pools| pools.with_overlap(5));
    assert!(shown.contains("between 1 and max_size, 4"), "{shown}");
}
