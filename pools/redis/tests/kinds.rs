//! needs: redis, quiet
//!
//! Laws 2, 10, 14 and 15 on each kind of pool, in addition to the tests of single kinds; callers
//! that share a login.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod clients;
mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use claviger::lease::OldConnections;
use claviger::pool::{ObservedPermits, PoolFactory};
use claviger::{Credentials, Handle};
use claviger_fixtures::{eventually, until_drained, until_generation};
use claviger_redis::redis::aio::ConnectionLike;
use claviger_redis::redis::{self, AsyncCommands};
use claviger_redis::{Error, ExclusivePools};
use claviger_servers::Redis;
use futures_util::future::join_all;
use tokio::task::JoinSet;
use tokio::time::Instant;

use clients::{cluster, managed};
use common::{Setup, USER, pools};

/// Maximum of exclusive pools.
const MAX: usize = 10;

async fn exclusive(old_connections: OldConnections) -> Setup<ExclusivePools> {
    let factory = |server: &Redis| {
        let settings = pools(server).with_acquire_timeout(Duration::from_secs(25));
        ExclusivePools::new(settings, 10).expect("a factory")
    };
    Setup::new(old_connections, factory).await
}

/// A kind of pool on Redis.
trait OnRedis: PoolFactory<Secret = Credentials, Error = Error> {}

impl<F: PoolFactory<Secret = Credentials, Error = Error>> OnRedis for F {}

async fn count<F: OnRedis>(cache: &Handle<F>) -> u64
where
    F::Connection: ConnectionLike + Sync,
{
    let mut connection = cache.get().await.expect("a connection");
    connection.incr("calls", 1).await.expect("a response")
}

/// Returns the user's connections when those of verifications are closed, and each has
/// authenticated for the second time, as redis-rs does after its login.
async fn settled<F: OnRedis>(setup: &Setup<F>) -> Vec<u64> {
    let mut last = Vec::new();
    eventually("the connections stay the same", || {
        let connections = setup.server.connections_of(USER).expect("a list");
        let ids: Vec<_> = connections.iter().map(|one| one.id).collect();
        let is_settled = !ids.is_empty()
            && ids == last
            && connections.iter().all(|one| one.last_command != "hello");
        last = ids;
        is_settled
    })
    .await;
    last
}

async fn law_02<F: OnRedis>(setup: Setup<F>)
where
    F::Connection: ConnectionLike + Sync,
{
    count(&setup.cache).await;
    let ids = settled(&setup).await;
    // The backend has the next password before the server.
    let next = setup.provider.rotate();
    setup.provider.hint();
    eventually("the verification is rejected", || {
        setup.rejected_logins() > 0
    })
    .await;
    count(&setup.cache).await;
    assert_eq!(setup.cache.generation(), 1);
    setup.change_password(&next);
    until_generation(&setup.cache, 2).await;
    // Each connection authenticates again, so nothing was rejected on it.
    setup.rotate().await;
    setup.until_connections(&ids).await;
    count(&setup.cache).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_02_a_wrong_password_is_never_sent_by_a_manager() {
    law_02(managed(OldConnections::Reauthenticate).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_02_a_wrong_password_is_never_sent_by_a_cluster() {
    law_02(cluster(OldConnections::Reauthenticate, |pools| pools).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_02_a_wrong_password_is_never_sent_to_an_exclusive_connection() {
    law_02(exclusive(OldConnections::Reauthenticate).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_10_a_handover_of_a_manager_opens_one_connection_more() {
    let setup = managed(OldConnections::Drain).await;
    let mut most = 0;
    for _ in 0..3 {
        let mut guard = setup.cache.get().await.expect("a connection");
        setup.rotate().await;
        count(&setup.cache).await;
        eventually("the verification's connection is closed", || {
            setup.connection_ids().len() <= 2
        })
        .await;
        most = most.max(setup.connection_ids().len());
        guard.incr::<_, _, u64>("calls", 1).await.expect("a call");
        drop(guard);
        until_drained(&setup.cache).await;
        eventually("the old connection is closed", || {
            setup.connection_ids().len() == 1
        })
        .await;
    }
    assert_eq!(most, 2, "old and new");
}

#[tokio::test(flavor = "multi_thread")]
async fn law_10_exclusive_connections_stay_within_the_overlap() {
    let setup = exclusive(OldConnections::Drain).await;
    let mut busy = Vec::new();
    for _ in 0..MAX {
        busy.push(setup.cache.get().await.expect("a connection"));
    }
    setup.rotate().await;
    eventually("the verification's connection is closed", || {
        // The handover may have opened one connection.
        setup.connection_ids().len() <= MAX + 1
    })
    .await;
    let calls = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for _ in 0..16 {
        let (cache, calls, stop) = (setup.cache.clone(), Arc::clone(&calls), Arc::clone(&stop));
        callers.spawn(async move {
            while !stop.load(Ordering::Acquire) {
                count(&cache).await;
                calls.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let mut most = 0;
    eventually("calls on the new generation", || {
        most = most.max(setup.connection_ids().len());
        calls.load(Ordering::Relaxed) > 300
    })
    .await;
    stop.store(true, Ordering::Release);
    while let Some(ended) = callers.join_next().await {
        ended.expect("no failed call");
    }
    // The overlap is a quarter of ten.
    assert!((MAX + 1..=MAX + 2).contains(&most), "{most} connections");
}

async fn law_14<F: OnRedis>(setup: Setup<F>)
where
    F::Connection: ConnectionLike + Sync,
{
    let mut guard = setup.cache.get().await.expect("a connection");
    guard.incr::<_, _, u64>("calls", 1).await.expect("a call");
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        let cache = setup.cache.clone();
        callers.spawn(async move {
            loop {
                match cache.get().await {
                    Ok(mut connection) => {
                        connection
                            .incr::<_, _, u64>("calls", 1)
                            .await
                            .expect("a call");
                    }
                    Err(error) => return error,
                }
            }
        });
    }
    let began = tokio::time::Instant::now();
    let bound = Duration::from_millis(500);
    setup.supervisor.shutdown(bound).await;
    assert!(began.elapsed() < bound * 8);
    while let Some(ended) = callers.join_next().await {
        let error = ended.expect("no failed command");
        assert!(matches!(error, Error::Closed), "{error}");
    }
    guard
        .incr::<_, _, u64>("calls", 1)
        .await
        .expect("it stays open");
    setup.supervisor.shutdown(bound).await;
    drop(guard);
    eventually("all connections are closed", || {
        setup.connection_ids().is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_14_a_shutdown_with_a_manager_is_bounded() {
    law_14(managed(OldConnections::Drain).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_14_a_shutdown_with_a_cluster_is_bounded() {
    law_14(cluster(OldConnections::Drain, |pools| pools).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_14_a_shutdown_with_exclusive_connections_is_bounded() {
    law_14(exclusive(OldConnections::Drain).await).await;
}

/// Cancels calls while connections end. Returns the setup when only usable connections are left,
/// `most` of them at most.
async fn law_15<F: OnRedis>(setup: Setup<F>, most: usize) -> Setup<F>
where
    F::Connection: ConnectionLike + Sync,
{
    let mut cancelled = 0;
    for round in 0..30 {
        // The last calls leave an open connection behind.
        if round % 2 == 0 {
            setup.server.kill_connections(USER).expect("a count");
        }
        let mut callers = JoinSet::new();
        for caller in 0..10 {
            let cache = setup.cache.clone();
            callers.spawn(async move {
                let time = Duration::from_micros(200 * (caller + round % 5));
                let called = async {
                    let mut connection = cache.get().await?;
                    connection.incr::<_, _, u64>("calls", 1).await
                };
                tokio::time::timeout(time, called).await.is_err()
            });
        }
        while let Some(ended) = callers.join_next().await {
            cancelled += u32::from(ended.expect("no panic"));
        }
    }
    assert!(cancelled > 0, "the hazard");
    eventually("connections of cancelled calls are closed", || {
        setup.connection_ids().len() <= most
    })
    .await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let mut connection = setup.cache.get().await.expect("a connection");
        // A client that reconnects returns the error of the connection that ended.
        let called: Result<u64, _> = connection.incr("calls", 1).await;
        match called {
            Ok(_) => break,
            Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error}"),
        }
    }
    assert_eq!(setup.provider.calls().len(), 1, "no fetch");
    setup
}

#[tokio::test(flavor = "multi_thread")]
async fn law_15_cancelled_calls_on_a_manager_lose_nothing() {
    law_15(managed(OldConnections::Drain).await, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_15_cancelled_calls_on_a_cluster_lose_nothing() {
    law_15(cluster(OldConnections::Drain, |pools| pools).await, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_15_cancelled_calls_on_exclusive_connections_lose_nothing() {
    let setup = law_15(exclusive(OldConnections::Drain).await, MAX).await;
    // Each place is free.
    let mut busy = Vec::new();
    for _ in 0..MAX {
        busy.push(setup.cache.get().await.expect("a connection"));
    }
    for connection in &mut busy {
        let pinged = redis::cmd("PING").exec_async(connection).await;
        pinged.expect("a response");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_with_which_another_pool_has_logged_in_does_not_wait() {
    let setup = Setup::new(OldConnections::Drain, pools).await;
    let settings = pools(&setup.server);
    let factory = ExclusivePools::new(settings, 20).expect("a factory");
    let queue = setup
        .supervisor
        .add_pool("queue", &setup.credentials, factory);
    let queue = queue.await.expect("verified");
    // Wrong passwords use up the failed logins of one pool, and leave enough to the other.
    let waits = || {
        let status = setup.cache.status().expect("a status");
        status.next_verification.unwrap_or_default() > Duration::from_secs(5)
    };
    while !waits() {
        let before = setup.rejected_logins();
        setup.provider.rotate();
        setup.provider.hint();
        eventually("a login is rejected, or waits for the budget", || {
            waits() || setup.rejected_logins() > before
        })
        .await;
    }
    let password = setup.provider.rotate();
    setup.change_password(&password);
    setup.provider.hint();
    until_generation(&queue, 2).await;
    let logged_in = Instant::now();
    until_generation(&setup.cache, 2).await;
    // Without that login, it would wait for ten seconds after the last password that was never
    // tried.
    assert!(logged_in.elapsed() < Duration::from_secs(5), "it waited");
    count(&setup.cache).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_queued_when_a_login_began_get_its_error() {
    let server = Redis::start().expect("a server");
    server.set_user(USER, "password-1").expect("a user");
    let factory = pools(&server).with_connection_timeout(Duration::from_millis(500));
    let permits = ObservedPermits::new(|_| {});
    let credentials = Credentials::new(USER, "password-1");
    let pool = factory.open(&credentials, permits.login_permits());
    let pool = pool.expect("a pool");
    server.stall().expect("a stalled server");
    for rounds in 1..=2 {
        let callers = (0..20).map(|_| factory.get(&pool));
        for got in join_all(callers).await {
            let error = got.expect_err("the server is stalled");
            assert!(matches!(error, Error::Connect(_)), "{error}");
        }
        // One more if it began before the others queued.
        let granted = permits.granted();
        assert!((rounds..=2 * rounds).contains(&granted), "{granted} logins");
    }
    server.resume().expect("a server");
}
