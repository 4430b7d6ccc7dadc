//! PostgreSQL.

use futures_core::future::BoxFuture;
use sqlx::error::DatabaseError;
use sqlx::postgres::{PgConnectOptions, PgDatabaseError, PgSslMode};
use sqlx::{Executor, Postgres};

use super::dialect::{Address, Dialect, Sealed};
use super::{SqlPools, saslprep};
use crate::credentials::Credentials;
use crate::error::{ConnectError, ConnectErrorKind};

/// Makes PostgreSQL pools of [`Credentials`]s: [`SqlPools`] with sqlx's `PgConnectOptions` and
/// `PgPoolOptions`.
///
/// Bearer tokens demand `PgSslMode::VerifyFull`. The probe is `SELECT current_user, session_user`,
/// which fails once the role is dropped, also after `SET ROLE`, where `SELECT 1` does not.
///
/// Passwords that SASLprep (RFC 4013) changes, such as those with a no-break space or decomposed
/// accents, work as in psql. sqlx sends the same form for every method of authentication, but SCRAM
/// needs the prepared one, MD5 and clear text the original. A rejected verification of such a
/// password is therefore repeated with the other form, 0.1 to 0.2 s later at first; the form that
/// works is tried first from then on.
///
/// ```
/// use std::time::Duration;
/// use claviger::PgPools;
/// use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
///
/// let pools = PgPools::new(
///     PgConnectOptions::new().host("db.internal").database("orders"),
///     PgPoolOptions::new()
///         .max_connections(10)
///         .max_lifetime(Duration::from_secs(14 * 60))
///         .idle_timeout(Duration::from_secs(10 * 60)),
/// )
/// .overlap(2);
/// # drop(pools);
/// ```
pub type PgPools = SqlPools<Postgres>;

impl Dialect for Postgres {}

impl SqlPools<Postgres> {
    /// Lets bearer tokens go over connections whose TLS is not verified: for a server on this
    /// machine, never elsewhere. MySQL's pools have no such way, for its clear-text plugin is
    /// switched on over verified TLS alone.
    #[must_use]
    pub fn danger_tokens_without_verified_tls(mut self) -> Self {
        self.tokens_in_clear = true;
        self
    }
}

impl Sealed for Postgres {
    const DEFAULT_PORT: u16 = 5432;
    const PROBE: &'static str = "SELECT current_user, session_user";
    const PROBE_TELLS: bool = true;
    const PING: Option<&'static str> = None;
    const COUNTS_ABORTED_LOGINS: bool = false;
    const VERIFIED_TLS: &'static str = "PgSslMode::VerifyFull and ssl_root_cert";

    fn execute<'c>(
        connection: &'c mut Self::Connection,
        sql: &'c str,
    ) -> BoxFuture<'c, Result<(), sqlx::Error>> {
        Box::pin(async move { connection.execute(sql).await.map(drop) })
    }

    fn options_for(
        options: &PgConnectOptions,
        login: &Credentials,
        password: &str,
    ) -> PgConnectOptions {
        let options = options.clone().username(login.user()).password(password);
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

    fn prepared(password: &str) -> Option<String> {
        saslprep::prepared(password)
    }

    fn may_panic_with(user: &str) -> bool {
        saslprep::is_unfit_user(user)
    }

    #[expect(private_interfaces, reason = "nobody outside can name this trait")]
    fn address(options: &PgConnectOptions) -> Address<'_> {
        Address {
            host: options.get_host(),
            port: options.get_port(),
            database: options.get_database(),
            socket: options.get_socket().is_some(),
        }
    }

    fn verifies(options: &PgConnectOptions) -> bool {
        matches!(options.get_ssl_mode(), PgSslMode::VerifyFull)
    }

    /// Treats a pooler's error without a cause as an unreachable server. No password reaches the
    /// server. Counted as a rejection, it would be verified again as late as a minute after the
    /// server is back.
    fn verification_fault(error: ConnectError) -> ConnectError {
        if !error.message().contains(FAILING_WITHOUT_CAUSE) {
            return error;
        }
        let ambiguous = ConnectError::new(ConnectErrorKind::Unreachable, error.message());
        match error.code() {
            Some(code) => ambiguous.with_code(code),
            None => ambiguous,
        }
    }

    /// The codes are PostgreSQL's, appendix A of its manual.
    fn kind_of(answer: &dyn DatabaseError) -> ConnectErrorKind {
        let routine = answer
            .try_downcast_ref::<PgDatabaseError>()
            .and_then(|error| error.routine());
        match answer.code().as_deref() {
            // No line of pg_hba.conf lets us in, whatever the password.
            Some("28000") if routine == Some("ClientAuthentication") => {
                ConnectErrorKind::Misconfigured
            }
            // Wrong or expired password; PAM rejected, no such role, or it may not log in.
            Some("28P01" | "28000") => ConnectErrorKind::Rejected,
            // No room; the role's own limit is 53300, too.
            Some("53300") => ConnectErrorKind::Overloaded,
            // Starting up, shutting down, terminated.
            Some("57P01" | "57P02" | "57P03") => ConnectErrorKind::Unreachable,
            // No such database; no right to connect to it.
            Some("3D000" | "42501") => ConnectErrorKind::Misconfigured,
            // Protocol violation: poolers report everything with it, so the text decides.
            Some("08P01") => pooler_kind(answer.message()),
            _ => ConnectErrorKind::Other,
        }
    }
}

/// PgBouncer's text for a server that rejects it, and up to version 1.18 for one that is down.
const FAILING: &str = "server login has been failing";
const FAILING_WITHOUT_CAUSE: &str = "server login has been failing, try again later";

/// Classifies an error of PgBouncer, or of a pooler derived from it (as in Cloud SQL). They know no
/// other code than 08P01.
fn pooler_kind(message: &str) -> ConnectErrorKind {
    let says = |texts: &[&str]| texts.iter().any(|text| message.contains(text));
    // Newer versions append the cause ("cached error: connect failed"), so causes are matched
    // first. One may be a rejection.
    if says(&[
        "connect failed",
        "cannot connect to server",
        "DNS lookup failed",
        "query_wait_timeout",
        "pgbouncer is shutting down",
        // PostgreSQL's own, while it starts, stops or recovers.
        "the database system is",
        "server closed",
        "client_login_timeout",
        "terminating connection",
    ]) {
        ConnectErrorKind::Unreachable
    } else if says(&[
        "no more connections allowed",
        "too many clients",
        "too many connections",
        "remaining connection slots",
    ]) {
        ConnectErrorKind::Overloaded
    } else if says(&["no pg_hba.conf entry"])
        || (says(&["no such database", "does not exist"]) && !message.contains("role "))
    {
        ConnectErrorKind::Misconfigured
    } else if says(&[
        "SASL authentication failed",
        "password authentication failed",
        "no such user",
        FAILING,
        "server login failed",
        "auth failed",
    ]) {
        ConnectErrorKind::Rejected
    } else {
        ConnectErrorKind::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_a_pooler_are_classified_by_their_text() {
        for (text, kind) in [
            ("SASL authentication failed", ConnectErrorKind::Rejected),
            (
                "password authentication failed for user \"app\"",
                ConnectErrorKind::Rejected,
            ),
            ("no such user: app", ConnectErrorKind::Rejected),
            ("no such user", ConnectErrorKind::Rejected),
            (
                "server login has been failing, try again later (server_login_retry)",
                ConnectErrorKind::Rejected,
            ),
            (
                "server login has been failing, cached error: password authentication failed for user \"app\" (server_login_retry)",
                ConnectErrorKind::Rejected,
            ),
            (
                "server login has been failing, cached error: role \"app\" does not exist (server_login_retry)",
                ConnectErrorKind::Rejected,
            ),
            (
                "server login has been failing, cached error: connect failed (server_login_retry)",
                ConnectErrorKind::Unreachable,
            ),
            (
                "server login has been failing, cached error: server DNS lookup failed (server_login_retry)",
                ConnectErrorKind::Unreachable,
            ),
            (
                "server login has been failing, cached error: sorry, too many clients already (server_login_retry)",
                ConnectErrorKind::Overloaded,
            ),
            ("query_wait_timeout", ConnectErrorKind::Unreachable),
            (
                "server login has been failing, cached error: FATAL: the database system is starting up (server_login_retry)",
                ConnectErrorKind::Unreachable,
            ),
            (
                "server login failed: FATAL the database system is shutting down",
                ConnectErrorKind::Unreachable,
            ),
            (
                "the database system is in recovery mode",
                ConnectErrorKind::Unreachable,
            ),
            (
                "server login has been failing, cached error: server closed the connection unexpectedly",
                ConnectErrorKind::Unreachable,
            ),
            (
                "client_login_timeout (server down)",
                ConnectErrorKind::Unreachable,
            ),
            (
                "server login has been failing, cached error: FATAL: no pg_hba.conf entry for host \"10.0.0.1\", user \"app\"",
                ConnectErrorKind::Misconfigured,
            ),
            (
                "no more connections allowed (max_client_conn)",
                ConnectErrorKind::Overloaded,
            ),
            ("no such database: orders", ConnectErrorKind::Misconfigured),
            (
                "unsupported startup parameter: extra_float_digits",
                ConnectErrorKind::Other,
            ),
            ("invalid message format", ConnectErrorKind::Other),
        ] {
            assert_eq!(pooler_kind(text), kind, "{text}");
        }
    }
}
