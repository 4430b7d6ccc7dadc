//! Settings that every kind of pool has.

use std::time::Duration;

use claviger::lease::OldConnections;
use claviger::pool::{CheckPolicy, HandoverPolicy, PoolFactory};
use claviger::{Credentials, Endpoint, Lease, Revision};
use claviger_testkit::ScriptedProvider;
use tokio::time::{sleep, timeout};

use crate::connections::pid;
use crate::fixture::{Fixture, PATIENCE, PoolOf, eventually, server};
use crate::{PgKind, Settings};

async fn new_pid<K: PgKind>(pool: &PoolOf<K>) -> i64 {
    pid::<K>(&mut pool.get().await.expect("a connection")).await
}

pub async fn connections_end_with_their_lifetime_and_idle_time<K: PgKind>() {
    let second = Some(Duration::from_secs(1));
    let settings = Settings {
        idle_timeout: second,
        max_lifetime: None,
        ..Settings::of(4)
    };
    let fixture = Fixture::<K>::new(OldConnections::Drain, settings).await;
    let first = new_pid::<K>(&fixture.pool).await;
    let next = new_pid::<K>(&fixture.pool).await;
    assert_eq!(next, first, "it is used again at once");
    eventually("nobody takes it, so it is closed", || {
        fixture.open_connections("app") == 0
    })
    .await;

    let settings = Settings {
        idle_timeout: None,
        max_lifetime: second,
        ..Settings::of(4)
    };
    let pool = fixture.add_pool("other orders", settings).await;
    let first = new_pid::<K>(&pool).await;
    let replaced = async {
        // Always in use, it is never idle for long.
        while new_pid::<K>(&pool).await == first {}
    };
    timeout(PATIENCE, replaced).await.expect("it is replaced");
}

pub async fn a_check_executes_its_statement_on_a_connection_that_was_idle_for_long<K: PgKind>() {
    let idle = Duration::from_millis(300);
    let settings = Settings {
        checks: CheckPolicy::AfterIdle(idle),
        ..Settings::of(1)
    };
    let mark = |connect: claviger_tokio_postgres::PgConnect| {
        connect.with_check_sql("set statement_timeout = '9s'")
    };
    let fixture = Fixture::<K>::with_connect(ScriptedProvider::new(), settings, mark).await;
    let is_marked = || async {
        let mut connection = fixture.pool.get().await.expect("a connection");
        let marked = "select (current_setting('statement_timeout') = '9s')::int::bigint as value";
        K::value(&mut connection, marked).await.expect("a row") == 1
    };
    assert!(!is_marked().await);
    assert!(!is_marked().await, "it was just used");
    let checked = async {
        loop {
            sleep(idle * 2).await;
            if is_marked().await {
                return;
            }
        }
    };
    timeout(PATIENCE, checked).await.expect("it is checked");
}

pub async fn another_endpoint_replaces_a_pool_that_is_updated_in_place<K: PgKind>() {
    let settings = Settings {
        policy: HandoverPolicy::AlwaysInPlace,
        ..Settings::of(4)
    };
    let fixture = Fixture::<K>::new(OldConnections::Keep, settings).await;
    let pool = &fixture.pool;
    let plain = pool.current();
    fixture.rotate().await;
    assert_eq!(pool.generation(), 2);
    let taken = K::take_from(&plain).await;
    taken.expect("the plain pool uses the new password");
    assert_eq!(fixture.failed_logins(), 0);

    let other = server("password-3");
    let endpoint = Endpoint::server(other.host(), other.port());
    let moved = Credentials::new("app", "password-3").with_endpoint(endpoint);
    let lease = Lease::new(moved, Revision::new("moved"));
    let lease = lease.with_old_connections(OldConnections::Keep);
    fixture.provider.return_next(lease);
    fixture.provider.hint();
    eventually("the other server is used", || pool.generation() == 3).await;
    drop(pool.get().await.expect("a connection"));
    assert_eq!(other.connection_count("app").expect("a count"), 1);
    eventually("connections of the old pool are closed", || {
        fixture.open_connections("app") == 0
    })
    .await;
}

pub async fn the_hook_applies_to_each_connection_and_a_failing_one_is_the_error<K: PgKind>() {
    let settings = Settings {
        min_connections: 2,
        ..Settings::of(4)
    };
    let mark = |connect: claviger_tokio_postgres::PgConnect| {
        connect.with_after_connect(|client| {
            Box::pin(async move { client.batch_execute("set search_path = marked").await })
        })
    };
    let fixture = Fixture::<K>::with_connect(ScriptedProvider::new(), settings, mark).await;
    eventually("two are opened ahead of demand", || {
        fixture.open_connections("app") == 2
    })
    .await;
    for mut connection in fixture.hold(4).await {
        let marked = "select (current_setting('search_path') = 'marked')::int::bigint as value";
        assert_eq!(K::value(&mut connection, marked).await, Ok(1));
    }
    let failing = fixture.connect().with_after_connect(|client| {
        Box::pin(async move { client.batch_execute("select * from missing").await })
    });
    let failing = K::factory(failing, Settings::of(4));
    let error = failing.verify(&Credentials::new("app", "password-1")).await;
    assert_eq!(error.expect_err("the hook fails").code(), Some("42P01"));
}

pub async fn invalid_settings_are_errors_at_construction<K: PgKind>() {
    let valid = Settings::of(4);
    let fixture = Fixture::<K>::new(OldConnections::Drain, valid).await;
    let names = K::factory(fixture.connect(), valid).settings().names;
    let zero = Duration::ZERO;
    for (settings, field) in [
        (Settings::of(0), names.max_connections),
        (
            Settings {
                acquire_timeout: zero,
                ..valid
            },
            names.acquire_timeout,
        ),
        (
            Settings {
                max_lifetime: Some(zero),
                ..valid
            },
            "max_lifetime",
        ),
        (
            Settings {
                idle_timeout: Some(zero),
                ..valid
            },
            "idle_timeout",
        ),
    ] {
        let factory = K::factory(fixture.connect(), settings);
        let added = fixture
            .supervisor
            .add_pool("invalid", &fixture.credentials, factory);
        let error = added.await.map(drop).expect_err(field);
        let starts = format!("{field}: ");
        assert!(error.to_string().contains(&starts), "{error}");
    }
}
