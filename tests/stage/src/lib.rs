//! The scenery of the tests: a database server of their own, a scripted store whose passwords the server may or may not take, callers that count.

#![expect(clippy::expect_used, clippy::panic, reason = "scenery of tests: what fails here fails the test")]

mod beside;
mod callers;
mod capture;
mod figures;
mod lives;
mod log_alone;
mod own_work;
mod peak;
mod server;
mod wait;

use std::sync::Arc;
use std::time::Duration;

use claviger::{Handle, ProviderRef, Supervisor};
use claviger_servers::Postgres;
use claviger_testkit::{Failpoints, Lab, MovedClock, ScriptedProvider};
use sqlx::pool::PoolOptions;

pub use callers::{Callers, Tally};
pub use capture::Capture;
pub use figures::{Figures, median, ms, quantile};
pub use lives::short_lived;
pub use log::Level;
pub use log_alone::{LogAlone, LogLine};
pub use own_work::own_work;
pub use peak::Peak;
pub use server::{OptionsOf, PoolOf, Queried, Server};
pub use wait::{eventually, eventually_within};

/// A server with the role `app`, password `password-1`, and its database `orders`; a store that holds the same; a supervisor.
#[derive(Debug)]
pub struct StageOn<S> {
    /// The server.
    pub server: Arc<S>,
    /// The store.
    pub store: ScriptedProvider,
    /// The supervisor.
    pub supervisor: Supervisor,
    /// Its wall clock.
    pub clock: MovedClock,
    /// Where its actors crash.
    pub traps: Failpoints,
}

/// A stage on PostgreSQL.
pub type Stage = StageOn<Postgres>;

impl<S: Server> StageOn<S> {
    /// The SQLSTATE with which the server rejects a wrong password.
    pub const REJECTED: &'static str = S::REJECTED;
    /// Its words for that.
    pub const REJECTION: &'static str = S::REJECTION;

    /// With a store whose connections are drained at each rotation.
    pub async fn new() -> Self {
        Self::with(ScriptedProvider::new()).await
    }

    /// With a store of the caller's.
    pub async fn with(store: ScriptedProvider) -> Self {
        let server = tokio::task::spawn_blocking(S::raise).await.expect("the server's thread ends");
        let Lab { supervisor, clock, traps } = Lab::new();
        Self { server: Arc::new(server), store, supervisor, clock, traps }
    }

    /// Where the database is, without a user or a password.
    pub fn connect_options(&self) -> OptionsOf<S> {
        self.server.options(None)
    }

    /// Options of a pool of `max` connections with an acquire time-out of five seconds.
    pub fn pool_options(&self, max: u32) -> PoolOptions<S::Db> {
        PoolOptions::new().max_connections(max).acquire_timeout(Duration::from_secs(5))
    }

    /// A factory of pools with these options.
    pub fn pools_with(&self, options: PoolOptions<S::Db>) -> S::Pools {
        S::factory(self.connect_options(), options)
    }

    /// A factory of pools of `max` connections.
    pub fn pools(&self, max: u32) -> S::Pools {
        self.pools_with(self.pool_options(max))
    }

    /// Registers the store as `login`.
    pub async fn login(&self) -> ProviderRef<claviger::Credentials> {
        self.supervisor.add_provider("login", self.store.clone()).await.expect("the store has a lease")
    }

    /// Registers the store as `login`, and a pool `orders` of `max` connections on it.
    pub async fn pool(&self, max: u32) -> Handle<PoolOf<S>> {
        let login = self.login().await;
        self.supervisor.add_pool("orders", &login, self.pools(max)).await.expect("the first lease is verified")
    }

    /// A pool that nobody supervises, with this password.
    pub fn plain_pool(&self, password: &str, options: PoolOptions<S::Db>) -> PoolOf<S> {
        options.connect_lazy_with(self.server.options(Some(("app", password))))
    }

    /// The server takes this password from now on.
    pub async fn set_password(&self, password: &str) {
        let password = password.to_owned();
        self.on_the_server(move |server| server.change_password(&password)).await;
    }

    /// Ends all connections of the role; answers how many.
    pub async fn terminate_connections(&self) -> usize {
        self.on_the_server(S::cut_connections).await
    }

    /// Runs a statement as superuser.
    pub async fn sql(&self, sql: &str) -> String {
        let sql = sql.to_owned();
        self.on_the_server(move |server| server.run(&sql)).await
    }

    /// Does something on the server, off the async threads.
    pub async fn on_the_server<T: Send + 'static>(&self, work: impl FnOnce(&S) -> T + Send + 'static) -> T {
        let server = Arc::clone(&self.server);
        tokio::task::spawn_blocking(move || work(&server)).await.expect("the server's thread ends")
    }

    /// How many logins the server has rejected so far.
    pub fn rejected_logins(&self) -> usize {
        self.server.rejected()
    }

    /// How many logins the server has accepted so far.
    pub fn accepted_logins(&self) -> usize {
        self.server.accepted()
    }

    /// Announced: the store has the next password first, then the server. Answers the password.
    pub async fn rotate_announced(&self) -> String {
        let password = self.store.rotate();
        self.store.hint();
        self.set_password(&password).await;
        password
    }
}
