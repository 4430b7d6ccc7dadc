//! needs: redis, quiet
//!
//! One multiplexed connection on a real server: rotations in place and by replacement, rejections,
//! restarts, killed connections.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use claviger::error::ConnectErrorKind;
use claviger::lease::OldConnections;
use claviger::pool::{CheckPolicy, HandoverPolicy};
use claviger::report::{HandoverMode, RotationTrigger};
use claviger::{Credentials, Endpoint, Handle, Lease, Revision, Supervisor, static_credentials};
use claviger_fixtures::{eventually, fetches, until_drained, until_generation, until_rejected};
use claviger_redis::redis::{self, AsyncCommands, ErrorKind, RedisError};
use claviger_redis::{Error, RedisPools};
use claviger_servers::Redis;
use tokio::task::JoinSet;

use common::{Setup, USER, pools};

async fn count(cache: &Handle<RedisPools>) -> Result<u64, RedisError> {
    let mut connection = cache.get().await?;
    connection.incr("calls", 1).await
}

/// Returns the last command of a connection.
fn last_command(setup: &Setup<RedisPools>, id: u64) -> String {
    let mut list = setup.server.connections_of(USER).expect("a list");
    list.retain(|connection| connection.id == id);
    list.pop().expect("the connection").last_command
}

/// Returns the id of the pool's connection, once that of the verification is closed.
async fn own_connection(setup: &Setup<RedisPools>) -> Vec<u64> {
    eventually("one connection is open", || {
        setup.connection_ids().len() == 1
    })
    .await;
    setup.connection_ids()
}

/// Closes the connection, and waits until the pool has detected it.
async fn kill(setup: &Setup<RedisPools>) {
    let ids = setup.connection_ids();
    assert!(setup.server.kill_connections(USER).expect("a count") > 0);
    eventually("the end of the connection is noticed", || {
        // The handover may still be opening connections.
        let is_replaced = || setup.connection_ids().iter().any(|id| !ids.contains(id));
        setup.cache.try_get().is_none() || is_replaced()
    })
    .await;
}

fn mode(setup: &Setup<RedisPools>) -> HandoverMode {
    let status = setup.cache.status().expect("a status");
    status.last_handover.expect("a handover").mode
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_connection_authenticates_again() {
    for (old_connections, policy) in [
        (OldConnections::Reauthenticate, HandoverPolicy::AsLeased),
        (OldConnections::Keep, HandoverPolicy::AsLeased),
        (OldConnections::Drain, HandoverPolicy::AlwaysInPlace),
    ] {
        let factory = |server: &Redis| pools(server).with_handover_policy(policy);
        let setup = Setup::new(old_connections, factory).await;
        let mut guard = setup.cache.get().await.expect("a connection");
        guard.set::<_, _, ()>("key", 1).await.expect("a command");
        let ids = own_connection(&setup).await;
        for generation in 2..5 {
            let before = setup.server.login_commands().expect("a count");
            setup.rotate().await;
            assert_eq!(setup.cache.generation(), generation);
            assert_eq!(mode(&setup), HandoverMode::InPlace);
            // One login to verify, which subscribes to nothing, and one `AUTH`.
            let after = setup.server.login_commands().expect("a count");
            assert!(after - before >= 2, "{before} → {after}");
            setup.until_connections(&ids).await;
            assert_eq!(last_command(&setup, ids[0]), "auth");
            guard.get::<_, u32>("key").await.expect("a command");
        }
        assert_eq!(setup.rejected_logins(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_becomes_one_of_the_new_user_before_the_old_lease_is_released() {
    let setup = Setup::new(OldConnections::Reauthenticate, pools).await;
    let mut guard = setup.cache.get().await.expect("a connection");
    let ids = own_connection(&setup).await;
    setup.server.set_user("app-2", "other").expect("a user");
    let lease = Lease::new(Credentials::new("app-2", "other"), Revision::new("2"))
        .with_old_connections(OldConnections::Reauthenticate);
    setup.provider.return_next(lease);
    // The server runs the `AUTH` after this command, which takes a second.
    let mut other = guard.clone();
    let blocking = tokio::spawn(async move {
        let mut command = redis::cmd("BLPOP");
        command.arg("nothing").arg(1);
        command.exec_async(&mut other).await
    });
    eventually("the connection is busy", || {
        last_command(&setup, ids[0]) == "blpop"
    })
    .await;
    setup.rotate_now().await;
    let users = setup.server.connections_of("app-2").expect("a list");
    assert!(users.iter().any(|one| one.id == ids[0]), "{users:?}");
    blocking.await.expect("no panic").expect("no element");
    let released = || !setup.provider.released().is_empty();
    eventually("the old lease is released", released).await;
    // As a backend does at the release. It closes the connections of that user.
    setup.server.drop_user(USER).expect("no user");
    let users = setup.server.connections().expect("a list");
    let users: Vec<_> = users
        .iter()
        .map(|one| (one.id, one.user.as_str()))
        .collect();
    assert_eq!(users, [(ids[0], "app-2")]);
    let pinged = redis::cmd("PING").exec_async(&mut guard).await;
    pinged.expect("a response");
}

#[tokio::test(flavor = "multi_thread")]
async fn law_01_no_call_fails_by_a_rotation() {
    for old_connections in [OldConnections::Reauthenticate, OldConnections::Drain] {
        let setup = Setup::new(old_connections, pools).await;
        let (stop, calls) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let mut callers = JoinSet::new();
        for _ in 0..16 {
            let (cache, stop) = (setup.cache.clone(), Arc::clone(&stop));
            let calls = Arc::clone(&calls);
            callers.spawn(async move {
                while !stop.load(Ordering::Acquire) {
                    count(&cache).await.expect("a call during rotations");
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for rotation in 1..=5 {
            let before = calls.load(Ordering::Relaxed);
            setup.rotate().await;
            assert_eq!(setup.cache.generation(), 1 + rotation);
            eventually("calls of this generation", || {
                calls.load(Ordering::Relaxed) > before + 50
            })
            .await;
        }
        stop.store(true, Ordering::Release);
        while let Some(ended) = callers.join_next().await {
            ended.expect("no failed call");
        }
        until_drained(&setup.cache).await;
        count(&setup.cache).await.expect("a call");
        eventually("one connection is left", || {
            setup.connection_ids().len() == 1
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn law_02_a_wrong_password_is_never_sent_to_an_open_connection() {
    let setup = Setup::new(OldConnections::Reauthenticate, pools).await;
    let mut guard = setup.cache.get().await.expect("a connection");
    let ids = own_connection(&setup).await;
    // The backend has the next password before the server.
    let next = setup.provider.rotate();
    setup.provider.hint();
    eventually("the verification is rejected", || {
        setup.rejected_logins() > 0
    })
    .await;
    guard
        .set::<_, _, ()>("key", 1)
        .await
        .expect("the old generation");
    assert_eq!(setup.cache.generation(), 1);
    assert_eq!(last_command(&setup, ids[0]), "set");
    setup.change_password(&next);
    until_generation(&setup.cache, 2).await;
    assert_eq!(last_command(&setup, ids[0]), "auth");
    // It still authenticates again: nothing was rejected on it.
    setup.rotate().await;
    setup.until_connections(&ids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_05_a_thousand_rejected_callers_cause_one_fetch() {
    let setup = Setup::new(OldConnections::Drain, pools).await;
    count(&setup.cache).await.expect("a call");
    // An unannounced rotation; the backend has the password before the fetch.
    let next = setup.provider.rotate();
    setup.change_password(&next);
    kill(&setup).await;
    let mut callers = JoinSet::new();
    for _ in 0..1_000 {
        let cache = setup.cache.clone();
        callers.spawn(async move { cache.get().await.map(drop) });
    }
    while let Some(ended) = callers.join_next().await {
        ended.expect("no panic").expect("a connection");
    }
    until_generation(&setup.cache, 2).await;
    count(&setup.cache).await.expect("a call");
    assert_eq!(fetches(&setup.provider, RotationTrigger::Rejected), 1);
    let rejected = setup.rejected_logins();
    // One connection and three reserved logins.
    assert!((1..=4).contains(&rejected), "{rejected} failed logins");
}

#[tokio::test(flavor = "multi_thread")]
async fn law_05_without_a_connection_callers_get_the_servers_error() {
    let factory = |server: &Redis| pools(server).with_acquire_timeout(Duration::from_secs(2));
    let setup = Setup::new(OldConnections::Drain, factory).await;
    let _ = own_connection(&setup).await;
    setup.change_password("unknown to the backend");
    kill(&setup).await;
    let error = setup.cache.get().await.expect_err("no connection");
    let Error::Connect(connect) = &error else {
        return assert_eq!(error.to_string(), "a rejection");
    };
    assert_eq!(connect.kind(), ConnectErrorKind::Rejected);
    assert!(connect.message().starts_with("WRONGPASS"), "{connect}");
    assert!(
        connect.to_string().contains("user \"app\" at 127.0.0.1"),
        "{connect}"
    );
    let original = RedisError::from(error);
    assert_eq!(original.code(), Some("WRONGPASS"));
    assert_eq!(original.kind(), ErrorKind::Extension);
}

#[tokio::test(flavor = "multi_thread")]
async fn law_09_a_lease_is_released_after_the_last_guard() {
    let first = Redis::start().expect("a server");
    let second = Redis::start().expect("a server");
    second.set_user(USER, "password-1").expect("a user");
    let setup = Setup::on(first, OldConnections::Reauthenticate, pools).await;
    let (mut one, two) = (
        setup.cache.get().await.expect("a connection"),
        setup.cache.get().await.expect("a connection"),
    );
    let moved = Credentials::new(USER, "password-1")
        .with_endpoint(Endpoint::server(second.host(), second.port()));
    let lease = Lease::new(moved, Revision::new("moved"))
        .with_old_connections(OldConnections::Reauthenticate);
    setup.provider.return_next(lease);
    setup.rotate_now().await;
    assert_eq!(mode(&setup), HandoverMode::Replace);
    count(&setup.cache).await.expect("a call on the new server");
    assert_eq!(second.connections_of(USER).expect("a list").len(), 1);
    drop(two);
    one.set::<_, _, ()>("key", 1).await.expect("the old server");
    let status = setup.cache.status().expect("a status");
    assert_eq!(status.draining.len(), 1, "one guard is left");
    assert_eq!(setup.provider.released(), []);
    drop(one);
    until_drained(&setup.cache).await;
    eventually("the old lease is released", || {
        setup.provider.released().len() == 1
    })
    .await;
    eventually("the old connection is closed", || {
        setup.connection_ids().is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_10_a_handover_opens_one_connection_more() {
    let setup = Setup::new(OldConnections::Drain, pools).await;
    let mut most = 0;
    for _ in 0..5 {
        let guard = setup.cache.get().await.expect("a connection");
        setup.rotate().await;
        count(&setup.cache).await.expect("a call");
        eventually("the verification's connection is closed", || {
            setup.connection_ids().len() <= 2
        })
        .await;
        most = most.max(setup.connection_ids().len());
        drop(guard);
        until_drained(&setup.cache).await;
    }
    assert_eq!(most, 2, "old and new");
}

#[tokio::test(flavor = "multi_thread")]
async fn guards_of_old_generations_do_not_delay_a_new_one() {
    let factory = |server: &Redis| pools(server).with_acquire_timeout(Duration::from_secs(10));
    let setup = Setup::new(OldConnections::Drain, factory).await;
    let mut guards = Vec::new();
    for generation in 1..=4 {
        assert_eq!(setup.cache.generation(), generation);
        guards.push(setup.cache.get().await.expect("a connection"));
        setup.rotate().await;
    }
    let status = setup.cache.status().expect("a status");
    assert_eq!(status.draining.len(), 4, "each guard keeps its connection");
    count(&setup.cache).await.expect("a call");
    eventually("one connection for each generation", || {
        setup.connection_ids().len() == 5
    })
    .await;
    for guard in &mut guards {
        guard.incr::<_, _, u64>("calls", 1).await.expect("a call");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn law_11_failed_logins_are_bounded() {
    let factory = |server: &Redis| pools(server).with_acquire_timeout(Duration::from_millis(300));
    let setup = Setup::new(OldConnections::Drain, factory).await;
    setup.change_password("unknown to the backend");
    kill(&setup).await;
    until_rejected_by_calls(&setup).await;
    let start = tokio::time::Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        let mut callers = JoinSet::new();
        for _ in 0..100 {
            let cache = setup.cache.clone();
            callers.spawn(async move { cache.get().await.is_err() });
        }
        while let Some(failed) = callers.join_next().await {
            assert!(failed.expect("no panic"));
        }
    }
    let rejected = setup.rejected_logins();
    assert!((1..=4).contains(&rejected), "{rejected} failed logins");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_be_reached_is_named_by_the_start() {
    let supervisor = Supervisor::builder().with_start_deadline(Duration::from_secs(1));
    let supervisor = supervisor.start().expect("valid settings");
    let credentials = static_credentials(Credentials::new(USER, "password"));
    let credentials = supervisor.add_provider("credentials", credentials).await;
    let credentials = credentials.expect("a lease");
    // Port 1 is that of no server.
    let factory = RedisPools::new("redis://127.0.0.1:1").expect("an address");
    let error = supervisor.add_pool("cache", &credentials, factory).await;
    let text = error.expect_err("no server").to_string();
    assert!(text.contains("user \"app\" at 127.0.0.1:1"), "{text}");
}

async fn until_rejected_by_calls(setup: &Setup<RedisPools>) {
    assert!(setup.cache.get().await.is_err());
    until_rejected(&setup.cache).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_14_a_shutdown_waits_for_guards_within_its_bound() {
    let setup = Setup::new(OldConnections::Drain, pools).await;
    let guard = setup.cache.get().await.expect("a connection");
    let began = tokio::time::Instant::now();
    let bound = Duration::from_millis(500);
    setup.supervisor.shutdown(bound).await;
    assert!(began.elapsed() < bound * 4);
    assert_eq!(setup.connection_ids().len(), 1, "it stays open");
    assert!(matches!(setup.cache.get().await, Err(Error::Closed)));
    drop(guard);
    eventually("its connection is closed", || {
        setup.connection_ids().is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_15_cancelled_calls_lose_nothing() {
    let setup = Setup::new(OldConnections::Drain, pools).await;
    for round in 0..30 {
        setup.server.kill_connections(USER).expect("a count");
        let mut callers = JoinSet::new();
        for caller in 0..10 {
            let cache = setup.cache.clone();
            callers.spawn(async move {
                let time = Duration::from_micros(200 * (caller + round % 5));
                let _ = tokio::time::timeout(time, count(&cache)).await;
            });
        }
        while callers.join_next().await.is_some() {}
    }
    count(&setup.cache).await.expect("a connection");
    eventually("no other connection is left", || {
        setup.connection_ids().len() == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_work_after_a_restart_and_after_each_killed_connection() {
    let setup = Setup::new(OldConnections::Reauthenticate, pools).await;
    for _ in 0..5 {
        kill(&setup).await;
        count(&setup.cache).await.expect("a new connection");
    }
    setup.server.stop().expect("a stopped server");
    eventually("the end of the connection is noticed", || {
        setup.cache.try_get().is_none()
    })
    .await;
    let error = setup.cache.get().await.expect_err("no server");
    let Error::Connect(error) = error else {
        return assert_eq!(error.to_string(), "connection refused");
    };
    assert_eq!(error.kind(), ConnectErrorKind::Unreachable);
    setup.server.start_again().expect("a started server");
    count(&setup.cache).await.expect("a new connection");
    assert_eq!(setup.provider.calls().len(), 1, "no fetch");
    assert_eq!(setup.rejected_logins(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_is_no_rejection() {
    let server = Redis::start().expect("a server");
    let factory = |server: &Redis| pools(server).with_acquire_timeout(Duration::from_secs(1));
    let setup = Setup::on(server, OldConnections::Drain, factory).await;
    let limit = ["CONFIG", "SET", "maxclients", "3"];
    setup.server.command(&limit).expect("a setting");
    // The handover may open the connection once more, before the others take the room.
    let mut error = None;
    for _ in 0..3 {
        kill(&setup).await;
        let mut others = Vec::new();
        for _ in 0..3 {
            let address = (setup.server.host(), setup.server.port());
            others.push(tokio::net::TcpStream::connect(address).await.expect("room"));
        }
        error = setup.cache.get().await.err();
        if error.is_some() {
            break;
        }
    }
    let error = error.expect("a full server");
    let Error::Connect(error) = error else {
        return assert_eq!(error.to_string(), "a full server");
    };
    // The server closes the connection before it has read the login, so its error may get lost.
    let kinds = [ConnectErrorKind::Overloaded, ConnectErrorKind::Unreachable];
    assert!(kinds.contains(&error.kind()), "{error}");
    assert_eq!(setup.provider.calls().len(), 1, "no fetch");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_outlasts_the_deadline_of_one_caller() {
    let factory = |server: &Redis| {
        let pools = pools(server).with_acquire_timeout(Duration::from_secs(1));
        pools.with_checks(CheckPolicy::Always)
    };
    let setup = Setup::new(OldConnections::Keep, factory).await;
    let ids = own_connection(&setup).await;
    setup.server.stall().expect("a stalled server");
    let got = setup.cache.get().await.map(drop);
    setup.server.resume().expect("a server");
    assert!(matches!(got, Err(Error::TimedOut)), "{got:?}");
    count(&setup.cache).await.expect("a call");
    assert_eq!(setup.connection_ids(), ids);
}
