//! needs: postgresql, quiet
//!
//! Settings of diesel's pools on a real PostgreSQL, beside the laws.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod fixture;

use std::time::Duration;

use claviger::lease::OldConnections;
use claviger::pool::{HandoverPolicy, PoolFactory};
use claviger::{Credentials, Endpoint, Handle, Lease, Revision};
use claviger_diesel_async::deadpool::managed::PoolConfig;
use claviger_diesel_async::{CallError, DieselPools, PgConnection};
use claviger_servers::Postgres;
use claviger_testkit::ScriptedProvider;
use tokio::time::{sleep, timeout};

use fixture::{Fixture, PATIENCE, value};

/// Returns how many TCP connections the server has received, also without a login.
fn connects(fixture: &Fixture) -> usize {
    let received = "connection received: host=127.0.0.1";
    fixture.server.log().count(received).expect("a log")
}

fn open_connections(fixture: &Fixture) -> usize {
    fixture.server.connection_count("app").expect("a count")
}

async fn eventually(expected: &str, mut condition: impl FnMut() -> bool) {
    let holds = async {
        while !condition() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, holds).await.expect(expected);
}

async fn pid(connection: &mut PgConnection) -> String {
    value(connection, "pg_backend_pid()").await
}

async fn new_pid(pool: &Handle<DieselPools>) -> String {
    pid(&mut pool.get().await.expect("a connection")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn try_get_opens_no_connection() {
    let fixture = Fixture::new().await;
    let pool = fixture.pool(fixture.pools(4)).await;
    let before = connects(&fixture);
    for _ in 0..1_000 {
        assert!(pool.try_get().is_none());
    }
    let mut busy = pool.get().await.expect("a connection");
    for _ in 0..1_000 {
        assert!(pool.try_get().is_none(), "the only connection is in use");
    }
    let only = pid(&mut busy).await;
    drop(busy);
    let mut taken = pool.try_get().expect("an idle connection");
    assert_eq!(pid(&mut taken).await, only);
    assert_eq!(connects(&fixture), before + 1);
    assert_eq!(open_connections(&fixture), 1);
    let status = pool.status().expect("supervised");
    assert_eq!((status.connections, status.idle), (1, 0));
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
    assert_eq!(open_connections(&fixture), 1);
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
            open_connections(&fixture) == 0
        })
        .await;
        let mut connection = pool.get().await.expect("a connection");
        assert_eq!(value(&mut connection, "1").await, "1");
    }
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
        open_connections(&fixture) == 0
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
    eventually("its connections are closed", || {
        open_connections(&fixture) == 0
    })
    .await;
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
async fn the_hook_applies_to_each_connection_and_a_failing_one_is_the_error() {
    let fixture = Fixture::new().await;
    let connect = fixture.connect().with_after_connect(|client| {
        Box::pin(async move { client.batch_execute("set search_path = marked").await })
    });
    let pools = DieselPools::new(connect, PoolConfig::new(4)).with_min_connections(2);
    let pool = fixture.pool(pools).await;
    eventually("two are opened ahead of demand", || {
        open_connections(&fixture) == 2
    })
    .await;
    for _ in 0..4 {
        let mut connection = pool.get().await.expect("a connection");
        let path = value(&mut connection, "current_setting('search_path')").await;
        assert_eq!(path, "marked");
    }
    let failing = fixture.connect().with_after_connect(|client| {
        Box::pin(async move { client.batch_execute("select * from missing").await })
    });
    let failing = DieselPools::new(failing, PoolConfig::new(4));
    let error = failing.verify(&Credentials::new("app", "password-1")).await;
    assert_eq!(error.expect_err("the hook fails").code(), Some("42P01"));
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_settings_are_errors_at_construction() {
    let fixture = Fixture::new().await;
    let mut config = PoolConfig::new(4);
    config.timeouts.create = Some(Duration::from_secs(5));
    let with_create = DieselPools::new(fixture.connect(), config);
    config.timeouts.create = None;
    config.timeouts.wait = Some(Duration::ZERO);
    let with_wait = DieselPools::new(fixture.connect(), config);
    for (pools, field) in [
        (fixture.pools(0), "max_connections: "),
        (with_create, "timeouts.create: "),
        (with_wait, "acquire_timeout: "),
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
    let shown = format!(
        "{pools:?} {pool:?} {current:?} {:?} {connection:?} {error:?} {error}",
        deadpool.status()
    );
    assert!(
        shown.contains("28P01") && shown.contains("127.0.0.1"),
        "{shown}"
    );
    assert!(!shown.contains("password-1"), "{shown}");
}
