//! MySQL and MariaDB.

use futures_core::future::BoxFuture;
use sqlx::error::DatabaseError;
use sqlx::mysql::{MySqlConnectOptions, MySqlDatabaseError, MySqlSslMode};
use sqlx::{Executor, MySql};

use super::SqlPools;
use super::dialect::{Address, Dialect, Sealed};
use crate::credentials::Credentials;
use crate::error::ConnectErrorKind;

/// Makes MySQL and MariaDB pools of [`Credentials`]s: [`SqlPools`] with sqlx's
/// `MySqlConnectOptions` and `MySqlPoolOptions`.
///
/// - Bearer tokens are sent by the plugin `mysql_clear_password`. It is switched on for them, and
///   for nothing else; it demands `MySqlSslMode::VerifyIdentity`, or `VerifyCa`, which trusts every
///   server of that authority. `enable_cleartext_plugin` in the connect options counts only where
///   TLS is verified.
/// - An account whose password has expired may log in and is then rejected every statement (1820):
///   a handle pings with the statement `DO 0`, which costs what the protocol's own ping costs, and
///   takes that answer for the rejection that it is.
/// - After `DROP USER` open connections go on answering whatever they are asked about their user:
///   no probe finds them. They are retired with their generation, and none is handed out after the
///   death of a lease that ends its connections, where PostgreSQL's are shared while their role
///   exists.
/// - Where the server is full (1040, 1203, 1226), sqlx returns at once; a handle waits for room
///   until the call's deadline, as it does with PostgreSQL.
///
/// ```
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
/// ```
pub type MySqlPools = SqlPools<MySql>;

impl Dialect for MySql {}

impl Sealed for MySql {
    const DEFAULT_PORT: u16 = 3306;
    const PROBE: &'static str = "SELECT CURRENT_USER()";
    const PROBE_TELLS: bool = false;
    const PING: Option<&'static str> = Some("DO 0");
    const COUNTS_ABORTED_LOGINS: bool = true;
    const VERIFIED_TLS: &'static str = "MySqlSslMode::VerifyIdentity and ssl_ca";

    fn execute<'c>(
        connection: &'c mut Self::Connection,
        sql: &'c str,
    ) -> BoxFuture<'c, Result<(), sqlx::Error>> {
        Box::pin(async move { connection.execute(sql).await.map(drop) })
    }

    fn options_for(
        options: &MySqlConnectOptions,
        login: &Credentials,
        password: &str,
    ) -> MySqlConnectOptions {
        let verified = Self::verifies(options);
        let mut options = options.clone().username(login.user()).password(password);
        if login.is_token() || !verified {
            options = options.enable_cleartext_plugin(verified);
        }
        match login.location() {
            Some(endpoint) => {
                let options = options.host(endpoint.host());
                let options = match endpoint.own_port() {
                    Some(port) => options.port(port),
                    None => options,
                };
                match endpoint.own_database() {
                    Some(database) => options.database(database),
                    None => options,
                }
            }
            None => options,
        }
    }

    #[expect(private_interfaces, reason = "nobody outside can name this trait")]
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

    /// The numbers are those of the server error references of MySQL 8.4 and MariaDB 10.11.
    fn kind_of(answer: &dyn DatabaseError) -> ConnectErrorKind {
        let Some(error) = answer.try_downcast_ref::<MySqlDatabaseError>() else {
            return ConnectErrorKind::Other;
        };
        match error.number() {
            // Wrong password, token or user; without a password (also: not allowed by way of this
            // plugin, such as a socket's).
            1045 | 1698 => ConnectErrorKind::Rejected,
            // Locked; blocked after failed logins. Each in MySQL and in MariaDB.
            3118 | 4151 | 3955 | 4150 => ConnectErrorKind::Rejected,
            // An expired password: at the login, or at the first statement after it.
            1862 | 1820 => ConnectErrorKind::Rejected,
            // No room: for anybody, for this user, for this user within the hour.
            1040 | 1203 | 1226 => ConnectErrorKind::Overloaded,
            // The host is blocked after too many aborted logins, until FLUSH HOSTS.
            1129 => ConnectErrorKind::Misconfigured,
            // Shutting down, killed, given up by the server.
            1053 | 1152 | 1159 | 1161 | 1927 => ConnectErrorKind::Unreachable,
            // No right on the database, no such database, not from this host, a plugin or TLS that
            // one side lacks.
            1044 | 1049 | 1130 | 1251 | 1524 | 3159 => ConnectErrorKind::Misconfigured,
            _ => ConnectErrorKind::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Endpoint;

    #[test]
    fn a_port_that_the_endpoint_leaves_out_is_the_pools() {
        let login = |endpoint| Credentials::new("app", "p").endpoint(endpoint);
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
                MySql::options_for(&options, &login(endpoint), "s3cret").get_port(),
                port
            );
        }
    }
}
