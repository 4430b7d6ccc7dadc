//! PostgreSQL.

use sqlx::Postgres;
use sqlx::error::DatabaseError;
use sqlx::postgres::{PgConnectOptions, PgDatabaseError, PgSslMode};

use super::SqlPools;
use super::dialect::{Address, Dialect, Sealed};
use crate::error::FaultKind;
use crate::login::Login;

/// Makes PostgreSQL pools of [`Login`]s: [`SqlPools`] with sqlx's `PgConnectOptions` and `PgPoolOptions`.
///
/// Bearer tokens demand `PgSslMode::VerifyFull`. The probe is `SELECT current_user, session_user`, which fails once the role is dropped, also after `SET ROLE`,
/// where `SELECT 1` does not.
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
    /// Lets bearer tokens go over connections whose TLS is not verified: for a server on this machine, never elsewhere. MySQL's pools have no such way, for
    /// its clear-text plugin is switched on over verified TLS alone.
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
    const COUNTS_BROKEN_OFF: bool = false;
    const VERIFIED_TLS: &'static str = "PgSslMode::VerifyFull and ssl_root_cert";

    fn options_for(options: &PgConnectOptions, login: &Login) -> PgConnectOptions {
        let options = options.clone().username(login.user()).password(login.expose_password());
        match login.location() {
            Some(endpoint) => options.host(endpoint.host()).port(endpoint.port()).database(endpoint.database()),
            None => options,
        }
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

    /// The codes are PostgreSQL's, appendix A of its manual.
    fn kind_of(answer: &dyn DatabaseError) -> FaultKind {
        let routine = answer.try_downcast_ref::<PgDatabaseError>().and_then(|error| error.routine());
        match answer.code().as_deref() {
            // No line of pg_hba.conf lets us in, whatever the password.
            Some("28000") if routine == Some("ClientAuthentication") => FaultKind::Misconfigured,
            // Wrong or expired password; PAM refused, no such role, or it may not log in.
            Some("28P01" | "28000") => FaultKind::Refused,
            // No room; the role's own limit is 53300, too.
            Some("53300") => FaultKind::Overloaded,
            // Starting up, shutting down, terminated.
            Some("57P01" | "57P02" | "57P03") => FaultKind::Unreachable,
            // No such database; no right to connect to it.
            Some("3D000" | "42501") => FaultKind::Misconfigured,
            _ => FaultKind::Other,
        }
    }
}
