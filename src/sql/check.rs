//! Checks of credentials and addresses before anything connects.

use std::fmt;

use crate::credentials::{Credentials, host_problem};
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
    match credentials.endpoint() {
        Some(_) if options.socket => Err(misconfigured(
            "socket",
            "the connect options name one, and the credentials have an endpoint; leave one of them \
             out",
        )),
        Some(endpoint) if endpoint.host_problem().is_some() => Err(misconfigured(
            "host",
            endpoint.host_problem().unwrap_or_default(),
        )),
        Some(endpoint) if endpoint.own_port() == Some(0) => {
            Err(misconfigured("port", format!("is 0; give {port}")))
        }
        Some(endpoint) if endpoint.own_port().is_none() && options.port == 0 => Err(misconfigured(
            "port",
            format!("is 0; in the connect options set {port}"),
        )),
        Some(endpoint) if endpoint.own_database().is_some_and(str::is_empty) => {
            Err(misconfigured("database", "is empty; name one"))
        }
        Some(endpoint)
            if endpoint.own_database().is_none() && options.database.is_none_or(str::is_empty) =>
        {
            Err(misconfigured(
                "database",
                "is missing in the credentials' endpoint; set it in the connect options",
            ))
        }
        None if !options.socket && options.host.trim().is_empty() => Err(misconfigured(
            "host",
            "is empty; set it in the connect options, or in the credentials' endpoint",
        )),
        None if !options.socket && host_problem(options.host).is_some() => Err(misconfigured(
            "host",
            format!(
                "of the connect options {}",
                host_problem(options.host).unwrap_or_default()
            ),
        )),
        None if !options.socket && options.port == 0 => Err(misconfigured(
            "port",
            format!("is 0; in the connect options set {port}"),
        )),
        None if options.database.is_none_or(str::is_empty) => Err(misconfigured(
            "database",
            "is missing; set it in the connect options, or in the credentials' endpoint",
        )),
        _ => Ok(()),
    }
}
