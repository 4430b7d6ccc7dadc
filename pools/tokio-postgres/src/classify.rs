//! Kinds of tokio-postgres's errors.

use std::error::Error as StdError;
use std::io;
use std::iter::successors;

use claviger::error::{ConnectError, ConnectErrorKind};
use tokio_postgres::Error;

use crate::call_error::CallError;

/// Returns the kind of an error, with the server's own message and SQLSTATE. Finds the driver's
/// error among the sources of any error, such as that of a pool.
pub fn classify(error: &(dyn StdError + 'static)) -> ConnectError {
    if let Some(error) = known_connect_error(error) {
        return error.clone();
    }
    match find_postgres_error(error) {
        Some(error) => connect_error(error),
        None => ConnectError::new(ConnectErrorKind::Other, text_of(error)),
    }
}

/// Returns the kind of a [probe](claviger::pool::Check::Probe)'s error: a rejection if the role may
/// have been dropped.
pub fn classify_probe(error: &(dyn StdError + 'static)) -> ConnectError {
    classify(error).into_postgres_probe()
}

/// Returns the error of a login, with the driver's error as its source.
pub fn login_error(error: Error) -> ConnectError {
    connect_error(&error).with_source(error)
}

/// Finds the driver's error among the sources of an error. Also looks into the causes of
/// [`ConnectError`] and [`CallError`].
pub fn find_postgres_error<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e Error> {
    let own_source = |error: &'e (dyn StdError + 'static)| -> Option<&'e (dyn StdError + 'static)> {
        match known_connect_error(error) {
            // Unlike the source, the cause can be downcast.
            Some(error) => error
                .cause()
                .map(|cause| cause as &(dyn StdError + 'static)),
            None => error.source(),
        }
    };
    successors(Some(error), |&error| own_source(error)).find_map(|error| error.downcast_ref())
}

fn known_connect_error<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e ConnectError> {
    match error.downcast_ref::<CallError>() {
        Some(error) => error.connect_error(),
        None => error.downcast_ref(),
    }
}

fn connect_error(error: &Error) -> ConnectError {
    let Some(database) = error.as_db_error() else {
        let mut text = text_of(error);
        if text.ends_with(NO_TLS) {
            text.push_str(NO_TLS_ADVICE);
        }
        return ConnectError::new(kind_of_driver(error), text);
    };
    let (code, message) = (database.code().code(), database.message());
    let kind = ConnectErrorKind::from_postgres(Some(code), database.routine(), message);
    ConnectError::new(kind, message).with_code(code)
}

fn kind_of_driver(error: &Error) -> ConnectErrorKind {
    let io = successors(error.source(), |&error| error.source())
        .find_map(|error| error.downcast_ref::<io::Error>());
    match io.map(io::Error::kind) {
        // rustls reports an untrusted certificate as `InvalidData`, and an invalid host name as
        // `InvalidInput`.
        Some(io::ErrorKind::InvalidData) => ConnectErrorKind::Misconfigured,
        Some(io::ErrorKind::InvalidInput) if has_text(error, TLS) => {
            ConnectErrorKind::Misconfigured
        }
        Some(_) => ConnectErrorKind::Unreachable,
        None if error.is_closed() || has_text(error, TIMEOUT) => ConnectErrorKind::Unreachable,
        None if [TLS, AUTHENTICATION, CONFIG]
            .iter()
            .any(|text| has_text(error, text)) =>
        {
            ConnectErrorKind::Misconfigured
        }
        None => ConnectErrorKind::Other,
    }
}

/// Returns whether an error of the driver has this text. The driver gives no other access to its
/// kind.
fn has_text(error: &Error, text: &str) -> bool {
    error.to_string() == text
}

const TLS: &str = "error performing TLS handshake";
/// Source of a [`TLS`] error if the server has TLS off, and `sslmode` requires it.
const NO_TLS: &str = "server does not support TLS";
const NO_TLS_ADVICE: &str = ", which `sslmode=require` demands: set `ssl = on` in the server's \
    postgresql.conf, or SslMode::Prefer to connect without TLS";
const TIMEOUT: &str = "timeout waiting for server";
const AUTHENTICATION: &str = "authentication error";
const CONFIG: &str = "invalid configuration";

/// Returns the texts of an error and of its sources. The driver's own text is a summary.
pub(crate) fn text_of(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    for source in successors(error.source(), |&error| error.source()) {
        let source = source.to_string();
        if !text.ends_with(&source) {
            text.push_str(": ");
            text.push_str(&source);
        }
    }
    text
}
