//! The server with its engine on a database, a proxy in front of it, and a supervisor: all that a
//! service needs, and what it must not leave behind.

#![expect(
    clippy::expect_used,
    reason = "scenery of tests: what fails here fails the test"
)]

use std::sync::Arc;
use std::time::Duration;

use claviger::{Credentials, Handle, PoolFactory, Provider, Supervisor, SupervisorBuilder};
use claviger_fixtures::{Server, eventually_within};
use claviger_servers::{MariaDb, Postgres, Proxy};
use serde_json::{Value, json};
use sqlx::pool::PoolOptions;

use crate::{Admin, ENGINE_PASSWORD, ENGINE_USER, Kind, Problem, Revocation};

/// The name of the dynamic role.
pub const ROLE: &str = "orders";

/// A database that the engine makes users in.
pub trait Behind: Server {
    /// How the engine knows it.
    const KIND: Kind;
    /// Where it listens.
    fn port(&self) -> u16;
    /// Makes the user by which the engine makes others.
    fn admit_engine(&self);
    /// The statement that names the users whom the engine made, one a line.
    const MADE_USERS: &'static str;
}

impl Behind for Postgres {
    const KIND: Kind = Kind::PostgreSql;
    const MADE_USERS: &'static str = "SELECT rolname FROM pg_roles WHERE rolname LIKE 'v-%'";

    fn port(&self) -> u16 {
        Self::port(self)
    }

    fn admit_engine(&self) {
        self.run(&format!(
            "CREATE ROLE {ENGINE_USER} LOGIN SUPERUSER PASSWORD '{ENGINE_PASSWORD}'"
        ));
    }
}

impl Behind for MariaDb {
    const KIND: Kind = Kind::MariaDb;
    const MADE_USERS: &'static str = "SELECT User FROM mysql.user WHERE User LIKE 'v-%'";

    fn port(&self) -> u16 {
        Self::port(self)
    }

    fn admit_engine(&self) {
        self.create_role(ENGINE_USER, ENGINE_PASSWORD)
            .expect("the engine's user is made");
        self.run(&format!(
            "GRANT ALL ON *.* TO {ENGINE_USER}@'%' WITH GRANT OPTION"
        ));
    }
}

/// What the settings of a service say to the server: an AppRole's ids.
#[derive(Clone)]
pub struct Identity {
    /// The role's id.
    pub role_id: String,
    /// A secret id of that role.
    pub secret_id: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// A Vault with a database engine on a database, and a service beside them. What fails here fails
/// the test.
#[derive(Debug)]
pub struct VaultFixture<S> {
    /// The server of secrets.
    pub admin: Arc<Admin>,
    /// What is between it and the service.
    pub proxy: Arc<Proxy>,
    /// The database.
    pub server: Arc<S>,
    /// The service's supervisor.
    pub supervisor: Supervisor,
    /// Tokens on the server before the service was there.
    tokens: usize,
}

impl<S: Behind> VaultFixture<S> {
    /// Users live so many seconds at first, and at most.
    pub async fn new(ttl: u64, max_ttl: u64, revocation: Revocation) -> Self {
        Self::with(Supervisor::builder(), ttl, max_ttl, revocation).await
    }

    /// Like [`new`](Self::new), with a supervisor of the caller's.
    pub async fn with(
        builder: SupervisorBuilder,
        ttl: u64,
        max_ttl: u64,
        revocation: Revocation,
    ) -> Self {
        let set = move || {
            let server = S::raise();
            server.admit_engine();
            let admin = Admin::start()?;
            admin.connect(S::KIND, Behind::port(&server))?;
            admin.policy()?;
            admin.role(S::KIND, ROLE, ttl, max_ttl, revocation)?;
            let tokens = admin.tokens()?.len();
            let proxy = Proxy::start(&admin.vault.address())?;
            Ok::<_, Problem>((admin, proxy, server, tokens))
        };
        let (admin, proxy, server, tokens) = tokio::task::spawn_blocking(set)
            .await
            .expect("no panic")
            .expect("the scene is set");
        let supervisor = builder.start().expect("it can be right");
        Self {
            admin: Arc::new(admin),
            proxy: Arc::new(proxy),
            server: Arc::new(server),
            supervisor,
            tokens,
        }
    }

    /// Does something as the administrator, off the async threads.
    pub async fn admin<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Admin) -> Result<T, Problem> + Send + 'static,
    ) -> T {
        let admin = Arc::clone(&self.admin);
        tokio::task::spawn_blocking(move || work(&admin))
            .await
            .expect("no panic")
            .expect("it is done")
    }

    /// An AppRole whose tokens live a minute at first.
    pub async fn identity(&self) -> Identity {
        self.identity_with(json!({ "token_ttl": "60s", "token_max_ttl": "1h" }))
            .await
    }

    /// An AppRole with these settings.
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
        tokio::task::spawn_blocking(move || server.run(&sql))
            .await
            .expect("no panic")
    }

    /// Leases that are alive on the server.
    pub async fn leases(&self) -> Vec<String> {
        self.admin(|admin| admin.leases(ROLE)).await
    }

    /// Users that the engine made and that are still in the database.
    pub async fn users(&self) -> Vec<String> {
        self.sql(S::MADE_USERS)
            .await
            .lines()
            .map(str::to_owned)
            .filter(|user| !user.is_empty())
            .collect()
    }

    /// Registers a provider as `login`, and a pool `orders` of eight sessions on it.
    pub async fn pool<P: Provider<Secret = Credentials>>(&self, provider: P) -> Handle<S::Pools> {
        let login = self
            .supervisor
            .add_provider("login", provider)
            .await
            .expect("there is a lease");
        let options = PoolOptions::new()
            .max_connections(8)
            .acquire_timeout(Duration::from_secs(5));
        self.supervisor
            .add_pool("orders", &login, self.pools(options))
            .await
            .expect("it is verified")
    }

    /// A factory of pools of the database.
    pub fn pools(&self, options: PoolOptions<S::Db>) -> S::Pools {
        S::factory(self.server.options(None), options)
    }

    /// How often the server was asked for something at this path, as `database/creds/orders`.
    pub fn asked(&self, path: &str) -> usize {
        self.proxy.requests(&format!("/v1/{path}"))
    }

    /// Waits until no lease and no user is there but one: the one that serves.
    pub async fn one_is_left(&self) {
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

    /// Ends the service: no lease, no user and no token of its own is left.
    pub async fn end(&self) {
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

/// Waits until another generation is served than this one; answers its number.
pub async fn next_generation<P: PoolFactory>(db: &Handle<P>, before: u64) -> u64 {
    eventually_within(
        Duration::from_secs(60),
        "another generation is served",
        || db.generation() > before,
    )
    .await;
    db.generation()
}
