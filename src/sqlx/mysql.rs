//! MySQL and MariaDB.

use std::sync::Arc;

use super::shim;
use super::sqlx::error::DatabaseError;
use super::sqlx::mysql::{MySqlConnectOptions, MySqlDatabaseError, MySqlSslMode};
use super::sqlx::{self, Executor, MySql};

use super::SqlPools;
use super::dialect::{Dialect, methods_with_options};
use crate::credentials::Credentials;
use crate::error::ConnectErrorKind;
use crate::pool::{Address, PoolSettings};
use crate::sql::mysql;

/// Makes MySQL and MariaDB pools from [`Credentials`]: [`SqlPools`] with sqlx's
/// `MySqlConnectOptions` and `MySqlPoolOptions`.
///
/// - Bearer tokens are sent by the plugin `mysql_clear_password`. It is enabled for them, and
///   requires `MySqlSslMode::VerifyIdentity`, or `VerifyCa`, which accepts every server of that
///   authority. `enable_cleartext_plugin` in the connect options has an effect only with verified
///   TLS.
/// - An account with an expired password can log in, but its statements fail with 1820. A handle
///   pings with the statement `DO 0`, at the cost of the protocol's own ping, and treats this error
///   as a rejection.
/// - After `DROP USER`, open connections continue to work, and no probe detects it. They close with
///   their generation. After a lease that ends its connections has expired, none of them is handed
///   out. PostgreSQL's are shared as long as their role exists.
/// - If the server is full (1040, 1203, 1226), sqlx returns an error at once. A handle waits until
///   the call's deadline, as with PostgreSQL.
///
/// ```
/// # #[cfg(feature = "sqlx-09")] {
/// use claviger::MySqlPools;
/// use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions, MySqlSslMode};
///
/// let pools = MySqlPools::new(
///     MySqlConnectOptions::new()
///         .host("db.internal")
///         .database("orders")
///         .ssl_mode(MySqlSslMode::VerifyIdentity)
///         .ssl_ca("/etc/ssl/db-ca.pem"),
///     MySqlPoolOptions::new().max_connections(10),
/// );
/// # drop(pools);
/// # }
/// ```
pub type MySqlPools = SqlPools<MySql>;

impl Dialect for MySql {
    const DEFAULT_PORT: u16 = 3306;
    const PROBE: &'static str = "SELECT CURRENT_USER()";
    const VERIFIED_TLS: &'static str = "MySqlSslMode::VerifyIdentity and ssl_ca";

    methods_with_options!(MySqlConnectOptions);

    fn adapt_settings(settings: &mut PoolSettings) {
        settings.probe_detects_expiry = false;
        // The server counts aborted logins, and blocks a host for them.
        settings.finishes_logins = true;
        // sqlx 0.8.6 and 0.9.0 lose count of the responses to a cancelled `prepare` or ping: the
        // next statement reads them as its own.
        settings.reuses_cancelled = false;
    }

    /// Executes a statement, because an expired password rejects statements and no ping.
    async fn ping(connection: &mut Self::Connection) -> Result<(), sqlx::Error> {
        connection.execute("DO 0").await.map(drop)
    }

    fn for_authentication(
        options: MySqlConnectOptions,
        credentials: &Credentials,
    ) -> MySqlConnectOptions {
        let verified = Self::verifies_certificate(&options);
        if credentials.is_token() || !verified {
            options.enable_cleartext_plugin(verified)
        } else {
            options
        }
    }

    fn verifies_certificate(options: &MySqlConnectOptions) -> bool {
        matches!(
            options.get_ssl_mode(),
            MySqlSslMode::VerifyCa | MySqlSslMode::VerifyIdentity
        )
    }

    fn error_kind(error: &dyn DatabaseError) -> ConnectErrorKind {
        error
            .try_downcast_ref::<MySqlDatabaseError>()
            .map_or(ConnectErrorKind::Other, |error| {
                mysql::error_kind(error.number())
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Endpoint;

    #[test]
    fn a_port_that_the_endpoint_leaves_out_is_the_pools() {
        let credentials = |endpoint| Credentials::new("app", "p").with_endpoint(endpoint);
        for (options, endpoint, port) in [
            (MySqlConnectOptions::new(), Endpoint::of_host("db"), 3_306),
            (
                MySqlConnectOptions::new().port(3_307),
                Endpoint::of_host("db"),
                3_307,
            ),
            (
                MySqlConnectOptions::new().port(3_307),
                Endpoint::server("db", 3_308),
                3_308,
            ),
        ] {
            assert_eq!(
                MySql::options_for(&options, &credentials(endpoint), "s3cret").get_port(),
                port
            );
        }
    }
}
