//! The settings with which the driver of a pool logs in, for tools that log in as the pool does.

#[cfg(any(
    feature = "bb8",
    feature = "deadpool-postgres",
    feature = "diesel-async"
))]
use claviger_tokio_postgres::PgConnect;
#[cfg(feature = "mysql")]
use sqlx::mysql::MySqlConnectOptions;
#[cfg(feature = "postgres")]
use sqlx::postgres::PgConnectOptions;

use crate::connection::Connection;
use crate::schema::PoolKind;

impl Connection {
    /// Returns whether the driver of the pool is tokio-postgres: for `deadpool-postgres`,
    /// `diesel-postgres` and `bb8-postgres`. It verifies every server with TLS, also with
    /// [`TlsMode::Prefer`](crate::TlsMode::Prefer).
    pub fn uses_tokio_postgres(&self) -> bool {
        matches!(
            self.pool.kind,
            PoolKind::DeadpoolPostgres | PoolKind::DieselPostgres | PoolKind::Bb8Postgres
        )
    }

    /// Returns the options of the pool's logins by sqlx, without user and password.
    ///
    /// # Errors
    /// A parameter of the URL has an invalid value.
    #[cfg(feature = "postgres")]
    pub fn postgres_options(&self) -> Result<PgConnectOptions, crate::error::Problem> {
        crate::kinds::sqlx::postgres_options(&self.pool)
    }

    /// Returns the options of the pool's logins by sqlx, without user and password.
    ///
    /// # Errors
    /// A parameter of the URL has an invalid value.
    #[cfg(feature = "mysql")]
    pub fn mysql_options(&self) -> Result<MySqlConnectOptions, crate::error::Problem> {
        crate::kinds::sqlx::mysql_options(&self.pool)
    }

    /// Returns the connector of the pool's logins by tokio-postgres.
    ///
    /// # Errors
    /// A parameter of the URL has an invalid value, or `ca_file` cannot be read.
    #[cfg(any(
        feature = "bb8",
        feature = "deadpool-postgres",
        feature = "diesel-async"
    ))]
    pub fn tokio_postgres_connect(&self) -> Result<PgConnect, crate::error::Problem> {
        crate::kinds::tokio_postgres::connect(&self.pool)
    }
}
