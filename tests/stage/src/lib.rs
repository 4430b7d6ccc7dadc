//! The scenery of the tests: a PostgreSQL server of their own, a scripted store whose passwords the server may or may not take, callers that count.

#![expect(clippy::expect_used, clippy::panic, reason = "scenery of tests: what fails here fails the test")]

mod callers;
mod capture;
mod peak;
mod wait;

use std::sync::Arc;
use std::time::Duration;

use claviger::{Handle, PgPools, ProviderRef, Supervisor};
use claviger_servers::Postgres;
use claviger_testkit::{Lab, MovedClock, ScriptedProvider, Traps};
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

pub use callers::{Callers, Tally};
pub use capture::Capture;
pub use peak::Peak;
pub use wait::{eventually, eventually_within};

/// A server with the role `app`, password `password-1`, and its database `orders`; a store that holds the same; a supervisor.
#[derive(Debug)]
pub struct Stage {
    /// The server.
    pub server: Arc<Postgres>,
    /// The store.
    pub store: ScriptedProvider,
    /// The supervisor.
    pub supervisor: Supervisor,
    /// Its wall clock.
    pub clock: MovedClock,
    /// Where its actors crash.
    pub traps: Traps,
}

impl Stage {
    /// With a store whose sessions are drained at each rotation.
    pub async fn new() -> Self {
        Self::with(ScriptedProvider::new()).await
    }

    /// With a store of the caller's.
    pub async fn with(store: ScriptedProvider) -> Self {
        let server = tokio::task::spawn_blocking(|| {
            let server = Postgres::start().expect("a server starts");
            server.create_role("app", "password-1").expect("a role is made");
            server.create_database("orders", "app").expect("a database is made");
            server
                .sql_in("orders", "CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text NOT NULL)")
                .expect("a table is made");
            server.sql_in("orders", "ALTER TABLE orders OWNER TO app").expect("it belongs to the role");
            server
        })
        .await
        .expect("the server's thread ends");
        let Lab { supervisor, clock, traps } = Lab::new();
        Self { server: Arc::new(server), store, supervisor, clock, traps }
    }

    /// Where the database is, without a user or a password.
    pub fn connect_options(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass().host(self.server.host()).port(self.server.port()).database("orders")
    }

    /// Options of a pool of `max` sessions with an acquire time-out of five seconds.
    pub fn pool_options(&self, max: u32) -> PgPoolOptions {
        PgPoolOptions::new().max_connections(max).acquire_timeout(Duration::from_secs(5))
    }

    /// A factory of pools of `max` sessions.
    pub fn pools(&self, max: u32) -> PgPools {
        PgPools::new(self.connect_options(), self.pool_options(max))
    }

    /// Registers the store as `login`.
    pub async fn login(&self) -> ProviderRef<claviger::Login> {
        self.supervisor.provide("login", self.store.clone()).await.expect("the store has a lease")
    }

    /// Registers the store as `login`, and a pool `orders` of `max` sessions on it.
    pub async fn pool(&self, max: u32) -> Handle<PgPool> {
        let login = self.login().await;
        self.supervisor.pool("orders", &login, self.pools(max)).await.expect("the first lease is proved")
    }

    /// A pool that nobody supervises, with this password.
    pub fn plain_pool(&self, password: &str, options: PgPoolOptions) -> PgPool {
        options.connect_lazy_with(self.connect_options().username("app").password(password))
    }

    /// The server takes this password from now on.
    pub async fn set_password(&self, password: &str) {
        let password = password.to_owned();
        self.on_the_server(move |server| server.set_password("app", &password).expect("the password is set")).await;
    }

    /// Ends all sessions of the role; answers how many.
    pub async fn terminate_sessions(&self) -> usize {
        self.on_the_server(|server| server.terminate_sessions("app").expect("sessions are terminated")).await
    }

    /// Runs a statement as superuser.
    pub async fn sql(&self, sql: &str) -> String {
        let sql = sql.to_owned();
        self.on_the_server(move |server| server.sql_in("orders", &sql).expect("the statement runs")).await
    }

    /// Does something on the server, off the async threads.
    pub async fn on_the_server<T: Send + 'static>(&self, work: impl FnOnce(&Postgres) -> T + Send + 'static) -> T {
        let server = Arc::clone(&self.server);
        tokio::task::spawn_blocking(move || work(&server)).await.expect("the server's thread ends")
    }

    /// How many log-ins the server has refused so far.
    pub fn refused_log_ins(&self) -> usize {
        self.server.log().refused_logins_of("app").expect("the log can be read")
    }

    /// How many log-ins the server has accepted so far.
    pub fn accepted_log_ins(&self) -> usize {
        self.server.log().authenticated_logins_of("app").expect("the log can be read")
    }

    /// Announced: the store has the next password first, then the server. Answers the password.
    pub async fn rotate_announced(&self) -> String {
        let password = self.store.rotate();
        self.store.hint();
        self.set_password(&password).await;
        password
    }
}
