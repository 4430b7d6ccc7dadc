//! A server with an engine on a database, a proxy in front of it, and a service. The end checks
//! that nothing of the service is left.

#![expect(clippy::expect_used, reason = "a failing fixture fails the test")]

use std::sync::Arc;
use std::time::Duration;

use claviger::pool::PoolFactory;
use claviger::{Credentials, Handle, Provider, Supervisor, SupervisorBuilder};
use claviger_fixtures::{Callers, HandleOf, Queried, Server, Tally, eventually_within};
use claviger_servers::{MariaDb, Postgres, Proxy};
use serde_json::{Value, json};
use sqlx::pool::PoolOptions;

use crate::{Admin, ENGINE_PASSWORD, ENGINE_USER, Kind, Problem, Revocation};

/// Name of the dynamic role.
pub const ROLE: &str = "orders";

/// A statement that needs the user's privileges.
pub const ORDERS: &str = "SELECT count(*) FROM orders";

/// A database in which the engine creates users.
pub trait EngineDatabase: Server {
    /// The kind of database, which decides the engine's plugin.
    const KIND: Kind;
    /// Returns the port.
    fn port(&self) -> u16;
    /// Creates the user with which the engine creates others.
    fn create_engine_user(&self);
    /// The statement that returns the users created by the engine, one a line.
    const ENGINE_USERS_SQL: &'static str;
}

impl EngineDatabase for Postgres {
    const KIND: Kind = Kind::PostgreSql;
    const ENGINE_USERS_SQL: &'static str = "SELECT rolname FROM pg_roles WHERE rolname LIKE 'v-%'";

    fn port(&self) -> u16 {
        Self::port(self)
    }

    fn create_engine_user(&self) {
        self.run_sql(&format!(
            "CREATE ROLE {ENGINE_USER} LOGIN SUPERUSER PASSWORD '{ENGINE_PASSWORD}'"
        ));
    }
}

impl EngineDatabase for MariaDb {
    const KIND: Kind = Kind::MariaDb;
    const ENGINE_USERS_SQL: &'static str = "SELECT User FROM mysql.user WHERE User LIKE 'v-%'";

    fn port(&self) -> u16 {
        Self::port(self)
    }

    fn create_engine_user(&self) {
        self.create_role(ENGINE_USER, ENGINE_PASSWORD)
            .expect("the engine's user is created");
        self.run_sql(&format!(
            "GRANT ALL ON *.* TO {ENGINE_USER}@'%' WITH GRANT OPTION"
        ));
    }
}

/// The AppRole ids in a service's settings.
#[derive(Clone)]
pub struct Identity {
    /// The role id.
    pub role_id: String,
    /// A secret id of that role.
    pub secret_id: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// A server with a database engine, and a service that uses it. Methods panic on failure.
#[derive(Debug)]
pub struct VaultFixture<S> {
    /// The administrator of the Vault or OpenBao server.
    pub admin: Arc<Admin>,
    /// The proxy between service and server.
    pub proxy: Arc<Proxy>,
    /// The database.
    pub server: Arc<S>,
    /// The service's supervisor.
    pub supervisor: Supervisor,
    /// Number of tokens on the server before the service started.
    tokens: usize,
}

impl<S: EngineDatabase> VaultFixture<S> {
    /// Creates a fixture whose users have these lifetimes, in seconds.
    pub async fn new(ttl: u64, max_ttl: u64, revocation: Revocation) -> Self {
        Self::with(Supervisor::builder(), ttl, max_ttl, revocation).await
    }

    /// Creates a fixture with a supervisor from this builder.
    pub async fn with(
        builder: SupervisorBuilder,
        ttl: u64,
        max_ttl: u64,
        revocation: Revocation,
    ) -> Self {
        let start = move || {
            let server = S::start_with_app();
            server.create_engine_user();
            let admin = Admin::start()?;
            admin.connect(S::KIND, EngineDatabase::port(&server))?;
            admin.policy()?;
            admin.role(S::KIND, ROLE, ttl, max_ttl, revocation)?;
            let tokens = admin.tokens()?.len();
            let proxy = Proxy::start(&admin.vault.address())?;
            Ok::<_, Problem>((admin, proxy, server, tokens))
        };
        let (admin, proxy, server, tokens) = tokio::task::spawn_blocking(start)
            .await
            .expect("no panic")
            .expect("the fixture starts");
        let supervisor = builder.start().expect("the durations are valid");
        Self {
            admin: Arc::new(admin),
            proxy: Arc::new(proxy),
            server: Arc::new(server),
            supervisor,
            tokens,
        }
    }

    /// Runs the administrator's work off the async threads.
    pub async fn admin<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Admin) -> Result<T, Problem> + Send + 'static,
    ) -> T {
        let admin = Arc::clone(&self.admin);
        tokio::task::spawn_blocking(move || work(&admin))
            .await
            .expect("no panic")
            .expect("the administrator's work succeeds")
    }

    /// Creates an AppRole whose tokens have a ttl of one minute.
    pub async fn identity(&self) -> Identity {
        self.identity_with(json!({ "token_ttl": "60s", "token_max_ttl": "1h" }))
            .await
    }

    /// Creates an AppRole with these settings.
    pub async fn identity_with(&self, settings: Value) -> Identity {
        self.admin(move |admin| {
            Ok(Identity {
                role_id: admin.app_role(settings)?,
                secret_id: admin.secret_id()?,
            })
        })
        .await
    }

    /// Runs a statement as the database's superuser.
    pub async fn sql(&self, sql: &str) -> String {
        let (server, sql) = (Arc::clone(&self.server), sql.to_owned());
        tokio::task::spawn_blocking(move || server.run_sql(&sql))
            .await
            .expect("no panic")
    }

    /// Returns the ids of the leases on the server.
    pub async fn leases(&self) -> Vec<String> {
        self.admin(|admin| admin.leases(ROLE)).await
    }

    /// Returns the engine's users in the database.
    pub async fn users(&self) -> Vec<String> {
        self.sql(S::ENGINE_USERS_SQL)
            .await
            .lines()
            .map(str::to_owned)
            .filter(|user| !user.is_empty())
            .collect()
    }

    /// Registers a provider as `login`, and a pool `orders` of eight connections on it.
    pub async fn pool<P: Provider<Secret = Credentials>>(&self, provider: P) -> HandleOf<S> {
        let credentials = self
            .supervisor
            .add_provider("login", provider)
            .await
            .expect("the provider returns a lease");
        let options = PoolOptions::new()
            .max_connections(8)
            .acquire_timeout(Duration::from_secs(5));
        self.supervisor
            .add_pool("orders", &credentials, self.pools(options))
            .await
            .expect("the lease is verified")
    }

    /// Rotates `login` manually and waits for a generation after `before`. Returns its number.
    pub async fn rotate<P: PoolFactory>(&self, db: &Handle<P>, before: u64) -> u64 {
        self.supervisor
            .rotate_now("login")
            .await
            .expect("a new user is created");
        next_generation(db, before).await
    }

    /// Returns a pool factory of the database.
    pub fn pools(&self, options: PoolOptions<S::Db>) -> S::Pools {
        S::factory(self.server.options(None), options)
    }

    /// Returns how many requests the server received at a path, such as `database/creds/orders`.
    pub fn requests_to(&self, path: &str) -> usize {
        self.proxy.requests(&format!("/v1/{path}"))
    }

    /// Revokes the first lease of the dynamic role.
    pub async fn revoke_first_lease(&self) {
        let leases = self.leases().await;
        self.admin(move |admin| admin.revoke_lease(&leases[0]))
            .await;
    }

    /// Waits until one lease and one user are left: those of the current generation.
    pub async fn wait_for_one_lease(&self) {
        let waited = tokio::time::timeout(Duration::from_secs(40), async {
            while (self.leases().await.len(), self.users().await.len()) != (1, 1) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        if waited.await.is_err() {
            assert_eq!(
                (self.leases().await.len(), self.users().await.len()),
                (1, 1),
                "leases and users that are left"
            );
        }
    }

    /// Shuts the service down and checks that none of its leases, users or tokens is left.
    pub async fn shutdown_and_check(&self) {
        let report = self.supervisor.shutdown(Duration::from_secs(10)).await;
        assert!(report.clean, "{report:?}");
        assert_eq!(
            (self.leases().await, self.users().await),
            (Vec::new(), Vec::new()),
            "leases and users that are left"
        );
        assert_eq!(
            self.admin(Admin::tokens).await.len(),
            self.tokens,
            "tokens that are left"
        );
    }
}

/// Waits until a generation after `before` is current, and returns its number.
pub async fn next_generation<P: PoolFactory>(db: &Handle<P>, before: u64) -> u64 {
    eventually_within(
        Duration::from_secs(60),
        "a later generation is current",
        || db.generation() > before,
    )
    .await;
    db.generation()
}

/// Starts eight callers that run [`ORDERS`], with pauses that leave CPU time to others.
pub fn start_callers<P: Queried>(db: &Handle<P>) -> Callers {
    Callers::start_with_pause(db, 8, ORDERS, Duration::from_millis(10))
}

/// Checks that all failed queries failed because the lease had expired.
pub fn assert_only_expired_leases_failed(tally: &Tally) {
    let other = tally
        .failed
        .iter()
        .find(|error| !error.contains("expired at"));
    assert!(other.is_none(), "{other:?}");
}
