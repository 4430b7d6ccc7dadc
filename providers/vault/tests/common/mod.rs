//! A Vault with a database engine on a PostgreSQL, and a service between them.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use claviger::{Handle, Login, PgPools, Provider, Supervisor};
use claviger_servers::Postgres;
use claviger_stage::Server;
use claviger_vault_stage::{Admin, ENGINE_PASSWORD, ENGINE_USER, Kind, Problem};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

pub(crate) struct Scene {
    pub(crate) admin: Arc<Admin>,
    pub(crate) server: Arc<Postgres>,
    pub(crate) supervisor: Supervisor,
}

impl Scene {
    pub(crate) async fn set() -> Self {
        let (admin, server) = tokio::task::spawn_blocking(|| {
            let server = Postgres::raise();
            server
                .sql(&format!("CREATE ROLE {ENGINE_USER} LOGIN SUPERUSER PASSWORD '{ENGINE_PASSWORD}'"))
                .expect("the engine's user is made");
            let admin = Admin::start().expect("a Vault starts");
            admin.connect(Kind::PostgreSql, server.port()).expect("the engine is connected");
            admin.policy().expect("a policy is written");
            (admin, server)
        })
        .await
        .expect("no panic");
        Self { admin: Arc::new(admin), server: Arc::new(server), supervisor: Supervisor::start() }
    }

    /// Does something as the administrator, off the async threads.
    pub(crate) async fn admin<T: Send + 'static>(&self, work: impl FnOnce(&Admin) -> Result<T, Problem> + Send + 'static) -> T {
        let admin = Arc::clone(&self.admin);
        tokio::task::spawn_blocking(move || work(&admin)).await.expect("no panic").expect("it is done")
    }

    pub(crate) async fn sql(&self, sql: &str) -> String {
        let (server, sql) = (Arc::clone(&self.server), sql.to_owned());
        tokio::task::spawn_blocking(move || server.sql(&sql).expect("the statement runs")).await.expect("no panic")
    }

    /// Users that the engine made and that are still there.
    pub(crate) async fn users(&self) -> Vec<String> {
        self.sql("SELECT rolname FROM pg_roles WHERE rolname LIKE 'v-%'").await.lines().map(str::to_owned).collect()
    }

    pub(crate) fn pools(&self, max: u32) -> PgPools {
        let options = PgPoolOptions::new().max_connections(max).acquire_timeout(Duration::from_secs(5));
        Postgres::factory(self.server.options(None), options)
    }

    pub(crate) async fn pool<P: Provider<Secret = Login>>(&self, provider: P) -> Handle<PgPool> {
        let login = self.supervisor.provide("login", provider).await.expect("there is a lease");
        self.supervisor.pool("orders", &login, self.pools(8)).await.expect("it is proved")
    }
}

/// Waits until another generation is served than this one.
pub(crate) async fn next_generation(db: &Handle<PgPool>, before: u64) -> u64 {
    claviger_stage::eventually_within(Duration::from_secs(40), "another generation is served", || db.generation() > before).await;
    db.generation()
}

/// How many rotations a test takes; `CLAVIGER_VAULT_ROTATIONS` says otherwise.
pub(crate) fn rotations(of: u64) -> u64 {
    std::env::var("CLAVIGER_VAULT_ROTATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(of)
}
