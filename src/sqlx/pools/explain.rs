//! Explains errors of logins and connections: which user, and which server.

use std::io::ErrorKind;
use std::time::Duration;

use super::super::classify;
use super::super::dialect::Dialect;
use super::super::sqlx;
use super::{SqlPools, wrong};
use crate::credentials::{Credentials, Endpoint, shown_host, shown_name};
use crate::error::{ConnectError, ConnectErrorKind};
use crate::sql::forms::Form;

/// Added to the rejection of a token, which the server explains by the user alone.
const TOKEN_ADVICE: &str =
    "a token is rejected, too, if its date is wrong: check this machine's clock";

impl<DB: Dialect> SqlPools<DB> {
    /// Why nothing came of a connect, and where to: the text of the operating system names neither
    /// host nor file.
    pub(super) fn connecting_failed(
        &self,
        credentials: &Credentials,
        error: sqlx::Error,
    ) -> ConnectError {
        let sqlx::Error::Io(io) = &error else {
            return self.explained_login_error(credentials, error);
        };
        let address = DB::address(&self.connect);
        if address.socket && credentials.endpoint().is_none() {
            return login_error::<DB>(error);
        }
        let place = self.place(credentials);
        let connect_error = match io.kind() {
            // Of a socket's address there is no file that could be missing: it is one of those for
            // TLS.
            ErrorKind::NotFound | ErrorKind::PermissionDenied => wrong(
                "ssl_root_cert, ssl_client_cert or ssl_client_key",
                format!(
                    "a file that is named in the connect options cannot be read ({io}); see to its path and its rights"
                ),
            ),
            _ => ConnectError::new(kind::<DB>(&error), format!("{place}: {error}")),
        };
        connect_error.with_source(error)
    }

    /// Returns the error of a login or of what follows it.
    pub(super) fn explained_login_error(
        &self,
        credentials: &Credentials,
        error: sqlx::Error,
    ) -> ConnectError {
        self.explained(credentials, login_error::<DB>(error))
    }

    pub(super) fn explained(&self, credentials: &Credentials, error: ConnectError) -> ConnectError {
        let error = if error.target().is_none() {
            error.with_target(self.target(credentials))
        } else {
            error
        };
        if credentials.is_token() && error.kind() == ConnectErrorKind::Rejected {
            error.with_advice(TOKEN_ADVICE)
        } else {
            error
        }
    }

    /// Returns user, address and database of a login, for error messages.
    pub(super) fn target(&self, credentials: &Credentials) -> String {
        let address = DB::address(&self.connect);
        let database = credentials
            .endpoint()
            .and_then(Endpoint::own_database)
            .or(address.database)
            .unwrap_or_default();
        let place = if address.socket && credentials.endpoint().is_none() {
            "a socket".to_owned()
        } else {
            self.place(credentials)
        };
        let form = match Self::prepared(credentials).map(|_| self.forms.form_for(credentials)) {
            Some(Form::Prepared) => {
                "; the password changes under SASLprep, and was sent in that form"
            }
            Some(Form::Unchanged) => "; the password changes under SASLprep, and was sent as it is",
            None => "",
        };
        format!(
            "user {:?} at {place}, database {:?}{form}",
            shown_name(credentials.user()),
            shown_name(database)
        )
    }

    /// Returns host and port of a login, for error messages.
    pub(super) fn place(&self, credentials: &Credentials) -> String {
        let (host, port) = self.host_and_port(credentials);
        format!("{}:{port}", shown_host(host))
    }

    pub(super) fn host_and_port<'l>(&'l self, credentials: &'l Credentials) -> (&'l str, u16) {
        let address = DB::address(&self.connect);
        match credentials.endpoint() {
            Some(endpoint) => (endpoint.host(), endpoint.own_port().unwrap_or(address.port)),
            None => (address.host, address.port),
        }
    }
}

/// The error when the credentials work and no connection of a pool is ready.
pub(super) fn never_ready(within: Duration) -> ConnectError {
    let within = humantime::format_duration(within);
    ConnectError::new(
        ConnectErrorKind::Other,
        format!(
            "no connection was ready within {within}, though the login works: does the pool's after_connect fail, or is the server full? sqlx logs its error"
        ),
    )
}

/// The error for a user or a password with which the driver cannot log in by SCRAM.
pub(super) fn unfit_for_scram(field: &str) -> ConnectError {
    let problem = "SASLprep prohibits a character of it, and sqlx cannot log in with it by SCRAM; choose another";
    wrong(field, problem)
}

/// Returns what the response to a login means.
pub(super) fn kind<DB: Dialect>(error: &sqlx::Error) -> ConnectErrorKind {
    match error {
        sqlx::Error::Database(error) => DB::error_kind(&**error),
        error => classify::common_kind(error),
    }
}

pub(super) fn login_error<DB: Dialect>(error: sqlx::Error) -> ConnectError {
    if let Some(field) = classify::prohibited(&error) {
        return unfit_for_scram(field);
    }
    classify::connect_error(kind::<DB>(&error), &error).with_source(error)
}
