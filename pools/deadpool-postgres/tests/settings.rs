//! needs: postgresql, quiet
//!
//! Settings of deadpool's pools on a real PostgreSQL.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod fixture;

use std::time::Duration;

use claviger::error::ConnectErrorKind;
use claviger::lease::OldConnections;
use claviger::pool::{Check, HandoverPolicy, PoolFactory};
use claviger::{Credentials, Endpoint, Handle, Lease, Revision};
use claviger_deadpool_postgres::DeadpoolPools;
use claviger_deadpool_postgres::deadpool_postgres::{Object, PoolConfig, RecyclingMethod};
use claviger_servers::Postgres;
use claviger_testkit::ScriptedProvider;
use tokio::time::{sleep, timeout};

use fixture::{Fixture, PATIENCE, eventually, pid};

async fn new_pid(pool: &Handle<DeadpoolPools>) -> i32 {
    pid(&pool.get().await.expect("a connection")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_end_with_their_lifetime_and_idle_time() {
    let fixture = Fixture::new().await;
    let second = Duration::from_secs(1);
    let pools = fixture
        .pools(4)
        .with_idle_timeout(second)
        .with_max_lifetime(None);
    let pool = fixture.pool(pools).await;
    let first = new_pid(&pool).await;
    assert_eq!(new_pid(&pool).await, first, "it is used again at once");
    eventually("nobody takes it, so it is closed", || {
        fixture.open_connections() == 0
    })
    .await;
    fixture
        .supervisor
        .remove_pool("orders")
        .await
        .expect("removed");

    let pools = fixture
        .pools(4)
        .with_idle_timeout(None)
        .with_max_lifetime(second);
    let pool = fixture.pool(pools).await;
    let first = new_pid(&pool).await;
    let replaced = async {
        // Always in use, it is never idle for long.
        while new_pid(&pool).await == first {}
    };
    timeout(PATIENCE, replaced).await.expect("it is replaced");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_method_of_recycling_is_the_check_of_a_connection() {
    let fixture = Fixture::new().await;
    let read = |connection: Object| async move {
        let row = connection.query_one("show statement_timeout", &[]).await;
        row.expect("a row").get::<_, String>(0)
    };
    for (method, expected) in [
        (RecyclingMethod::Fast, "7s"),
        (RecyclingMethod::Verified, "7s"),
        (RecyclingMethod::Clean, "0"),
        (
            RecyclingMethod::Custom("set statement_timeout = '9s'".into()),
            "9s",
        ),
    ] {
        let pools = fixture.pools(1).with_recycling_method(method.clone());
        let pool = fixture.pool(pools).await;
        let connection = pool.get().await.expect("a connection");
        let set = connection
            .batch_execute("set statement_timeout = '7s'")
            .await;
        set.expect("set");
        drop(connection);
        let connection = pool.get().await.expect("a connection");
        assert_eq!(read(connection).await, expected, "{method:?}");
        fixture
            .supervisor
            .remove_pool("orders")
            .await
            .expect("removed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_checked_after_nobody_took_it_for_long() {
    let fixture = Fixture::new().await;
    let mark = RecyclingMethod::Custom("set statement_timeout = '9s'".into());
    let idle = Duration::from_millis(300);
    let pools = fixture.pools(1).with_recycling_method(mark);
    let pool = fixture.pool(pools.with_check_after_idle(idle)).await;
    let read = || async {
        let connection = pool.get().await.expect("a connection");
        let row = connection.query_one("show statement_timeout", &[]).await;
        row.expect("a row").get::<_, String>(0)
    };
    assert_eq!(read().await, "0");
    assert_eq!(read().await, "0", "it was just used");
    let checked = async {
        loop {
            sleep(idle * 2).await;
            if read().await == "9s" {
                return;
            }
        }
    };
    timeout(PATIENCE, checked).await.expect("it is checked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_without_a_response_ends_at_its_limit() {
    let fixture = Fixture::new().await;
    let mut config = PoolConfig::new(1);
    config.timeouts.recycle = Some(Duration::from_millis(100));
    let pools = DeadpoolPools::new(fixture.connect(), config);
    let pool = fixture.pool(pools.clone()).await;
    let mut connection = pool.get().await.expect("a connection");
    let pid = u32::try_from(pid(&connection).await).expect("a process");
    signal("-STOP", pid);
    let checked = pools.check_connection(&mut connection, Check::Ping).await;
    signal("-CONT", pid);
    let error = checked.expect_err("no response");
    let kind = error.connect_error().map(|error| error.kind());
    assert_eq!(kind, Some(ConnectErrorKind::Unreachable), "{error}");
}

fn signal(signal: &str, pid: u32) {
    let sent = std::process::Command::new("kill")
        .args([signal, &pid.to_string()])
        .status();
    assert!(sent.expect("kill runs").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_endpoint_replaces_a_pool_that_is_updated_in_place() {
    let provider = ScriptedProvider::new().with_old_connections(OldConnections::Keep);
    let fixture = Fixture::on(Postgres::start().expect("a server"), provider).await;
    let policy = HandoverPolicy::AlwaysInPlace;
    let pool = fixture
        .pool(fixture.pools(4).with_handover_policy(policy))
        .await;
    let plain = pool.current().deadpool().expect("verified").clone();
    fixture
        .server
        .set_password("app", "password-2")
        .expect("set");
    fixture.provider.rotate();
    fixture
        .supervisor
        .rotate_now("login")
        .await
        .expect("rotated");
    assert_eq!(pool.generation(), 2);
    let got = plain.get().await;
    drop(got.expect("the plain pool uses the new password"));
    assert_eq!(
        fixture
            .server
            .log()
            .rejected_logins_of("app")
            .expect("a log"),
        0
    );

    let other = Postgres::start().expect("a server");
    other.create_role("app", "password-3").expect("a role");
    other.create_database("orders", "app").expect("a database");
    let endpoint = Endpoint::server(other.host(), other.port());
    let moved = Credentials::new("app", "password-3").with_endpoint(endpoint);
    let lease = Lease::new(moved, Revision::new("moved"));
    fixture
        .provider
        .return_next(lease.with_old_connections(OldConnections::Keep));
    fixture.provider.hint();
    eventually("the other server is used", || pool.generation() == 3).await;
    drop(pool.get().await.expect("a connection"));
    assert_eq!(other.connection_count("app").expect("a count"), 1);
    eventually("the old pool is closed", || plain.is_closed()).await;
    assert!(plain.get().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hook_applies_to_each_connection_and_a_failing_one_is_the_error() {
    let fixture = Fixture::new().await;
    let connect = fixture.connect().with_after_connect(|client| {
        Box::pin(async move { client.batch_execute("set search_path = marked").await })
    });
    let pools = DeadpoolPools::new(connect, PoolConfig::new(4)).with_min_connections(2);
    let pool = fixture.pool(pools).await;
    eventually("two are opened ahead of demand", || {
        fixture.open_connections() == 2
    })
    .await;
    for _ in 0..4 {
        let connection = pool.get().await.expect("a connection");
        let row = connection.query_one("show search_path", &[]).await;
        assert_eq!(row.expect("a row").get::<_, &str>(0), "marked");
    }
    let failing = fixture.connect().with_after_connect(|client| {
        Box::pin(async move { client.batch_execute("select * from missing").await })
    });
    let failing = DeadpoolPools::new(failing, PoolConfig::new(4));
    let error = failing.verify(&Credentials::new("app", "password-1")).await;
    assert_eq!(error.expect_err("the hook fails").code(), Some("42P01"));
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_settings_are_errors_at_construction() {
    let fixture = Fixture::new().await;
    let with_create = {
        let mut config = PoolConfig::new(4);
        config.timeouts.create = Some(Duration::from_secs(5));
        DeadpoolPools::new(fixture.connect(), config)
    };
    for (pools, field) in [
        (fixture.pools(0), "max_connections: "),
        (with_create, "timeouts.create: "),
        (
            fixture.pools(4).with_max_lifetime(Duration::ZERO),
            "max_lifetime: ",
        ),
        (
            fixture.pools(4).with_idle_timeout(Duration::ZERO),
            "idle_timeout: ",
        ),
    ] {
        let added = fixture
            .supervisor
            .add_pool("orders", &fixture.credentials, pools);
        let error = added.await.expect_err(field);
        assert!(error.to_string().contains(field), "{error}");
    }
}
