//! needs: redis, quiet
//!
//! Expired leases. Law 8: clients that reconnect by themselves do not log in. Open connections stay
//! usable until they have to authenticate again.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use claviger::lease::OldConnections;
use claviger_fixtures::{backend_down, eventually};
use claviger_redis::redis::{AsyncCommands, RedisError};
use claviger_redis::{Kind, RedisConnection, RedisPools};
use claviger_servers::Redis;
use claviger_testkit::ScriptedProvider;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use common::{Setup, USER, address, pools, with_long_timeouts};

/// Lifetime of a lease. Longer than the start of a pool on a machine under load.
const LIFETIME: Duration = Duration::from_secs(3);
const SHORT: Duration = Duration::from_millis(50);

async fn count<K: Kind>(connection: &mut RedisConnection<K>) -> Result<u64, RedisError> {
    connection.incr("calls", 1).await
}

/// Lets the lease expire and ends all connections. Asserts that the guard does not log in.
async fn expire<K: Kind>(
    server: Redis,
    pools: RedisPools<K>,
) -> (Setup<RedisPools<K>>, RedisConnection<K>) {
    let provider = ScriptedProvider::new()
        .with_old_connections(OldConnections::Keep)
        .with_lifetime(LIFETIME);
    let pools = with_long_timeouts(pools).with_acquire_timeout(Duration::from_secs(1));
    let setup = Setup::with_provider(server, provider, |_| pools).await;
    setup.provider.fail_next(10_000, backend_down());
    let mut guard = setup.cache.get().await.expect("a connection");
    count(&mut guard).await.expect("a call");
    sleep(LIFETIME).await;
    count(&mut guard).await.expect("a call after the expiry");

    let before = setup.server.login_commands().expect("a count");
    assert!(setup.server.kill_connections(USER).expect("a count") > 0);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(1) {
        let called = timeout(SHORT, count(&mut guard)).await;
        assert!(!matches!(called, Ok(Ok(_))), "the connection has ended");
    }
    assert_eq!(setup.server.login_commands().expect("a count"), before);
    (setup, guard)
}

/// Calls until the guard has logged in again.
async fn until_works<K: Kind>(guard: &mut RedisConnection<K>) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while let Err(error) = count(guard).await {
        assert!(Instant::now() < deadline, "{error}");
        sleep(SHORT).await;
    }
}

async fn law_08_until_a_rotation<K: Kind>(
    setup: Setup<RedisPools<K>>,
    mut guard: RedisConnection<K>,
) {
    setup.provider.recover();
    setup.rotate().await;
    assert_eq!(setup.cache.generation(), 2);
    until_works(&mut guard).await;
    let mut next = setup.cache.get().await.expect("a connection");
    count(&mut next).await.expect("a call");
    assert_eq!(setup.rejected_logins(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn law_08_a_manager_does_not_log_in_with_an_expired_lease() {
    let server = Redis::start().expect("a server");
    let pools = RedisPools::managed(address(&server)).expect("an address");
    let (setup, guard) = expire(server, pools).await;
    setup.cache.get().await.expect_err("no connection");
    law_08_until_a_rotation(setup, guard).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_08_a_cluster_does_not_log_in_with_an_expired_lease() {
    let server = Redis::builder().cluster().start().expect("a cluster");
    let pools = RedisPools::cluster([address(&server)]).expect("an address");
    let (setup, guard) = expire(server, pools).await;
    law_08_until_a_rotation(setup, guard).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_08_a_manager_logs_in_with_an_extended_lease() {
    let server = Redis::start().expect("a server");
    let pools = RedisPools::managed(address(&server)).expect("an address");
    let (setup, mut guard) = expire(server, pools).await;
    // The same revision, with a later expiry.
    setup.provider.recover();
    setup.rotate_now().await;
    until_works(&mut guard).await;
    assert_eq!(setup.cache.generation(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_outlive_a_token_until_they_have_to_authenticate_again() {
    let connection_lifetime = LIFETIME + Duration::from_secs(4);
    let provider = ScriptedProvider::new()
        .with_old_connections(OldConnections::Reauthenticate)
        .with_lifetime(LIFETIME)
        .with_connection_lifetime(connection_lifetime);
    let server = Redis::start().expect("a server");
    let factory = |server: &Redis| pools(server).with_acquire_timeout(Duration::from_millis(500));
    let setup = Setup::with_provider(server, provider, factory).await;
    let began = Instant::now();
    setup.provider.fail_next(10_000, backend_down());
    let mut guard = setup.cache.get().await.expect("a connection");
    count(&mut guard).await.expect("a call");
    eventually("the verification's connection is closed", || {
        setup.connection_ids().len() == 1
    })
    .await;
    let ids = setup.connection_ids();
    sleep(LIFETIME).await;
    let mut shared = setup.cache.get().await.expect("the open connection");
    count(&mut shared).await.expect("a call after the expiry");
    assert_eq!(setup.connection_ids(), ids);
    // It is no longer handed out when the server is about to end it.
    sleep_until(began + connection_lifetime - Duration::from_millis(500)).await;
    let error = setup.cache.get().await.expect_err("no connection");
    assert!(error.to_string().contains("expired at"), "{error}");
    // The next token authenticates it again, unless the server has ended it.
    setup.provider.recover();
    setup.rotate().await;
    let mut next = setup.cache.get().await.expect("a connection");
    count(&mut next).await.expect("a call");
    setup.until_connections(&ids).await;
    assert_eq!(setup.rejected_logins(), 0);
}
