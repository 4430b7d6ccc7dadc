//! MySQL and MariaDB.

use std::sync::Arc;

use futures_core::future::BoxFuture;

use super::shim;
use super::sqlx::error::DatabaseError;
use super::sqlx::mysql::{MySqlConnectOptions, MySqlDatabaseError, MySqlSslMode};
use super::sqlx::{self, Executor, MySql};

use super::SqlPools;
use super::dialect::{Dialect, Sealed};
use crate::credentials::Credentials;
use crate::error::ConnectErrorKind;
use crate::sql::check::Address;
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

impl Dialect for MySql {}

impl Sealed for MySql {
    const DEFAULT_PORT: u16 = 3306;
    const PROBE: &'static str = "SELECT CURRENT_USER()";
    const PROBE_DETECTS_EXPIRY: bool = false;
    const PING: Option<&'static str> = Some("DO 0");
    const COUNTS_ABORTED_LOGINS: bool = true;
    // sqlx 0.8.6 and 0.9.0 lose count of the responses to a cancelled `prepare` or ping: the next
    // statement reads them as its own.
    const REUSES_CANCELLED: bool = false;
    const VERIFIED_TLS: &'static str = "MySqlSslMode::VerifyIdentity and ssl_ca";

    fn execute<'c>(
        connection: &'c mut Self::Connection,
        sql: &'c Arc<str>,
    ) -> BoxFuture<'c, Result<(), sqlx::Error>> {
        Box::pin(async move { connection.execute(shim::sql(sql)).await.map(drop) })
    }

    fn options_for(
        options: &MySqlConnectOptions,
        credentials: &Credentials,
        password: &str,
    ) -> MySqlConnectOptions {
        let verified = Self::verifies(options);
        let mut options = options
            .clone()
            .username(credentials.user())
            .password(password);
        if credentials.is_token() || !verified {
            options = options.enable_cleartext_plugin(verified);
        }
        if let Some(endpoint) = credentials.endpoint() {
            let port = endpoint.own_port().unwrap_or(options.get_port());
            options = options.host(endpoint.host()).port(port);
            if let Some(database) = endpoint.own_database() {
                options = options.database(database);
            }
        }
        options
    }

    #[expect(private_interfaces, reason = "the trait is not nameable outside")]
    fn address(options: &MySqlConnectOptions) -> Address<'_> {
        Address {
            host: options.get_host(),
            port: options.get_port(),
            database: options.get_database(),
            socket: options.get_socket().is_some(),
        }
    }

    fn verifies(options: &MySqlConnectOptions) -> bool {
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
