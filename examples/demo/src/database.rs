//! The database servers that the demo can run on.

#[cfg(feature = "mariadb")]
mod mariadb;
mod postgres;

use std::future::Future;

use claviger::{Credentials, Handle, PoolFactory};

use sqlx::pool::PoolOptions;

use crate::{CONNECTION_LIFE, Problem};

/// A server with the role `app` and its database `orders`, in which there are a thousand orders.
pub(crate) trait Database: Send + Sync + Sized + 'static {
    type Pools: Orders + PoolFactory<Secret = Credentials>;

    /// Its name as its makers write it.
    const NAME: &'static str;
    /// The same as AWS writes it into a secret.
    #[cfg(feature = "secrets-manager")]
    const ENGINE: &'static str;

    fn start(access: Access) -> Result<Self, Problem>;
    #[cfg(feature = "rds-iam")]
    fn host(&self) -> &str;
    fn port(&self) -> u16;
    /// Pools of short-lived connections: logins are needed all the time.
    fn pools(&self) -> Self::Pools;
    /// Another role that may read the orders, with this password.
    #[cfg(feature = "secrets-manager")]
    fn admit(&self, role: &str, password: &str) -> Result<(), Problem>;
    /// The password of a role from now on; open connections go on.
    fn change_password(&self, role: &str, password: &str) -> Result<(), Problem>;

    /// Which one it is to a database engine of Vault's.
    #[cfg(feature = "vault")]
    const KIND: claviger_vault_fixtures::Kind;
    /// The user by which a database engine of Vault's makes others.
    #[cfg(feature = "vault")]
    fn create_engine_user(&self, user: &str, password: &str) -> Result<(), Problem>;
    /// How many users there are that Vault made.
    #[cfg(feature = "vault")]
    fn made_users(&self) -> Result<usize, Problem>;

    /// A pool of short-lived connections that nobody supervises: it has this login for ever.
    #[cfg(feature = "rds-iam")]
    fn plain_pool(&self, login: &Credentials) -> Handle<Self::Pools>;
    /// How the server found the tokens of a role.
    #[cfg(feature = "rds-iam")]
    fn token_checks(&self, role: &str) -> Result<TokenChecks, Problem>;
}

/// How a server found the tokens of a role.
#[cfg(feature = "rds-iam")]
#[derive(Debug, Default)]
pub(crate) struct TokenChecks {
    pub(crate) taken: usize,
    pub(crate) rejected: usize,
    /// The age of the oldest token that was taken.
    pub(crate) oldest: std::time::Duration,
}

#[cfg(feature = "rds-iam")]
impl TokenChecks {
    /// Counts those of one role.
    pub(crate) fn of(checks: &claviger_servers::TokenChecks, role: &str) -> Result<Self, Problem> {
        let mut found = Self::default();
        for check in checks
            .entries()?
            .into_iter()
            .filter(|check| check.user == role)
        {
            if check.accepted {
                found.taken += 1;
                found.oldest = found.oldest.max(check.age);
            } else {
                found.rejected += 1;
            }
        }
        Ok(found)
    }
}

/// How the role `app` is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// By the password `password-0`.
    Password,
    /// By tokens as RDS takes them, over TLS; and a role `plain` likewise.
    #[cfg(feature = "rds-iam")]
    Tokens,
}

/// Connections are closed when they return older than [`CONNECTION_LIFE`].
///
/// Not by `max_lifetime`: sqlx 0.8.6 looks after its idle connections as often as that says, and
/// when it comes upon its count of them while that is below zero, it spins for ever. With a
/// lifetime of minutes that is not seen.
fn short_lived<DB: sqlx::Database>(options: PoolOptions<DB>) -> PoolOptions<DB> {
    let options = options.max_lifetime(None).idle_timeout(None);
    options.after_release(|_, connection| {
        Box::pin(async move { Ok(connection.age < CONNECTION_LIFE) })
    })
}

/// A pool that the service queries through a handle.
pub(crate) trait Orders: PoolFactory + Sized {
    /// How many orders there are.
    fn count(db: &Handle<Self>) -> impl Future<Output = Result<i64, sqlx::Error>> + Send;
}
