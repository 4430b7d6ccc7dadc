//! needs: redis, quiet
//!
//! A cluster of three nodes, with and without TLS. The password changes on all nodes at once or on
//! one after the other. Connections end, and a node restarts.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod clients;
mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use claviger::lease::OldConnections;
use claviger::report::RotationTrigger;
use claviger::{Credentials, Handle, Lease, Revision, Supervisor};
use claviger_fixtures::{eventually, fetches, until_drained, until_generation};
use claviger_redis::redis::{AsyncCommands, RedisError};
use claviger_redis::{Cluster, RedisConnection, RedisPools};
use claviger_servers::Redis;
use claviger_servers::redis::{RedisBuilder, RedisCluster};
use claviger_testkit::ScriptedProvider;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use clients::with_short_responses;
use common::{USER, address, with_long_timeouts};

const NODES: usize = 3;

/// Time for which a call is repeated. redis-rs returns the errors of connections that ended.
const PATIENCE: Duration = Duration::from_secs(30);

struct Nodes {
    cluster: RedisCluster,
    /// A key on each node.
    keys: [String; NODES],
    provider: ScriptedProvider,
    supervisor: Supervisor,
    cache: Handle<RedisPools<Cluster>>,
}

impl Nodes {
    async fn new(builder: RedisBuilder, old_connections: OldConnections) -> Self {
        Self::with_pools(builder, old_connections, |pools| pools).await
    }

    async fn with_pools(
        builder: RedisBuilder,
        old_connections: OldConnections,
        adjust: impl FnOnce(RedisPools<Cluster>) -> RedisPools<Cluster>,
    ) -> Self {
        let cluster = builder.start_cluster(NODES).expect("a cluster");
        cluster.set_user(USER, "password-1").expect("a user");
        let keys = std::array::from_fn(|node| key_of(&cluster, node));
        // The others are found from these two.
        let addresses = cluster.nodes()[..2].iter().map(address);
        let mut pools = with_long_timeouts(RedisPools::cluster(addresses).expect("addresses"));
        if let Some(ca_file) = cluster.ca_file() {
            let ca = std::fs::read(ca_file).expect("a file");
            pools = pools.with_ca_pem(ca).expect("certificates");
        }
        let provider = ScriptedProvider::new().with_old_connections(old_connections);
        let supervisor = Supervisor::start();
        let credentials = supervisor.add_provider("credentials", provider.clone());
        let credentials = credentials.await.expect("a lease");
        let cache = supervisor.add_pool("cache", &credentials, adjust(pools));
        let cache = cache.await.expect("verified");
        Self {
            cluster,
            keys,
            provider,
            supervisor,
            cache,
        }
    }

    /// Changes the password on all nodes and at the backend, and waits for the rotation.
    async fn rotate(&self) {
        let password = self.provider.rotate();
        self.cluster.set_password(USER, &password).expect("set");
        self.rotate_now().await;
    }

    async fn rotate_now(&self) {
        let report = self.supervisor.rotate_now("credentials").await;
        report.expect("a rotation");
    }

    fn kill_connections(&self) -> u64 {
        self.cluster.kill_connections(USER).expect("a count")
    }

    fn rejected_logins(&self) -> u64 {
        self.cluster.rejected_logins_of(USER).expect("a log")
    }

    /// Returns the ids of the user's connections to each node, when those of verifications are
    /// closed.
    async fn settled(&self) -> Vec<Vec<u64>> {
        let mut last = Vec::new();
        eventually("the connections stay the same", || {
            let nodes = self.cluster.nodes().iter();
            let lists = nodes.map(|node| node.connections_of(USER).expect("a list"));
            let ids: Vec<Vec<_>> = lists
                .map(|list| list.iter().map(|one| one.id).collect())
                .collect();
            std::mem::replace(&mut last, ids) == last
        })
        .await;
        last
    }

    /// Calls each node by a connection of the handle, until it succeeds.
    async fn until_all_work(&self) {
        for key in &self.keys {
            until_works(&self.cache, key).await;
        }
    }
}

/// Returns a key in a slot of this node.
fn key_of(cluster: &RedisCluster, node: usize) -> String {
    let own = |key: &String| {
        let slot = cluster.nodes()[0].command(&["CLUSTER", "KEYSLOT", key]);
        let slot: usize = slot.expect("a slot").parse().expect("a number");
        slot * NODES / 16_384 == node
    };
    let mut keys = (0..1_000).map(|number| format!("calls-{number}"));
    keys.find(own).expect("a key of the node")
}

async fn count(connection: &mut RedisConnection<Cluster>, key: &str) -> Result<u64, RedisError> {
    connection.incr(key, 1).await
}

async fn call(cache: &Handle<RedisPools<Cluster>>, key: &str) -> Result<u64, RedisError> {
    let mut connection = cache.get().await?;
    count(&mut connection, key).await
}

async fn until_works(cache: &Handle<RedisPools<Cluster>>, key: &str) {
    let began = Instant::now();
    while let Err(error) = call(cache, key).await {
        assert!(began.elapsed() < PATIENCE, "{error}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Callers on all nodes. A failed call fails the test.
struct Callers {
    tasks: JoinSet<()>,
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
}

impl Callers {
    fn start(nodes: &Nodes) -> Self {
        let mut callers = Self {
            tasks: JoinSet::new(),
            stop: Arc::default(),
            calls: Arc::default(),
        };
        for number in 0..12 {
            let (cache, key) = (nodes.cache.clone(), nodes.keys[number % NODES].clone());
            let (stop, calls) = (Arc::clone(&callers.stop), Arc::clone(&callers.calls));
            callers.tasks.spawn(async move {
                while !stop.load(Ordering::Acquire) {
                    call(&cache, &key).await.expect("a call during rotations");
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        callers
    }

    async fn until_more(&self) {
        let before = self.calls.load(Ordering::Relaxed);
        eventually("more calls", || {
            self.calls.load(Ordering::Relaxed) > before + 50
        })
        .await;
    }

    async fn stop(mut self) {
        self.stop.store(true, Ordering::Release);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("no failed call");
        }
    }
}

async fn rotations(nodes: Nodes, in_place: bool) {
    nodes.until_all_work().await;
    let before = nodes.settled().await;
    assert!(before.iter().all(|ids| !ids.is_empty()), "{before:?}");
    let callers = Callers::start(&nodes);
    for generation in 2..=4 {
        callers.until_more().await;
        nodes.rotate().await;
        assert_eq!(nodes.cache.generation(), generation);
    }
    callers.until_more().await;
    callers.stop().await;
    until_drained(&nodes.cache).await;
    let after = nodes.settled().await;
    assert_eq!(after == before, in_place, "{before:?} {after:?}");
    assert_eq!(nodes.rejected_logins(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn law_01_no_call_on_any_node_fails_by_a_rotation_in_place() {
    rotations(
        Nodes::new(Redis::builder(), OldConnections::Reauthenticate).await,
        true,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_01_no_call_on_any_node_fails_by_a_replacement() {
    rotations(
        Nodes::new(Redis::builder(), OldConnections::Drain).await,
        false,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_01_no_call_with_tls_fails_by_a_rotation() {
    let nodes = Nodes::new(Redis::builder().tls(), OldConnections::Reauthenticate).await;
    nodes.until_all_work().await;
    let before = nodes.settled().await;
    // A token is sent by TLS alone.
    nodes.cluster.set_password(USER, "token").expect("set");
    let token = Credentials::new(USER, "token").with_password_as_token();
    let lease = Lease::new(token, Revision::new("token"))
        .with_old_connections(OldConnections::Reauthenticate);
    nodes.provider.return_next(lease);
    nodes.rotate_now().await;
    assert_eq!(nodes.settled().await, before);
    rotations_with_tls(nodes).await;
}

async fn rotations_with_tls(nodes: Nodes) {
    let callers = Callers::start(&nodes);
    for _ in 0..2 {
        callers.until_more().await;
        nodes.rotate().await;
    }
    callers.until_more().await;
    callers.stop().await;
    assert!(nodes.kill_connections() > 0);
    nodes.until_all_work().await;
    assert_eq!(nodes.rejected_logins(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn law_05_rejections_by_all_nodes_cause_one_fetch() {
    let nodes =
        Nodes::with_pools(Redis::builder(), OldConnections::Keep, with_short_responses).await;
    nodes.until_all_work().await;
    // The backend has the password before the fetch.
    let next = nodes.provider.rotate();
    nodes.cluster.set_password(USER, &next).expect("set");
    assert!(nodes.kill_connections() >= 3);
    let mut callers = JoinSet::new();
    for number in 0..300 {
        let (cache, key) = (nodes.cache.clone(), nodes.keys[number % NODES].clone());
        callers.spawn(async move { until_works(&cache, &key).await });
    }
    while let Some(ended) = callers.join_next().await {
        ended.expect("a call");
    }
    until_generation(&nodes.cache, 2).await;
    assert_eq!(fetches(&nodes.provider, RotationTrigger::Rejected), 1);
    let rejected = nodes.rejected_logins();
    // Four of the pool, and sixteen of the client itself.
    assert!((1..=4 + 16).contains(&rejected), "{rejected} failed logins");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_the_password_late_works_afterwards() {
    let nodes = Nodes::new(Redis::builder(), OldConnections::Reauthenticate).await;
    nodes.until_all_work().await;
    let next = nodes.provider.rotate();
    for node in &nodes.cluster.nodes()[..2] {
        node.set_password(USER, &next).expect("set");
    }
    // The first node accepts the lease. The third one rejects it on its open connection.
    nodes.rotate_now().await;
    let third = &nodes.cluster.nodes()[2];
    assert!(third.rejected_logins_of(USER).expect("a log") > 0);
    for key in &nodes.keys[..2] {
        until_works(&nodes.cache, key).await;
    }
    third.set_password(USER, &next).expect("set");
    nodes.until_all_work().await;
    let rejected = nodes.rejected_logins();
    assert!(rejected <= 4 + 2 * 16, "{rejected} failed logins");
    // Each connection authenticates again as before.
    let before = nodes.settled().await;
    nodes.rotate().await;
    for node in nodes.cluster.nodes() {
        let connections = node.connections_of(USER).expect("a list");
        let mut own = connections.iter().filter(|one| {
            let mut known = before.iter().flatten();
            known.any(|id| *id == one.id)
        });
        assert!(own.all(|one| one.last_command == "auth"), "{connections:?}");
    }
    nodes.until_all_work().await;
    assert_eq!(nodes.settled().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_that_change_between_logins_are_found() {
    let nodes = Nodes::new(Redis::builder(), OldConnections::Keep).await;
    for round in 0..3 {
        nodes.until_all_work().await;
        let next = nodes.provider.rotate();
        for (number, node) in nodes.cluster.nodes().iter().enumerate() {
            // Connections of one node end before it has the new password, of another one
            // afterwards.
            if number == round {
                node.kill_connections(USER).expect("a count");
            }
            node.set_password(USER, &next).expect("set");
            if number == (round + 1) % NODES {
                node.kill_connections(USER).expect("a count");
            }
        }
        nodes.provider.hint();
        until_generation(&nodes.cache, 2 + round as u64).await;
    }
    nodes.until_all_work().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_end_are_opened_again() {
    let nodes = Nodes::new(Redis::builder(), OldConnections::Keep).await;
    let mut guard = nodes.cache.get().await.expect("a connection");
    for node in 0..NODES {
        nodes.until_all_work().await;
        let one = &nodes.cluster.nodes()[node];
        assert!(one.kill_connections(USER).expect("a count") > 0);
        let began = Instant::now();
        for key in &nodes.keys {
            while let Err(error) = count(&mut guard, key).await {
                assert!(began.elapsed() < PATIENCE, "{error}");
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
    assert!(nodes.kill_connections() >= 3);
    nodes.until_all_work().await;
    assert_eq!(nodes.provider.calls().len(), 1, "no fetch");
    assert_eq!(nodes.rejected_logins(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_restarts_while_the_others_work() {
    let nodes = Nodes::new(Redis::builder(), OldConnections::Keep).await;
    nodes.until_all_work().await;
    let second = &nodes.cluster.nodes()[1];
    second.stop().expect("a stopped node");
    for _ in 0..50 {
        for number in [0, 2] {
            let called = call(&nodes.cache, &nodes.keys[number]).await;
            called.expect("the other nodes work");
        }
    }
    let own = call(&nodes.cache, &nodes.keys[1]).await;
    own.expect_err("the hazard: the node is stopped");
    second.start_again().expect("a started node");
    nodes.until_all_work().await;
    assert_eq!(nodes.provider.calls().len(), 1, "no fetch");
    assert_eq!(nodes.rejected_logins(), 0);
    nodes.rotate().await;
    nodes.until_all_work().await;
}
