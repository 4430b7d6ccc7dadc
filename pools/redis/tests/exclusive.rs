//! needs: redis, quiet
//!
//! Pools in which each caller has a connection of its own.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::pin::pin;
use std::time::Duration;

use claviger::lease::OldConnections;
use claviger::pool::{CheckPolicy, ObservedPermits, PoolFactory as _};
use claviger::report::RotationTrigger;
use claviger::{Credentials, Handle};
use claviger_fixtures::{eventually, fetches, until_drained, until_generation};
use claviger_redis::redis::{self, AsyncCommands, RedisError, Value};
use claviger_redis::{ExclusiveConnection, ExclusivePools};
use claviger_servers::Redis;
use tokio::task::JoinSet;
use tokio::time::timeout;

use common::{Setup, USER, pools};

fn exclusive(server: &Redis) -> ExclusivePools {
    let settings = pools(server).with_acquire_timeout(Duration::from_secs(25));
    ExclusivePools::new(settings, 10).expect("a factory")
}

async fn count(cache: &Handle<ExclusivePools>) -> Result<u64, RedisError> {
    let mut connection = cache.get().await?;
    connection.incr("calls", 1).await
}

async fn open(cache: &Handle<ExclusivePools>, connections: usize) {
    let mut opened = Vec::new();
    for _ in 0..connections {
        opened.push(cache.get().await.expect("a connection"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_connection_authenticates_again() {
    let setup = Setup::new(OldConnections::Reauthenticate, exclusive).await;
    let busy = setup.cache.get().await.expect("a connection");
    open(&setup.cache, 4).await;
    // redis-rs authenticates a new connection twice.
    eventually("five connections are open", || {
        let connections = setup.server.connections_of(USER).expect("a list");
        connections.len() == 5 && connections.iter().all(|one| one.last_command == "auth")
    })
    .await;
    let ids = setup.connection_ids();
    setup.rotate().await;
    setup.until_connections(&ids).await;
    let connections = setup.server.connections_of(USER).expect("a list");
    assert!(connections.iter().all(|one| one.last_command == "auth"));
    drop(busy);
    assert_eq!(setup.rejected_logins(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn law_01_no_call_fails_by_a_rotation() {
    for old_connections in [OldConnections::Reauthenticate, OldConnections::Drain] {
        let setup = Setup::new(old_connections, exclusive).await;
        let mut callers = JoinSet::new();
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        for _ in 0..16 {
            let (cache, stop) = (setup.cache.clone(), stop.clone());
            callers.spawn(async move {
                while !stop.load(std::sync::atomic::Ordering::Acquire) {
                    count(&cache).await.expect("a call during rotations");
                }
            });
        }
        for _ in 0..5 {
            setup.rotate().await;
            let most = setup.connection_ids().len();
            // The overlap is a quarter of ten; closed ones may still be listed.
            assert!(most <= 10 + 2 + 10, "{most} connections");
        }
        stop.store(true, std::sync::atomic::Ordering::Release);
        while let Some(ended) = callers.join_next().await {
            ended.expect("no failed call");
        }
        until_drained(&setup.cache).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn law_05_a_thousand_rejected_callers_cause_one_fetch() {
    let setup = Setup::new(OldConnections::Drain, exclusive).await;
    open(&setup.cache, 3).await;
    let next = setup.provider.rotate();
    setup.change_password(&next);
    setup.server.kill_connections(USER).expect("a count");
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
    assert!((1..=13).contains(&rejected), "{rejected} failed logins");
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_callers_share_open_connections() {
    let setup = Setup::new(OldConnections::Drain, exclusive).await;
    open(&setup.cache, 3).await;
    // A second authentication after the change of the password would be rejected.
    eventually("three connections are open", || {
        let connections = setup.server.connections_of(USER).expect("a list");
        connections.len() == 3 && connections.iter().all(|one| one.last_command == "auth")
    })
    .await;
    let ids = setup.connection_ids();
    setup.change_password("unknown to the backend");
    // Ten callers at once need more than three connections.
    let mut callers = JoinSet::new();
    for _ in 0..50 {
        let cache = setup.cache.clone();
        callers.spawn(async move {
            let mut connection = cache.get().await.expect("a connection");
            connection.incr::<_, _, u64>("calls", 1).await
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended.expect("no panic").expect("a response");
    }
    let left = setup.connection_ids();
    assert!(ids.iter().all(|id| left.contains(id)), "{ids:?} {left:?}");
    let rejected = setup.rejected_logins();
    assert!((1..=13).contains(&rejected), "{rejected} failed logins");
}

#[tokio::test(flavor = "multi_thread")]
async fn law_09_a_lease_is_released_after_the_last_connection() {
    let setup = Setup::new(OldConnections::Drain, exclusive).await;
    let busy = setup.cache.get().await.expect("a connection");
    setup.rotate().await;
    assert_eq!(setup.provider.released(), []);
    drop(busy);
    eventually("the old lease is released", || {
        setup.provider.released().len() == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reused_connection_watches_nothing() {
    let setup = Setup::new(OldConnections::Keep, exclusive).await;
    let mut connection = setup.cache.get().await.expect("a connection");
    let watch = redis::cmd("WATCH").arg("key").to_owned();
    watch.exec_async(&mut connection).await.expect("a watch");
    drop(connection);
    let mut connection = setup.cache.get().await.expect("the same connection");
    assert_eq!(setup.connection_ids().len(), 1);
    connection
        .set::<_, _, ()>("key", 1)
        .await
        .expect("a command");
    let set: Option<(String,)> = redis::pipe()
        .atomic()
        .set("key", 2)
        .query_async(&mut connection)
        .await
        .expect("a transaction");
    assert!(set.is_some(), "the watch would abort it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_responses_is_not_reused() {
    let factory = |server: &Redis| {
        let settings = pools(server).with_response_timeout(Some(Duration::from_millis(500)));
        ExclusivePools::new(settings, 10).expect("a factory")
    };
    let setup = Setup::new(OldConnections::Keep, factory).await;
    let mut connection = setup.cache.get().await.expect("a connection");
    let mut blocking = redis::cmd("BLPOP");
    blocking.arg("nothing").arg(0);
    let error = blocking.exec_async(&mut connection).await;
    assert!(error.expect_err("no response").is_timeout());
    drop(connection);
    count(&setup.cache).await.expect("another connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_whose_command_was_cancelled_is_not_reused() {
    let factory = |server: &Redis| {
        ExclusivePools::new(pools(server).with_response_timeout(None), 1).expect("a factory")
    };
    let setup = Setup::new(OldConnections::Keep, factory).await;
    let mut connection = setup.cache.get().await.expect("a connection");
    let mut blocking = redis::cmd("BLPOP");
    blocking.arg("nothing").arg(0);
    let is_blocked = || {
        let connections = setup.server.connections_of(USER).expect("a list");
        connections.iter().any(|one| one.last_command == "blpop")
    };
    tokio::select! {
        result = blocking.exec_async(&mut connection) => result.expect("no response"),
        () = eventually("the command blocks", is_blocked) => {}
    }
    drop(connection);
    let counted = timeout(Duration::from_secs(25), count(&setup.cache)).await;
    counted.expect("no wait for the command").expect("a call");
}

#[tokio::test(flavor = "multi_thread")]
async fn warming_leaves_idle_connections_to_callers() {
    let server = Redis::start().expect("a server");
    server.set_user(USER, "password-1").expect("a user");
    let (factory, permits) = (exclusive(&server), ObservedPermits::new(|_| {}));
    let credentials = Credentials::new(USER, "password-1");
    let pool = factory.open(&credentials, permits.login_permits());
    let pool = pool.expect("a pool");
    let second = Duration::from_secs(1);
    assert_eq!(factory.warm(&pool, 2, second * 20).await.ok(), Some(2));
    permits.withhold(true);
    let warming = factory.warm(&pool, 4, second);
    let calling = async {
        tokio::time::sleep(second / 10).await;
        factory.try_get(&pool).is_some()
    };
    let both = tokio::time::timeout(second * 10, async { tokio::join!(warming, calling) });
    let (warmed, called) = both.await.expect("an end within the bound");
    assert!(called, "the pool has an idle connection");
    let error = warmed.expect_err("no permit");
    assert!(
        error.message().starts_with("no connection was ready"),
        "{error}"
    );
    permits.withhold(false);
    assert_eq!(factory.warm(&pool, 4, second * 20).await.ok(), Some(4));
    assert_eq!(permits.granted(), 4, "two were open");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_in_another_state_is_not_reused() {
    let setup = Setup::new(OldConnections::Keep, exclusive).await;
    let mut select = redis::cmd("select");
    select.arg(3);
    let mut subscribe = redis::cmd("SUBSCRIBE");
    subscribe.arg("news");
    for command in [redis::cmd("MULTI"), select, subscribe] {
        let before = setup.connection_ids();
        let mut connection = setup.cache.get().await.expect("a connection");
        command.exec_async(&mut connection).await.expect("a state");
        drop(connection);
        count(&setup.cache).await.expect("a response of INCR");
        let reused = |ids: Vec<u64>| ids.iter().any(|id| before.contains(id));
        eventually("another connection is open", || {
            before.is_empty() || !reused(setup.connection_ids())
        })
        .await;
    }
}

async fn send(connection: &mut ExclusiveConnection, name: &str) -> Value {
    let sent = redis::cmd(name).query_async(connection).await;
    sent.expect("a response")
}

fn pongs(number: usize) -> Value {
    Value::Array(vec![Value::SimpleString("PONG".to_owned()); number])
}

#[tokio::test(flavor = "multi_thread")]
async fn no_authentication_becomes_part_of_a_transaction() {
    let setup = Setup::new(OldConnections::Reauthenticate, exclusive).await;
    // redis-rs authenticates a new connection a second time, at the time of its first commands.
    let mut opened = Vec::new();
    for _ in 0..9 {
        let mut connection = setup.cache.get().await.expect("a connection");
        for name in ["MULTI", "PING", "PING"] {
            send(&mut connection, name).await;
        }
        assert_eq!(send(&mut connection, "EXEC").await, pongs(2));
        opened.push(connection);
    }
    drop(opened);
    for (end, expected) in [("EXEC", pongs(2)), ("DISCARD", Value::Okay)] {
        let mut connection = setup.cache.get().await.expect("a connection");
        let mut id = redis::cmd("CLIENT");
        id.arg("ID");
        let id: u64 = id.query_async(&mut connection).await.expect("an id");
        send(&mut connection, "MULTI").await;
        let generation = setup.cache.generation() + 1;
        let in_transaction = async {
            until_generation(&setup.cache, generation).await;
            let others = || {
                let mut connections = setup.server.connections_of(USER).expect("a list");
                connections.retain(|one| one.id != id && one.last_command != "hello");
                connections.iter().all(|one| one.last_command == "auth")
            };
            eventually("the other connections have authenticated", others).await;
            send(&mut connection, "PING").await;
            send(&mut connection, "PING").await;
            assert_eq!(send(&mut connection, end).await, expected);
        };
        tokio::join!(setup.rotate(), in_transaction);
        eventually("the connection authenticates after its transaction", || {
            let mut connections = setup.server.connections_of(USER).expect("a list");
            connections.retain(|one| one.id == id);
            connections.iter().any(|one| one.last_command == "auth")
        })
        .await;
    }
    assert_eq!(setup.rejected_logins(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_after_its_transaction_is_reused() {
    let setup = Setup::new(OldConnections::Keep, exclusive).await;
    let mut connection = setup.cache.get().await.expect("a connection");
    for name in ["MULTI", "PING"] {
        send(&mut connection, name).await;
    }
    assert_eq!(send(&mut connection, "EXEC").await, pongs(1));
    let mut id = redis::cmd("CLIENT");
    id.arg("ID");
    let first: u64 = id.query_async(&mut connection).await.expect("an id");
    drop(connection);
    let mut connection = setup.cache.get().await.expect("a connection");
    let second: u64 = id.query_async(&mut connection).await.expect("an id");
    assert_eq!(first, second);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_waits_for_logins_under_way() {
    let server = Redis::start().expect("a server");
    server.set_user(USER, "password-1").expect("a user");
    let (factory, permits) = (exclusive(&server), ObservedPermits::new(|_| {}));
    let credentials = Credentials::new(USER, "password-1");
    let pool = factory.open(&credentials, permits.login_permits());
    let pool = pool.expect("a pool");
    server.stall().expect("a stalled server");
    let short = Duration::from_millis(200);
    // The login continues without its caller.
    let got = tokio::time::timeout(short, factory.get(&pool)).await;
    assert!(got.is_err(), "the server is stalled");
    assert_eq!(factory.connections(&pool), 1);
    let mut draining = pin!(factory.drain(pool.clone()));
    let drained = tokio::time::timeout(short, &mut draining).await;
    assert!(drained.is_err(), "a login is under way");
    server.resume().expect("a server");
    draining.await;
    assert_eq!(factory.connections(&pool), 0);
}

/// Returns how often the server has received `PING`.
fn pings(server: &Redis) -> u64 {
    let statistics = server.command(&["INFO", "commandstats"]).expect("a text");
    let calls = statistics.split_once("cmdstat_ping:calls=");
    calls.map_or(0, |(_, calls)| {
        let digits = calls.split(',').next().unwrap_or_default();
        digits.parse().expect("a number")
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_checked_after_it_was_idle_for_long() {
    for (limit, checks) in [(20, 1), (3_600_000, 0)] {
        let policy = CheckPolicy::AfterIdle(Duration::from_millis(limit));
        let exclusive = |server: &Redis| {
            ExclusivePools::new(pools(server).with_checks(policy), 1).expect("a factory")
        };
        let setup = Setup::new(OldConnections::Keep, exclusive).await;
        open(&setup.cache, 1).await;
        let before = pings(&setup.server);
        tokio::time::sleep(Duration::from_millis(100)).await;
        open(&setup.cache, 1).await;
        assert_eq!(pings(&setup.server) - before, checks, "after {limit} ms");
    }
}
