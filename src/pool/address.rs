//! Checks of credentials and addresses before anything connects, and their form in errors. For
//! pools of any driver.

use std::fmt::{self, Display};

use crate::credentials::{Credentials, Endpoint, host_problem, shown_host, shown_name};
use crate::error::{ConnectError, ConnectErrorKind};

/// Advice that a rejected token's error ends with, because the server's text names only the user.
const TOKEN_ADVICE: &str =
    "a token is also rejected if the time is wrong: check this machine's clock";

/// Address of a server in a driver's connect options.
///
/// The endpoint of the credentials takes precedence over it, and leaves parts to it.
///
/// ```
/// use claviger::pool::Address;
/// use claviger::{Credentials, Endpoint};
///
/// let options = Address::new("db.internal", 5432).with_database("orders");
/// let credentials = Credentials::new("app", "s3cret").with_endpoint(Endpoint::of_host("replica"));
/// options.check(&credentials, 5432)?;
///
/// let address = options.for_credentials(&credentials);
/// assert_eq!(address.server(), "replica:5432");
/// assert_eq!(address.database(), Some("orders"));
/// # Ok::<(), claviger::error::ConnectError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Address<'o> {
    host: &'o str,
    port: u16,
    database: Option<&'o str>,
    /// A Unix socket, which takes precedence over the host.
    socket: bool,
}

impl<'o> Address<'o> {
    /// Creates an address without a database.
    pub fn new(host: &'o str, port: u16) -> Self {
        Self {
            host,
            port,
            database: None,
            socket: false,
        }
    }

    /// Sets the database.
    #[must_use]
    pub fn with_database(mut self, database: impl Into<Option<&'o str>>) -> Self {
        self.database = database.into();
        self
    }

    /// Sets whether a Unix socket takes precedence over host and port. Default: `false`.
    #[must_use]
    pub fn with_socket(mut self, socket: bool) -> Self {
        self.socket = socket;
        self
    }

    /// Returns the host's name or address.
    pub fn host(&self) -> &'o str {
        self.host
    }

    /// Returns the TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the database's name, if there is one.
    pub fn database(&self) -> Option<&'o str> {
        self.database
    }

    /// Returns whether this is a Unix socket.
    pub fn is_socket(&self) -> bool {
        self.socket
    }

    /// Returns the address for these credentials: that of their endpoint, and of these options
    /// where the endpoint leaves a part out.
    #[must_use]
    pub fn for_credentials(self, credentials: &'o Credentials) -> Self {
        let Some(endpoint) = credentials.endpoint() else {
            return self;
        };
        Self {
            host: endpoint.host(),
            port: endpoint.own_port().unwrap_or(self.port),
            database: endpoint.own_database().or(self.database),
            socket: false,
        }
    }

    /// Returns host and port as `db.internal:5432`, to distinguish servers. Not for messages,
    /// because an invalid host may contain a password.
    pub fn server(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Returns host and port, or `a socket`, for messages. An invalid host is hidden, because it
    /// may contain a password.
    pub fn shown(&self) -> String {
        if self.socket {
            "a socket".to_owned()
        } else {
            format!("{}:{}", shown_host(self.host), self.port)
        }
    }

    /// Returns user, address and database of a login, as
    /// [`ConnectError::with_target`] prints them.
    pub fn target(&self, user: &str) -> String {
        format!(
            "user {:?} at {}, database {:?}",
            shown_name(user),
            self.shown(),
            shown_name(self.database.unwrap_or_default())
        )
    }

    /// Checks the endpoint of the credentials, and these connect options for parts that it leaves
    /// out: host, port and database.
    ///
    /// # Errors
    /// [`ConnectErrorKind::Misconfigured`], naming the field and a valid value.
    pub fn check(&self, credentials: &Credentials, default_port: u16) -> Result<(), ConnectError> {
        self.check_server(credentials, default_port)?;
        let endpoint = credentials.endpoint();
        let own_database = endpoint.and_then(Endpoint::own_database);
        if own_database == Some("") {
            return Err(ConnectError::misconfigured(
                "database",
                "is empty; name one",
            ));
        }
        let database = own_database.or(self.database);
        if database.is_some_and(|name| !name.is_empty()) {
            return Ok(());
        }
        let problem = if endpoint.is_some() {
            "is missing in the credentials' endpoint; set it in the connect options"
        } else {
            "is missing; set it in the connect options, or in the credentials' endpoint"
        };
        Err(ConnectError::misconfigured("database", problem))
    }

    /// Checks host and port as [`check`](Self::check) does, for servers without databases.
    ///
    /// # Errors
    /// [`ConnectErrorKind::Misconfigured`], naming the field and a valid value.
    pub fn check_server(
        &self,
        credentials: &Credentials,
        default_port: u16,
    ) -> Result<(), ConnectError> {
        let port = format!("the server's port, {default_port} by default");
        let endpoint = credentials.endpoint();
        let own_port = endpoint.and_then(Endpoint::own_port);
        let misconfigured =
            |field, problem: &dyn Display| Err(ConnectError::misconfigured(field, problem));
        match endpoint {
            Some(_) if self.socket => misconfigured(
                "socket",
                &"the connect options name one, and the credentials have an endpoint; leave one of \
                  them out",
            ),
            Some(endpoint) if let Some(problem) = endpoint.host_problem() => {
                misconfigured("host", &problem)
            }
            None if !self.socket && self.host.trim().is_empty() => misconfigured(
                "host",
                &"is empty; set it in the connect options, or in the credentials' endpoint",
            ),
            None if !self.socket
                && let Some(problem) = host_problem(self.host) =>
            {
                misconfigured("host", &format_args!("of the connect options {problem}"))
            }
            _ if own_port == Some(0) => misconfigured("port", &format_args!("is 0; give {port}")),
            _ if own_port.is_none() && !self.socket && self.port == 0 => misconfigured(
                "port",
                &format_args!("is 0; in the connect options set {port}"),
            ),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Address<'_> {
    /// Hides an invalid host, because it may contain a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address")
            .field("server", &self.shown())
            .field("database", &self.database.map(shown_name))
            .finish()
    }
}

/// Checks user and password: neither may be empty or contain a NUL. `database` is the name of the
/// database system, for the message.
///
/// # Errors
/// [`ConnectErrorKind::Misconfigured`], naming the field and a valid value.
pub fn check_credentials(credentials: &Credentials, database: &str) -> Result<(), ConnectError> {
    if credentials.user().is_empty() {
        return Err(ConnectError::misconfigured(
            "user",
            "the credentials have none; name the role to connect as",
        ));
    }
    if credentials.user().contains('\0') || credentials.expose_password().contains('\0') {
        return Err(ConnectError::misconfigured(
            "credentials",
            format_args!(
                "user or password contains a NUL, which {database} does not accept; create others"
            ),
        ));
    }
    if credentials.expose_password().is_empty() {
        return Err(ConnectError::misconfigured("password", "is empty; set one"));
    }
    Ok(())
}

/// Adds the target of a login to its error, unless it has one, and advice if a token was rejected.
pub fn explain_login(
    credentials: &Credentials,
    target: impl FnOnce() -> String,
    error: ConnectError,
) -> ConnectError {
    let error = match error.target() {
        Some(_) => error,
        None => error.with_target(target()),
    };
    if credentials.is_token() && error.kind() == ConnectErrorKind::Rejected {
        error.with_advice(TOKEN_ADVICE)
    } else {
        error
    }
}
