//! Differences between the databases of sqlx.

use std::future::Future;
use std::sync::Arc;

use super::sqlx::error::DatabaseError;
use super::sqlx::{self, Connection, Database};
use crate::credentials::Credentials;
use crate::error::{ConnectError, ConnectErrorKind};
use crate::pool::{Address, PoolSettings};

/// The connect options of a database.
pub(super) type ConnectOptionsOf<DB> = <<DB as Database>::Connection as Connection>::Options;

/// A database that [`SqlPools`](super::SqlPools) supports: PostgreSQL, and MySQL with MariaDB. The
/// trait cannot be named outside of the crate, so it has no other implementation.
pub trait Dialect: Database {
    /// Port on which the server listens by default.
    const DEFAULT_PORT: u16;
    /// Statement that shows whether the role of an open connection still exists.
    const PROBE: &'static str;
    /// TLS mode that a token requires, as the connect options name it.
    const VERIFIED_TLS: &'static str;

    /// Changes the settings whose defaults do not suit the database. Default: none.
    fn adapt_settings(settings: &mut PoolSettings) {
        let _ = settings;
    }
    /// Pings the server. Default: by the protocol's own ping.
    fn ping(
        connection: &mut Self::Connection,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send {
        connection.ping()
    }
    /// Executes a statement that returns no rows, or none of interest.
    fn execute(
        connection: &mut Self::Connection,
        sql: &Arc<str>,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
    /// Sets what the method of authentication needs beyond user and password. Default: nothing.
    fn for_authentication(
        options: ConnectOptionsOf<Self>,
        credentials: &Credentials,
    ) -> ConnectOptionsOf<Self> {
        let _ = credentials;
        options
    }
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
    fn address(options: &ConnectOptionsOf<Self>) -> Address<'_>;
    /// Returns whether the server's certificate is verified.
    fn verifies_certificate(options: &ConnectOptionsOf<Self>) -> bool;
    /// Returns the kind of the server's error.
    fn error_kind(error: &dyn DatabaseError) -> ConnectErrorKind;
    /// Reclassifies the error of a verification. Default: returns it unchanged.
    fn verification_error(error: ConnectError) -> ConnectError {
        error
    }
}

/// Defines the methods of a [`Dialect`] that differ only in their types, which have no trait in
/// common.
#[cfg(any(feature = "mysql", feature = "postgres"))]
macro_rules! methods_with_options {
    ($Options:ty) => {
        async fn execute(
            connection: &mut Self::Connection,
            sql: &Arc<str>,
        ) -> Result<(), sqlx::Error> {
            connection.execute(shim::sql(sql)).await.map(drop)
        }

        fn options_for(options: &$Options, credentials: &Credentials, password: &str) -> $Options {
            let mut options = Self::for_authentication(options.clone(), credentials)
                .username(credentials.user())
                .password(password);
            if let Some(endpoint) = credentials.endpoint() {
                let port = endpoint.own_port().unwrap_or(options.get_port());
                options = options.host(endpoint.host()).port(port);
                if let Some(database) = endpoint.own_database() {
                    options = options.database(database);
                }
            }
            options
        }

        fn address(options: &$Options) -> Address<'_> {
            Address::new(options.get_host(), options.get_port())
                .with_database(options.get_database())
                .with_socket(options.get_socket().is_some())
        }
    };
}
#[cfg(any(feature = "mysql", feature = "postgres"))]
pub(super) use methods_with_options;
