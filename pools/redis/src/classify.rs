//! Kinds of Redis's errors. No other module classifies them.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

use claviger::Credentials;
use claviger::error::{ConnectError, ConnectErrorKind};
use redis::{ErrorKind, RedisError};

use crate::Error;

/// Replaces text that may contain a secret.
const REDACTED: &str = "[redacted]";

/// Classifies the error of a login with these credentials. A server that does not support a command
/// repeats its arguments, the password among them. Such an error loses its cause.
pub(crate) fn login_error(error: RedisError, credentials: &Credentials) -> ConnectError {
    let classified = connect_error(&error);
    let password = credentials.expose_password();
    let is_shown = |text: &str| !password.is_empty() && text.contains(password);
    if repeats_arguments(&error) || is_shown(&error.to_string()) {
        let message = classified.message().replace(password, REDACTED);
        return ConnectError::new(classified.kind(), message);
    }
    classified.with_source(error)
}

/// Classifies an error of redis-rs, or one that contains it.
pub(crate) fn classify(error: &(dyn StdError + 'static)) -> ConnectError {
    if let Some(error) = error.downcast_ref::<Error>() {
        return error.connect_error();
    }
    let mut causes = std::iter::successors(Some(error), |&error| error.source());
    match causes.find_map(|error| error.downcast_ref::<RedisError>()) {
        Some(error) => connect_error(error),
        None => ConnectError::new(ConnectErrorKind::Other, error.to_string()),
    }
}

/// Returns whether the server rejected the credentials of a connection.
pub(crate) fn is_rejection(error: &RedisError) -> bool {
    kind(error) == ConnectErrorKind::Rejected
}

/// Returns whether another node may respond.
pub(crate) fn is_unreachable(error: &RedisError) -> bool {
    kind(error) == ConnectErrorKind::Unreachable
}

fn connect_error(error: &RedisError) -> ConnectError {
    ConnectError::new(kind(error), message(error))
}

fn kind(error: &RedisError) -> ConnectErrorKind {
    let detail = error.detail().unwrap_or_default();
    match (error.kind(), error.code()) {
        (_, Some("WRONGPASS" | "NOAUTH")) | (ErrorKind::AuthenticationFailed, _) => {
            ConnectErrorKind::Rejected
        }
        // Rights and protected mode. Another password would not help.
        (_, Some("NOPERM" | "DENIED")) => ConnectErrorKind::Misconfigured,
        (_, Some("LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN")) => {
            ConnectErrorKind::Unreachable
        }
        // The response to the first command, whatever that is.
        (_, Some("ERR")) if detail.starts_with("max number of clients") => {
            ConnectErrorKind::Overloaded
        }
        (_, Some("ERR"))
            if detail.starts_with("DB index is out of range")
                || detail.starts_with("SELECT is not allowed")
                || detail.contains("without any password configured")
                || error.to_string().contains("refused to switch database") =>
        {
            ConnectErrorKind::Misconfigured
        }
        (ErrorKind::InvalidClientConfig | ErrorKind::RESP3NotSupported, _) => {
            ConnectErrorKind::Misconfigured
        }
        (ErrorKind::Io, _) if is_invalid_tls(error) => ConnectErrorKind::Misconfigured,
        (ErrorKind::Io | ErrorKind::ClusterConnectionNotFound, _) => ConnectErrorKind::Unreachable,
        // rustls, before anything was sent.
        (ErrorKind::Client, _) if error.source().is_some() => ConnectErrorKind::Misconfigured,
        _ => ConnectErrorKind::Other,
    }
}

type Cause = Arc<dyn StdError + Send + Sync>;

/// Returns whether TLS failed: an invalid certificate, or a server without TLS.
fn is_invalid_tls(error: &RedisError) -> bool {
    // redis-rs returns the pointer to the error as the cause.
    let cause = error
        .source()
        .and_then(|cause| cause.downcast_ref::<Cause>());
    let cause = cause.and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::InvalidData)
}

/// Returns the server's own text: `WRONGPASS invalid username-password pair …`.
fn message(error: &RedisError) -> String {
    let text = match (error.code(), error.detail()) {
        (Some("ERR"), Some(detail)) => detail.to_owned(),
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ => error.to_string(),
    };
    match text.find(ARGUMENTS) {
        Some(at) => format!("{}{REDACTED}", &text[..at]),
        None => text,
    }
}

/// Text of a server that does not support a command: `unknown command 'HELLO', with args beginning
/// with: '3' 'AUTH' …`.
const ARGUMENTS: &str = "with args beginning with";

fn repeats_arguments(error: &RedisError) -> bool {
    error.to_string().contains(ARGUMENTS)
}

#[cfg(test)]
mod tests {
    use claviger::error::ConnectErrorKind::{
        Misconfigured, Other, Overloaded, Rejected, Unreachable,
    };
    use redis::make_extension_error;

    use super::*;

    fn server_error(text: &str) -> RedisError {
        // As redis-rs parses a response.
        let mut parsed = redis::parse_redis_value(format!("-{text}\r\n").as_bytes());
        match parsed.as_mut() {
            Ok(redis::Value::ServerError(error)) => error.clone().into(),
            _ => make_extension_error("TEST".to_owned(), None),
        }
    }

    #[test]
    fn responses_are_classified() {
        for (text, expected) in [
            (
                "WRONGPASS invalid username-password pair or user is disabled.",
                Rejected,
            ),
            ("NOAUTH Authentication required.", Rejected),
            (
                "NOPERM User app has no permissions to run the 'ping' command",
                Misconfigured,
            ),
            ("DENIED Redis is running in protected mode", Misconfigured),
            (
                "LOADING Redis is loading the dataset in memory",
                Unreachable,
            ),
            ("MASTERDOWN Link with MASTER is down", Unreachable),
            ("CLUSTERDOWN The cluster is down", Unreachable),
            ("ERR max number of clients reached", Overloaded),
            (
                "ERR max number of clients + cluster connections reached",
                Overloaded,
            ),
            ("ERR DB index is out of range", Misconfigured),
            ("ERR SELECT is not allowed in cluster mode", Misconfigured),
            (
                "ERR AUTH <password> called without any password configured for the default user.",
                Misconfigured,
            ),
            ("ERR syntax error", Other),
            (
                "READONLY You can't write against a read only replica.",
                Other,
            ),
        ] {
            let classified = classify(&server_error(text));
            assert_eq!(classified.kind(), expected, "{text}");
            let shown = text.strip_prefix("ERR ").unwrap_or(text);
            assert_eq!(classified.message(), shown);
        }
    }

    #[test]
    fn errors_of_the_network_are_unreachable_and_of_tls_misconfigured() {
        for (kind, expected) in [
            (io::ErrorKind::ConnectionRefused, Unreachable),
            (io::ErrorKind::TimedOut, Unreachable),
            (io::ErrorKind::UnexpectedEof, Unreachable),
            (io::ErrorKind::InvalidData, Misconfigured),
        ] {
            let error = RedisError::from(io::Error::new(kind, "text"));
            assert_eq!(classify(&error).kind(), expected, "{kind:?}");
        }
    }

    #[test]
    fn a_repeated_password_is_redacted() {
        let credentials = Credentials::new("app", "s3cret");
        for text in [
            "ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'app' 's3cret'",
            "ERR no such thing: s3cret",
        ] {
            let error = login_error(server_error(text), &credentials);
            let causes = std::iter::successors(error.source(), |&error| error.source());
            let shown: String = causes.map(|cause| format!("{cause} {cause:?}")).collect();
            let shown = format!("{error} {error:?} {shown}");
            assert!(!shown.contains("s3cret"), "{shown}");
            assert!(shown.contains(REDACTED), "{shown}");
        }
        let kept = login_error(server_error("WRONGPASS no"), &credentials);
        assert!(kept.cause().is_some_and(|cause| cause.is::<RedisError>()));
    }
}
