//! Database servers of the demo.

#[cfg(feature = "mariadb")]
mod mariadb;
mod postgres;

use std::future::Future;

use claviger::pool::PoolFactory;
use claviger::{Credentials, Handle};

use sqlx::pool::PoolOptions;

use crate::{CONNECTION_LIFETIME, Problem};

/// A server with the role `app` and its database `orders`, which has a table of a thousand orders.
pub(crate) trait Database: Send + Sync + Sized + 'static {
    type Pools: Orders + PoolFactory<Secret = Credentials>;

    /// The project's name.
    const NAME: &'static str;
    /// The engine's name in AWS's secrets.
    #[cfg(feature = "secrets-manager")]
    const ENGINE: &'static str;

    fn start(access: Access) -> Result<Self, Problem>;
    #[cfg(feature = "rds-iam")]
    fn host(&self) -> &str;
    fn port(&self) -> u16;
    /// Returns pools whose connections have a short lifetime, so that logins are frequent.
    fn pools(&self) -> Self::Pools;
    /// Creates another role with this password that may read the orders.
    #[cfg(feature = "secrets-manager")]
    fn create_reader(&self, role: &str, password: &str) -> Result<(), Problem>;
    /// Sets a role's password; open connections continue.
    fn change_password(&self, role: &str, password: &str) -> Result<(), Problem>;

    /// The plugin of Vault's database engine.
    #[cfg(feature = "vault")]
    const KIND: claviger_vault_fixtures::Kind;
    /// Creates the user with which Vault's database engine creates users.
    #[cfg(feature = "vault")]
    fn create_engine_user(&self, user: &str, password: &str) -> Result<(), Problem>;
    /// Returns the number of users that Vault has created.
    #[cfg(feature = "vault")]
    fn created_users(&self) -> Result<usize, Problem>;

    /// Returns such a pool without a supervisor. It keeps its credentials.
    #[cfg(feature = "rds-iam")]
    fn plain_pool(&self, credentials: &Credentials) -> Handle<Self::Pools>;
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
    pub(crate) oldest: std::time::Duration,
}

#[cfg(feature = "rds-iam")]
impl TokenChecks {
    /// Counts the checks of one role.
    pub(crate) fn count(
        checks: &claviger_servers::TokenChecks,
        role: &str,
    ) -> Result<Self, Problem> {
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

/// Authentication of the role `app`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// With the password `password-0`.
    Password,
    /// With tokens as on RDS, over TLS. There is a second such role, `plain`.
    #[cfg(feature = "rds-iam")]
    Tokens,
}

/// Closes returned connections whose age is over [`CONNECTION_LIFETIME`].
///
/// `max_lifetime` is not used. With it, sqlx 0.8.6 checks idle connections at that interval, and
/// never ends if it reads a negative idle count. With a lifetime of minutes that does not occur.
fn with_short_lifetime<DB: sqlx::Database>(options: PoolOptions<DB>) -> PoolOptions<DB> {
    let options = options.max_lifetime(None).idle_timeout(None);
    options.after_release(|_, connection| {
        Box::pin(async move { Ok(connection.age < CONNECTION_LIFETIME) })
    })
}

/// A pool that the service queries through a handle.
pub(crate) trait Orders: PoolFactory + Sized {
    /// Returns the number of orders.
    fn count(db: &Handle<Self>) -> impl Future<Output = Result<i64, sqlx::Error>> + Send;
}
