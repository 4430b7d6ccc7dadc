//! needs: redis, quiet
//!
//! Law 8: clients that reconnect by themselves do not log in with an expired lease.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use claviger::lease::OldConnections;
use claviger_fixtures::backend_down;
use claviger_redis::redis::{AsyncCommands, RedisError};
use claviger_redis::{Kind, RedisConnection, RedisPools};
use claviger_servers::Redis;
use claviger_testkit::ScriptedProvider;
use tokio::time::{Instant, sleep, timeout};

use common::{Setup, USER, address, with_long_timeouts};

/// Lifetime of a lease. Longer than the start of a pool on a machine under load.
const LIFETIME: Duration = Duration::from_secs(4);
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
    while began.elapsed() < Duration::from_secs(2) {
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
