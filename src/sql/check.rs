//! Checks of credentials and addresses before anything connects.

use std::fmt;

use crate::credentials::{Credentials, Endpoint, host_problem};
use crate::error::{ConnectError, ConnectErrorKind};

/// Address in connect options.
pub struct Address<'o> {
    pub(crate) host: &'o str,
    pub(crate) port: u16,
    pub(crate) database: Option<&'o str>,
    /// A Unix socket, which takes precedence over the host.
    pub(crate) socket: bool,
}

/// Creates an error that names the field and the problem.
pub(crate) fn misconfigured(field: &str, problem: impl fmt::Display) -> ConnectError {
    ConnectError::new(
        ConnectErrorKind::Misconfigured,
        format!("{field}: {problem}"),
    )
}

pub(crate) fn credentials(credentials: &Credentials, database: &str) -> Result<(), ConnectError> {
    if credentials.user().is_empty() {
        return Err(misconfigured(
            "user",
            "the credentials have none; name the role to connect as",
        ));
    }
    if credentials.user().contains('\0') || credentials.expose_password().contains('\0') {
        return Err(misconfigured(
            "credentials",
            format!(
                "user or password contains a NUL, which {database} does not accept; create others"
            ),
        ));
    }
    if credentials.expose_password().is_empty() {
        return Err(misconfigured("password", "is empty; set one"));
    }
    Ok(())
}

/// Checks the endpoint of the credentials, and the connect options for parts that it leaves out.
pub(crate) fn address(
    options: &Address<'_>,
    credentials: &Credentials,
    default_port: u16,
) -> Result<(), ConnectError> {
    let port = format!("the server's port, {default_port} by default");
    let endpoint = credentials.endpoint();
    let own_port = endpoint.and_then(Endpoint::own_port);
    let own_database = endpoint.and_then(Endpoint::own_database);
    let error = match endpoint {
        Some(_) if options.socket => misconfigured(
            "socket",
            "the connect options name one, and the credentials have an endpoint; leave one of them \
             out",
        ),
        Some(endpoint) if let Some(problem) = endpoint.host_problem() => {
            misconfigured("host", problem)
        }
        None if !options.socket && options.host.trim().is_empty() => misconfigured(
            "host",
            "is empty; set it in the connect options, or in the credentials' endpoint",
        ),
        None if !options.socket
            && let Some(problem) = host_problem(options.host) =>
        {
            misconfigured("host", format!("of the connect options {problem}"))
        }
        _ if own_port == Some(0) => misconfigured("port", format!("is 0; give {port}")),
        _ if own_port.is_none() && !options.socket && options.port == 0 => {
            misconfigured("port", format!("is 0; in the connect options set {port}"))
        }
        _ if own_database == Some("") => misconfigured("database", "is empty; name one"),
        _ if own_database
            .or(options.database)
            .is_some_and(|name| !name.is_empty()) =>
        {
            return Ok(());
        }
        Some(_) => misconfigured(
            "database",
            "is missing in the credentials' endpoint; set it in the connect options",
        ),
        None => misconfigured(
            "database",
            "is missing; set it in the connect options, or in the credentials' endpoint",
        ),
    };
    Err(error)
}
