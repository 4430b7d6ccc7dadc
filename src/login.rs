//! The secret that database pools take.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// User and password (or bearer token) for a database, and where it is if the issuer says so.
///
/// ```
/// use claviger::{Endpoint, Login};
///
/// let login = Login::new("orders_app", "s3cret").endpoint(Endpoint::new("db.internal", 5432, "orders"));
/// assert!(!format!("{login:?}").contains("s3cret"));
/// ```
#[derive(Clone)]
pub struct Login {
    user: String,
    password: SecretString,
    token: bool,
    endpoint: Option<Endpoint>,
}

impl Login {
    /// A user and a password. An empty user is refused by the pool that gets it.
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self { user: user.into(), password: SecretString::from(password.into()), token: false, endpoint: None }
    }

    /// Marks the password as a bearer token: whoever reads it *is* the user. Pools refuse such a login without verified TLS before the
    /// first connect.
    #[must_use]
    pub fn token(mut self) -> Self {
        self.token = true;
        self
    }

    /// Where the database is. It takes precedence over the pool's connect options; a change of it always replaces the pool.
    #[must_use]
    pub fn endpoint(mut self, endpoint: Endpoint) -> Self {
        self.endpoint = Some(endpoint);
        self
    }

    /// The user.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The password or token, in clear: for the one call that logs in.
    pub fn expose_password(&self) -> &str {
        self.password.expose_secret()
    }

    /// Whether the password is a bearer token.
    pub fn is_token(&self) -> bool {
        self.token
    }

    /// Where the database is, if the issuer says so.
    pub fn location(&self) -> Option<&Endpoint> {
        self.endpoint.as_ref()
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .field("password", &"[redacted]")
            .field("token", &self.token)
            .field("endpoint", &self.endpoint)
            .finish()
    }
}

/// Where a database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
    port: u16,
    database: String,
}

impl Endpoint {
    /// Host, port and database. An empty host or database, or port 0, is refused by the pool that gets it.
    pub fn new(host: impl Into<String>, port: u16, database: impl Into<String>) -> Self {
        Self { host: host.into(), port, database: database.into() }
    }

    /// The host's name or address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The database's name.
    pub fn database(&self) -> &str {
        &self.database
    }
}
