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

/// A database that [`SqlPools`](super::SqlPools) supports. Sealed: PostgreSQL, and MySQL with
/// MariaDB.
pub trait Dialect: Database + Sealed {}

/// Private part of [`Dialect`].
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
    /// Whether the driver can use a connection after a running statement on it was cancelled.
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
    /// Returns the other form of a password, for some methods of authentication. Default: `None`.
    fn prepared(password: &str) -> Option<String> {
        let _ = password;
        None
    }
    /// Returns whether the driver may panic in a login as this user. Default: `false`.
    fn may_panic_with(user: &str) -> bool {
        let _ = user;
        false
    }
    /// Returns the address in the options.
    #[expect(private_interfaces, reason = "the trait is not nameable outside")]
    fn address(options: &ConnectOptionsOf<Self>) -> Address<'_>;
    /// Returns whether the server's certificate is verified.
    fn verifies(options: &ConnectOptionsOf<Self>) -> bool;
    /// Returns the kind of the server's error.
    fn error_kind(error: &dyn DatabaseError) -> ConnectErrorKind;
    /// Reclassifies the error of a verification. Default: returns it unchanged.
    fn verification_error(error: ConnectError) -> ConnectError {
        error
    }
}
