//! needs: redis, quiet
//!
//! Clients of redis-rs that reconnect by themselves: the `ConnectionManager` and the cluster's
//! client, on a cluster of one node.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod clients;
mod common;

use std::time::Duration;

use claviger::error::ConnectErrorKind;
use claviger::lease::OldConnections;
use claviger::report::RotationTrigger;
use claviger_fixtures::{eventually, fetches, until_generation};
use claviger_redis::redis::{AsyncCommands, RedisError};
use claviger_redis::{Error, Kind, RedisConnection, RedisPools};
use tokio::task::JoinSet;

use clients::{cluster, managed, with_short_responses};
use common::{Setup, USER};

async fn count<K: Kind>(connection: &mut RedisConnection<K>) -> Result<u64, RedisError> {
    connection.incr("calls", 1).await
}

/// Calls until one succeeds: redis-rs returns the error of the call that found the end.
async fn count_again<K: Kind>(connection: &mut RedisConnection<K>) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while let Err(error) = count(connection).await {
        assert!(tokio::time::Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn authenticates_again<K: Kind>(setup: Setup<RedisPools<K>>) {
    let mut guard = setup.cache.get().await.expect("a connection");
    count(&mut guard).await.expect("a call");
    // A cluster's client may have opened more than one, and a verification's may still close.
    let mut ids = setup.connection_ids();
    eventually("the connections stay the same", || {
        let last = std::mem::replace(&mut ids, setup.connection_ids());
        last == ids
    })
    .await;
    for generation in 2..5 {
        setup.rotate().await;
        assert_eq!(setup.cache.generation(), generation);
        setup.until_connections(&ids).await;
        count(&mut guard).await.expect("a call");
    }
    assert_eq!(setup.rejected_logins(), 0);
    // The guard's own reconnect uses the newest password.
    setup.server.kill_connections(USER).expect("a count");
    count_again(&mut guard).await;
    setup.server.stop().expect("a stopped server");
    setup.server.start_again().expect("a started server");
    // A cluster's node keeps its slots in a file, and may start without them.
    count_again(&mut guard).await;
    assert_eq!(setup.rejected_logins(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_authenticates_again_and_reconnects() {
    authenticates_again(managed(OldConnections::Reauthenticate).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_authenticates_again_and_reconnects() {
    authenticates_again(cluster(OldConnections::Reauthenticate, with_short_responses).await).await;
}

async fn law_05<K: Kind>(setup: Setup<RedisPools<K>>) {
    let mut guard = setup.cache.get().await.expect("a connection");
    count(&mut guard).await.expect("a call");
    let next = setup.provider.rotate();
    setup.change_password(&next);
    setup.server.kill_connections(USER).expect("a count");
    let mut callers = JoinSet::new();
    for _ in 0..1_000 {
        let cache = setup.cache.clone();
        callers.spawn(async move {
            // redis-rs's own reconnect is rejected first; the next `get` replaces the client.
            let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
            loop {
                let mut connection = cache.get().await.expect("a connection");
                match count(&mut connection).await {
                    Ok(_) => return,
                    Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error}"),
                }
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended.expect("a call");
    }
    until_generation(&setup.cache, 2).await;
    assert_eq!(fetches(&setup.provider, RotationTrigger::Rejected), 1);
    let rejected = setup.rejected_logins();
    assert!((1..=4 + 16).contains(&rejected), "{rejected} failed logins");
}

#[tokio::test(flavor = "multi_thread")]
async fn law_05_a_thousand_rejected_callers_of_a_manager_cause_one_fetch() {
    law_05(managed(OldConnections::Keep).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_05_a_thousand_rejected_callers_of_a_cluster_cause_one_fetch() {
    law_05(cluster(OldConnections::Keep, with_short_responses).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_whose_own_reconnect_was_rejected_is_replaced() {
    let setup = managed(OldConnections::Keep).await;
    drop(setup.cache.get().await.expect("a connection"));
    let next = setup.provider.rotate();
    setup.change_password(&next);
    setup.server.kill_connections(USER).expect("a count");
    eventually("redis-rs's own reconnect is rejected", || {
        setup.rejected_logins() > 0
    })
    .await;
    // The client is marked at about the same time.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut connection = setup.cache.get().await.expect("a connection");
    count(&mut connection).await.expect("a call");
    assert_eq!(fetches(&setup.provider, RotationTrigger::Rejected), 1);
}

async fn law_11<K: Kind>(setup: Setup<RedisPools<K>>) {
    let mut guard = setup.cache.get().await.expect("a connection");
    count(&mut guard).await.expect("a call");
    setup.change_password("unknown to the backend");
    setup.server.kill_connections(USER).expect("a count");
    let start = tokio::time::Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        // The guard stays, and so does redis-rs's own reconnect.
        let _ = tokio::time::timeout(Duration::from_millis(50), count(&mut guard)).await;
    }
    let rejected = setup.rejected_logins();
    // Sixteen of the client itself, and those of the pool.
    assert!((1..=16 + 4).contains(&rejected), "{rejected} failed logins");
}

#[tokio::test(flavor = "multi_thread")]
async fn law_11_failed_logins_of_a_manager_are_bounded() {
    law_11(managed(OldConnections::Keep).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_11_failed_logins_of_a_cluster_are_bounded() {
    law_11(cluster(OldConnections::Keep, with_short_responses).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_error_of_a_rejected_cluster_is_the_servers() {
    let adjust = |pools| with_short_responses(pools).with_acquire_timeout(Duration::from_secs(2));
    let setup = cluster(OldConnections::Drain, adjust).await;
    setup.change_password("unknown to the backend");
    setup.server.kill_connections(USER).expect("a count");
    let mut error = None;
    for _ in 0..100 {
        match setup.cache.get().await {
            Ok(mut connection) => drop(count(&mut connection).await),
            Err(found) => {
                error = Some(found);
                break;
            }
        }
    }
    let Some(Error::Connect(error)) = error else {
        return assert!(error.is_some(), "no rejection");
    };
    assert_eq!(error.kind(), ConnectErrorKind::Rejected);
    assert!(error.message().starts_with("WRONGPASS"), "{error}");
}

#[test]
fn invalid_addresses_of_a_cluster_are_errors() {
    let none: [&str; 0] = [];
    let error = RedisPools::cluster(none).expect_err("no address");
    assert!(error.message().starts_with("addresses are none"), "{error}");
    let error = RedisPools::cluster(["redis://cache:6379/3"]).expect_err("a database");
    assert!(error.message().contains("database 0"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_client_closes_after_its_last_guard() {
    let setup = cluster(OldConnections::Drain, with_short_responses).await;
    let mut guard = setup.cache.get().await.expect("a connection");
    count(&mut guard).await.expect("a call");
    setup.rotate().await;
    count(&mut guard).await.expect("a call on the old client");
    let status = setup.cache.status().expect("a status");
    assert_eq!(status.draining.len(), 1);
    drop(guard);
    claviger_fixtures::until_drained(&setup.cache).await;
    eventually("the old lease is released", || {
        setup.provider.released().len() == 1
    })
    .await;
}
