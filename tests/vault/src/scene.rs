//! A server of secrets with a database engine on a PostgreSQL, and a service between them.

#![expect(clippy::expect_used, reason = "scenery of tests: what fails here fails the test")]

use std::sync::Arc;
use std::time::Duration;

use claviger::{Handle, Login, PgPools, Provider, Supervisor};
use claviger_servers::{Postgres, Proxy, openbao};
use claviger_stage::Server;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use crate::{Admin, ENGINE_PASSWORD, ENGINE_USER, Kind, Problem};

/// An administrator whose work is done off the async threads.
#[derive(Clone, Debug)]
pub struct Clerk {
    /// The administrator.
    pub admin: Arc<Admin>,
}

impl Clerk {
    /// Of a server with the policy `orders` and nothing else in it.
    ///
    /// # Panics
    /// When there is none.
    pub async fn start() -> Self {
        Self::start_with(openbao::Builder::default()).await
    }

    /// Of a server that is to be different.
    ///
    /// # Panics
    /// When there is none.
    pub async fn start_with(builder: openbao::Builder) -> Self {
        let admin = blocking(|| {
            let admin = Admin { vault: builder.start().expect("a server starts") };
            admin.policy().expect("a policy is written");
            admin
        })
        .await;
        Self { admin: Arc::new(admin) }
    }

    /// Does something as the administrator.
    ///
    /// # Panics
    /// When it is not done.
    pub async fn asks<T: Send + 'static>(&self, work: impl FnOnce(&Admin) -> Result<T, Problem> + Send + 'static) -> T {
        let admin = Arc::clone(&self.admin);
        blocking(move || work(&admin)).await.expect("it is done")
    }

    /// What counts the requests, for those who take it for the server.
    ///
    /// # Panics
    /// When there is no port.
    pub fn proxy(&self) -> Proxy {
        Proxy::start(&self.admin.vault.address()).expect("a proxy starts")
    }
}

/// The server, a database, and a supervisor.
#[derive(Debug)]
pub struct Scene {
    /// The server's administrator.
    pub clerk: Clerk,
    /// The database behind its engine.
    pub server: Arc<Postgres>,
    /// The service's supervisor.
    pub supervisor: Supervisor,
}

impl Scene {
    /// With an engine that is connected to the database.
    ///
    /// # Panics
    /// When something of it is not to be had.
    pub async fn set() -> Self {
        let (clerk, server) = tokio::join!(Clerk::start(), blocking(Postgres::raise));
        let server = Arc::new(server);
        let scene = Self { clerk, server, supervisor: Supervisor::start() };
        scene.sql(&format!("CREATE ROLE {ENGINE_USER} LOGIN SUPERUSER PASSWORD '{ENGINE_PASSWORD}'")).await;
        let port = scene.server.port();
        scene.admin(move |admin| admin.connect(Kind::PostgreSql, port)).await;
        scene
    }

    /// Does something as the administrator.
    ///
    /// # Panics
    /// When it is not done.
    pub async fn admin<T: Send + 'static>(&self, work: impl FnOnce(&Admin) -> Result<T, Problem> + Send + 'static) -> T {
        self.clerk.asks(work).await
    }

    /// Runs a statement as superuser.
    ///
    /// # Panics
    /// When it fails.
    pub async fn sql(&self, sql: &str) -> String {
        let (server, sql) = (Arc::clone(&self.server), sql.to_owned());
        blocking(move || server.sql(&sql).expect("the statement runs")).await
    }

    /// Users that the engine made and that are still there.
    ///
    /// # Panics
    /// When they cannot be counted.
    pub async fn users(&self) -> Vec<String> {
        self.sql("SELECT rolname FROM pg_roles WHERE rolname LIKE 'v-%'").await.lines().map(str::to_owned).collect()
    }

    /// Pools of so many sessions.
    pub fn pools(&self, max: u32) -> PgPools {
        let options = PgPoolOptions::new().max_connections(max).acquire_timeout(Duration::from_secs(5));
        Postgres::factory(self.server.options(None), options)
    }

    /// A pool `orders` of eight sessions on a provider `login`.
    ///
    /// # Panics
    /// When there is no lease, or it is not proved.
    pub async fn pool<P: Provider<Secret = Login>>(&self, provider: P) -> Handle<PgPool> {
        let login = self.supervisor.provide("login", provider).await.expect("there is a lease");
        self.supervisor.pool("orders", &login, self.pools(8)).await.expect("it is proved")
    }
}

/// Waits up to 40 s until another generation is served than this one.
///
/// # Panics
/// When it is not.
pub async fn next_generation(db: &Handle<PgPool>, before: u64) -> u64 {
    claviger_stage::eventually_within(Duration::from_secs(40), "another generation is served", || db.generation() > before).await;
    db.generation()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("no panic")
}
