//! needs: postgresql, quiet
//!
//! Managers that a function makes: bb8-postgres's own.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};
use std::thread::{ThreadId, current};
use std::time::Duration;

use bb8_postgres::PostgresConnectionManager;
use claviger::error::ConnectErrorKind;
use claviger::lease::OldConnections;
use claviger::pool::PoolFactory;
use claviger::{Credentials, Lease, Revision, Supervisor};
use claviger_bb8::bb8::ManageConnection;
use claviger_bb8::tokio_postgres::{Client, Config, Error, NoTls};
use claviger_bb8::{Bb8Pools, ManagerFactory, PgManagers};
use claviger_servers::Postgres;
use claviger_testkit::ScriptedProvider;
use tokio::time::{sleep, timeout};

fn pools(server: &Postgres) -> Bb8Pools<impl ManagerFactory<Manager = Manager>> {
    let config = config(server);
    let managers = PgManagers::new(move |credentials: &Credentials| manager(&config, credentials));
    Bb8Pools::new(managers, 4)
}

fn config(server: &Postgres) -> Config {
    let mut config = Config::new();
    config
        .host(server.host())
        .port(server.port())
        .dbname("orders");
    config
}

fn manager(config: &Config, credentials: &Credentials) -> Manager {
    let mut config = config.clone();
    config
        .user(credentials.user())
        .password(credentials.expose_password());
    PostgresConnectionManager::new(config, NoTls)
}

type Manager = PostgresConnectionManager<NoTls>;

async fn rotate(old_connections: OldConnections) {
    let server = Postgres::start().expect("a server");
    server.create_role("app", "password-1").expect("a role");
    server.create_database("orders", "app").expect("a database");
    let provider = ScriptedProvider::new().with_old_connections(old_connections);
    let supervisor = Supervisor::start();
    let credentials = supervisor.add_provider("login", provider.clone());
    let credentials = credentials.await.expect("a lease");
    let pool = supervisor.add_pool("orders", &credentials, pools(&server));
    let pool = pool.await.expect("verified");
    let busy = pool.get().await.expect("a connection");
    // An unannounced change, which the first new connection detects.
    let next = provider.rotate();
    server.set_password("app", &next).expect("changed");
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let client = pool.get().await?;
                client.query_one("select 1", &[]).await?;
                Ok::<_, claviger_bb8::CallError>(())
            })
        })
        .collect();
    for call in calls {
        call.await.expect("no panic").expect("a connection");
    }
    let failed = server.log().rejected_logins_of("app").expect("a log");
    assert!((1..=7).contains(&failed), "the hazard: {failed} rejections");
    assert_eq!(pool.generation(), 2);
    assert_eq!(provider.calls().len(), 2, "one fetch");
    busy.query_one("select 1", &[])
        .await
        .expect("it stays open");
    drop(busy);
    assert!(supervisor.shutdown(Duration::from_secs(10)).await.clean);
    let closed = async {
        while server.connection_count("app").expect("a count") > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), closed)
        .await
        .expect("none is open");
}

#[tokio::test(flavor = "multi_thread")]
async fn bb8_postgres_is_replaced() {
    rotate(OldConnections::Drain).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bb8_postgres_is_updated_in_place() {
    rotate(OldConnections::Keep).await;
}

/// A manager that notes the thread of each login.
struct Noting {
    manager: Manager,
    threads: Arc<Mutex<Vec<ThreadId>>>,
}

impl ManageConnection for Noting {
    type Connection = Client;
    type Error = Error;

    async fn connect(&self) -> Result<Client, Error> {
        let connected = self.manager.connect().await;
        self.threads
            .lock()
            .expect("unpoisoned")
            .push(current().id());
        connected
    }

    async fn is_valid(&self, client: &mut Client) -> Result<(), Error> {
        self.manager.is_valid(client).await
    }

    fn has_broken(&self, client: &mut Client) -> bool {
        self.manager.has_broken(client)
    }
}

#[tokio::test]
async fn a_verification_does_not_compute_on_the_runtime() {
    let server = Postgres::start().expect("a server");
    server.create_role("app", "password-1").expect("a role");
    server.create_database("orders", "app").expect("a database");
    let threads = Arc::new(Mutex::new(Vec::new()));
    let (noted, config) = (Arc::clone(&threads), config(&server));
    let managers = PgManagers::new(move |credentials: &Credentials| Noting {
        manager: manager(&config, credentials),
        threads: Arc::clone(&noted),
    });
    let pools = Bb8Pools::new(managers, 4);
    assert!(pools.settings().reuses_cancelled, "the driver's protocol");
    let verified = pools.verify(&Credentials::new("app", "password-1")).await;
    verified.expect("verified");
    let error = pools.verify(&Credentials::new("app", "wrong")).await;
    let error = error.expect_err("rejected");
    assert_eq!(error.kind(), ConnectErrorKind::Rejected);
    assert_eq!(error.code(), Some("28P01"));
    let threads = threads.lock().expect("unpoisoned");
    assert_eq!(threads.len(), 2);
    assert!(!threads.contains(&current().id()), "a thread of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_rejected_because_nothing_verifies_the_server() {
    let server = Postgres::start().expect("a server");
    let token = Credentials::new("app", "t0ken").with_password_as_token();
    let token = Lease::new(token, Revision::new("1"));
    let error = pools(&server).check(&token).expect_err("a token");
    assert_eq!(error.kind(), ConnectErrorKind::Misconfigured);
    assert!(error.message().contains("PgConnect"), "{error}");
}
