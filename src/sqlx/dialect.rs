//! Differences between the databases of sqlx.

use std::sync::Arc;

use futures_core::future::BoxFuture;

use super::sqlx::error::DatabaseError;
use super::sqlx::{self, Connection, Database};

use crate::credentials::Credentials;
use crate::error::{ConnectError, ConnectErrorKind};
use crate::sql::check::Address;

/// The connect options of a database.
pub(super) type ConnectOptionsOf<DB> = <<DB as Database>::Connection as Connection>::Options;

/// A database that [`SqlPools`](super::SqlPools) knows. Sealed: PostgreSQL, and MySQL with MariaDB.
pub trait Dialect: Database + Sealed {}

/// The inside of [`Dialect`].
pub trait Sealed: Database {
    /// The port that it listens on by default.
    const DEFAULT_PORT: u16;
    /// Statement that shows whether the role of an open connection still exists.
    const PROBE: &'static str;
    /// Whether [`PROBE`](Self::PROBE) fails once the role was dropped.
    const PROBE_DETECTS_EXPIRY: bool;
    /// Statement that a handle uses instead of the protocol's own ping.
    const PING: Option<&'static str>;
    /// Whether the server counts aborted logins, and blocks a host for them.
    const COUNTS_ABORTED_LOGINS: bool;
    /// Whether the driver still knows which responses are due after a statement was cancelled while
    /// it ran.
    const REUSES_CANCELLED: bool;
    /// TLS mode that a token requires, as the connect options name it.
    const VERIFIED_TLS: &'static str;

    /// Executes a statement that returns no rows, or none of interest.
    fn execute<'c>(
        connection: &'c mut Self::Connection,
        sql: &'c Arc<str>,
    ) -> BoxFuture<'c, Result<(), sqlx::Error>>;
    /// Returns the options to connect with these credentials, with the password in one of its
    /// forms.
    fn options_for(
        options: &ConnectOptionsOf<Self>,
        credentials: &Credentials,
        password: &str,
    ) -> ConnectOptionsOf<Self>;
    /// The other form that a password has for some methods of authentication. Default: none has.
    fn prepared(password: &str) -> Option<String> {
        let _ = password;
        None
    }
    /// Whether the driver panics in a login by this name, by whichever method of authentication
    /// that may be.
    fn may_panic_with(user: &str) -> bool {
        let _ = user;
        false
    }
    /// Returns the address in the options.
    #[expect(private_interfaces, reason = "nobody outside can name this trait")]
    fn address(options: &ConnectOptionsOf<Self>) -> Address<'_>;
    /// Whether the server's certificate is verified.
    fn verifies(options: &ConnectOptionsOf<Self>) -> bool;
    /// Returns the kind of the server's error.
    fn error_kind(error: &dyn DatabaseError) -> ConnectErrorKind;
    /// Reclassifies the error of a verification. Default: returns it unchanged.
    fn verification_error(error: ConnectError) -> ConnectError {
        error
    }
}
