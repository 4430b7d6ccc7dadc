//! needs: postgresql
//!
//! Pools of bb8 on a real PostgreSQL: a changed password, and rotations under load.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use claviger::lease::OldConnections;
use claviger::pool::PoolFactory;
use claviger::supervisor::ProviderRef;
use claviger::{Credentials, Handle, Lease, Revision, Supervisor};
use claviger_pool_kinds::{Bb8Pools, CallError};
use claviger_servers::Postgres;
use claviger_testkit::ScriptedProvider;
use tokio::time::sleep;
use tokio_postgres::{Client, Config};

const MAX_CONNECTIONS: u32 = 10;

/// A kind of pool, and the client in its connections.
trait Kind: PoolFactory<Secret = Credentials, Error = CallError> + Sized {
    fn factory(config: Config) -> Self;
    fn client(connection: &Self::Connection) -> &Client;
}

impl Kind for Bb8Pools {
    fn factory(config: Config) -> Self {
        Self::new(config, MAX_CONNECTIONS)
    }
    fn client(connection: &Self::Connection) -> &Client {
        connection
    }
}

struct Database<K: Kind> {
    server: Postgres,
    supervisor: Supervisor,
    provider: ScriptedProvider,
    _credentials: ProviderRef<Credentials>,
    pool: Handle<K>,
}

fn lease(password: &str, old_connections: OldConnections) -> Lease<Credentials> {
    Lease::new(Credentials::new("app", password), Revision::new(password))
        .with_old_connections(old_connections)
}

impl<K: Kind> Database<K> {
    async fn new(old_connections: OldConnections) -> Self {
        let server = Postgres::start().expect("a server");
        server.create_role("app", "password-1").expect("a role");
        server.create_database("orders", "app").expect("a database");
        let mut config = Config::new();
        config
            .host(server.host())
            .port(server.port())
            .dbname("orders");
        let provider = ScriptedProvider::new();
        provider.return_next(lease("password-1", old_connections));
        let supervisor = Supervisor::start();
        let credentials = supervisor.add_provider("credentials", provider.clone());
        let credentials = credentials.await.expect("a lease");
        let pool = supervisor.add_pool("orders", &credentials, K::factory(config));
        let pool = pool.await.expect("verified");
        Self {
            server,
            supervisor,
            provider,
            _credentials: credentials,
            pool,
        }
    }

    fn change_password(&self, password: &str, old_connections: OldConnections) {
        self.server.set_password("app", password).expect("changed");
        self.provider.return_next(lease(password, old_connections));
    }

    fn query(&self) -> impl Future<Output = Result<(), String>> + Send + use<K> {
        let pool = self.pool.clone();
        async move {
            let connection = pool.get().await.map_err(|error| error.to_string())?;
            let queried = K::client(&connection).query_one("select 1", &[]).await;
            queried.map(drop).map_err(|error| error.to_string())
        }
    }
}

async fn change_the_password<K: Kind>() {
    let database = Database::<K>::new(OldConnections::Keep).await;
    database.change_password("password-2", OldConnections::Keep);
    let calls: Vec<_> = (0..1_000).map(|_| tokio::spawn(database.query())).collect();
    for call in calls {
        call.await.expect("no panic").expect("a result");
    }
    let log = database.server.log();
    let failed = log.rejected_logins_of("app").expect("a log");
    assert!(failed >= 1, "the hazard: a login was rejected");
    assert!(
        failed <= MAX_CONNECTIONS as usize + 3,
        "{failed} failed logins"
    );
    assert_eq!(database.provider.calls().len(), 2, "one fetch for all");
}

async fn rotate_under_load<K: Kind>(old_connections: OldConnections) {
    let database = Database::<K>::new(old_connections).await;
    let (stop, queries) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let (stop, queries) = (Arc::clone(&stop), Arc::clone(&queries));
            let pool = database.pool.clone();
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let connection = pool.get().await.expect("a connection");
                    let queried = K::client(&connection).query_one("select 1", &[]).await;
                    queried.expect("a result");
                    queries.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for number in 2..=4 {
        sleep(Duration::from_millis(100)).await;
        database.change_password(&format!("password-{number}"), old_connections);
        let rotated = database.supervisor.rotate_now("credentials").await;
        rotated.expect("a report");
        assert_eq!(database.pool.generation(), number);
        let before = queries.load(Ordering::Relaxed);
        sleep(Duration::from_millis(100)).await;
        assert!(queries.load(Ordering::Relaxed) > before, "queries continue");
        let open = database.server.connection_count("app").expect("a number");
        assert!(
            open <= (MAX_CONNECTIONS + MAX_CONNECTIONS / 4) as usize,
            "{open} connections"
        );
    }
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.expect("no query failed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_password_costs_one_fetch_on_bb8() {
    change_the_password::<Bb8Pools>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_query_fails_during_a_handover_in_place() {
    rotate_under_load::<Bb8Pools>(OldConnections::Keep).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_query_fails_during_a_replacement() {
    rotate_under_load::<Bb8Pools>(OldConnections::Drain).await;
}
