//! Explains errors of logins and connections: which user, and which server.

use std::io::ErrorKind;
use std::time::Duration;

use super::super::classify::{self, login_error};
use super::super::dialect::Dialect;
use super::super::sqlx;
use super::SqlPools;
use crate::credentials::Credentials;
use crate::error::{ConnectError, ConnectErrorKind};
use crate::pool::{Address, PoolFactory};
use crate::sql::forms::Form;

impl<DB: Dialect> SqlPools<DB> {
    /// Explains a failed connect by its address, because the operating system's text has neither
    /// host nor file.
    pub(super) fn connecting_failed(
        &self,
        credentials: &Credentials,
        error: sqlx::Error,
    ) -> ConnectError {
        let sqlx::Error::Io(io) = &error else {
            return self.explain(credentials, login_error::<DB>(error));
        };
        let address = self.address(credentials);
        if address.is_socket() {
            return login_error::<DB>(error);
        }
        let connect_error = match io.kind() {
            // A TCP connection needs no file but those for TLS.
            ErrorKind::NotFound | ErrorKind::PermissionDenied => ConnectError::misconfigured(
                "ssl_root_cert, ssl_client_cert or ssl_client_key",
                format!(
                    "a file in the connect options cannot be read ({io}); check its path and \
                     permissions"
                ),
            ),
            _ => ConnectError::new(
                classify::kind::<DB>(&error),
                format!("{}: {error}", address.shown()),
            ),
        };
        connect_error.with_source(error)
    }

    /// Returns user, address and database of a login, for error messages.
    pub(super) fn target(&self, credentials: &Credentials) -> String {
        let form = match self.form_and_prepared(credentials) {
            Some((Form::Prepared, _)) => {
                "; the password changes under SASLprep, and was sent prepared"
            }
            Some((Form::Unchanged, _)) => {
                "; the password changes under SASLprep, and was sent unchanged"
            }
            None => "",
        };
        let target = self.address(credentials).target(credentials.user());
        format!("{target}{form}")
    }

    /// Returns the address of a login.
    pub(super) fn address<'l>(&'l self, credentials: &'l Credentials) -> Address<'l> {
        DB::address(&self.connect).for_credentials(credentials)
    }
}

/// Returns the error of a pool that has no connection ready although the credentials work.
pub(super) fn never_ready(within: Duration) -> ConnectError {
    let within = humantime::format_duration(within);
    ConnectError::new(
        ConnectErrorKind::Other,
        format!(
            "no connection was ready within {within}, although the login works; check the pool's \
             after_connect, the server's limit and sqlx's log, or allow more time by \
             with_verify_deadline"
        ),
    )
}
