//! Pools of sqlx, and operations on their databases for the other backends of credentials.

#[cfg(feature = "mariadb")]
mod mariadb;
mod postgres;

use std::future::Future;
use std::marker::PhantomData;
use std::time::Duration;

use claviger::pool::PoolFactory;
use claviger::{Credentials, Handle};
use sqlx::pool::PoolOptions;

use super::{CallFailure, Kind};
use crate::server::Server;
use crate::{ACQUIRE_TIMEOUT, CONNECTIONS, Problem};

/// sqlx's pools of a database.
pub(crate) struct Sqlx<D>(PhantomData<D>);

impl<D: Database> Kind for Sqlx<D> {
    type Server = D;
    type Pools = D::Pools;
    type Plain = D::Plain;

    const NAME: &'static str = "sqlx";

    fn pools(server: &D) -> Result<D::Pools, Problem> {
        Ok(server.pools(None))
    }

    fn plain_pool(server: &D, credentials: &Credentials) -> Result<D::Plain, Problem> {
        Ok(server.plain_pool(credentials, None))
    }

    async fn call(db: &Handle<D::Pools>) -> Result<(), CallFailure> {
        D::count(db).await.map(drop).map_err(failure)
    }

    async fn call_plain(pool: &D::Plain) -> Result<(), CallFailure> {
        D::count_plain(pool).await.map(drop).map_err(failure)
    }
}

/// A server with the database `orders`, which has a table of a thousand orders.
pub(crate) trait Database: Server {
    type Pools: PoolFactory<Secret = Credentials>;
    type Plain: Clone + Send + Sync + 'static;

    /// The engine's name in AWS's secrets.
    #[cfg(feature = "secrets-manager")]
    const ENGINE: &'static str;

    /// Starts the server with users that authenticate with tokens as on RDS, over TLS.
    #[cfg(feature = "rds-iam")]
    fn start_with_tokens() -> Result<Self, Problem>;
    #[cfg(feature = "rds-iam")]
    fn host(&self) -> &str;
    /// Returns pools whose connections are closed at this age.
    fn pools(&self, lifetime: Option<Duration>) -> Self::Pools;
    /// Returns a plain pool whose connections are closed at this age.
    fn plain_pool(&self, credentials: &Credentials, lifetime: Option<Duration>) -> Self::Plain;
    fn count(db: &Handle<Self::Pools>) -> impl Future<Output = Result<i64, sqlx::Error>> + Send;
    fn count_plain(pool: &Self::Plain) -> impl Future<Output = Result<i64, sqlx::Error>> + Send;
    /// Creates another role with this password that may read the orders.
    #[cfg(feature = "secrets-manager")]
    fn create_reader(&self, role: &str, password: &str) -> Result<(), Problem>;

    /// The plugin of Vault's database engine.
    #[cfg(feature = "vault")]
    const KIND: claviger_vault_fixtures::Kind;
    /// Creates the user with which Vault's database engine creates users.
    #[cfg(feature = "vault")]
    fn create_engine_user(&self, user: &str, password: &str) -> Result<(), Problem>;
    /// Returns the number of users that Vault has created.
    #[cfg(feature = "vault")]
    fn created_users(&self) -> Result<usize, Problem>;

    /// Returns the server's checks of a role's tokens.
    #[cfg(feature = "rds-iam")]
    fn token_checks(&self, role: &str) -> Result<TokenChecks, Problem>;
}

/// The server's checks of a role's tokens.
#[cfg(feature = "rds-iam")]
#[derive(Debug, Default)]
pub(crate) struct TokenChecks {
    pub(crate) accepted: usize,
    pub(crate) rejected: usize,
    /// Age of the oldest accepted token.
    pub(crate) oldest: Duration,
}

#[cfg(feature = "rds-iam")]
impl TokenChecks {
    /// Counts the checks of one role.
    fn count(checks: &claviger_servers::TokenChecks, role: &str) -> Result<Self, Problem> {
        let mut found = Self::default();
        for check in checks
            .entries()?
            .into_iter()
            .filter(|check| check.user == role)
        {
            if check.accepted {
                found.accepted += 1;
                found.oldest = found.oldest.max(check.age);
            } else {
                found.rejected += 1;
            }
        }
        Ok(found)
    }
}

/// Returns the options of a pool. Returned connections are closed if they are older than
/// `lifetime`.
///
/// `max_lifetime` is not used. With it, sqlx 0.8.6 checks idle connections at that interval. The
/// check never ends if it reads a negative idle count. With a lifetime of minutes that does not
/// occur.
fn pool_options<DB: sqlx::Database>(lifetime: Option<Duration>) -> PoolOptions<DB> {
    let options = PoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(ACQUIRE_TIMEOUT);
    let Some(lifetime) = lifetime else {
        return options;
    };
    let options = options.max_lifetime(None).idle_timeout(None);
    options
        .after_release(move |_, connection| Box::pin(async move { Ok(connection.age < lifetime) }))
}

fn failure(error: sqlx::Error) -> CallFailure {
    let lost_connection = match &error {
        sqlx::Error::Io(_) => true,
        sqlx::Error::Database(error) => error.code().as_deref() == Some("57P01"),
        _ => false,
    };
    let message = match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        error => error.to_string(),
    };
    CallFailure {
        lost_connection,
        message,
    }
}
