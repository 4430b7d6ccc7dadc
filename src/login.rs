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
    /// `None`: the pool's own.
    database: Option<String>,
}

impl Endpoint {
    /// Host, port and database. An empty host or database, or port 0, is rejected by the pool that
    /// gets it.
    pub fn new(host: impl Into<String>, port: u16, database: impl Into<String>) -> Self {
        Self { host: host.into(), port, database: Some(database.into()) }
    }

    /// Names host and port; the database is that of the pool's connect options.
    pub fn server(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port, database: None }
    }

    /// The host's name or address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the database's name; empty if it is left to the pool.
    pub fn database(&self) -> &str {
        self.database.as_deref().unwrap_or_default()
    }

    pub(crate) fn own_database(&self) -> Option<&str> {
        self.database.as_deref()
    }

    /// Returns why the host is invalid, and what to give instead. Such a host fails every look-up,
    /// but only after its time-out. `None` if there is no problem.
    ///
    /// ```
    /// use claviger::Endpoint;
    ///
    /// assert!(Endpoint::server("db.internal", 5432).host_problem().is_none());
    /// assert!(Endpoint::server("::1", 5432).host_problem().is_none());
    /// assert!(Endpoint::server("db.internal:5432", 5432).host_problem().is_some());
    /// ```
    pub fn host_problem(&self) -> Option<&'static str> {
        host_problem(&self.host)
    }

    /// Returns the default port of a database engine, by AWS's names: 5432 for `postgres`,
    /// `postgresql` and `aurora-postgresql`, 3306 for `mysql`, `mariadb`, `aurora-mysql` and
    /// `aurora`.
    pub fn default_port(engine: &str) -> Option<u16> {
        match engine {
            "postgres" | "postgresql" | "aurora-postgresql" => Some(5_432),
            "mysql" | "mariadb" | "aurora-mysql" | "aurora" => Some(3_306),
            _ => None,
        }
    }
}

/// Why a host cannot be right, and what would be, if so. Brackets around an IPv6 address, as it stands in a URL, and a zone behind it are right.
pub(crate) fn host_problem(host: &str) -> Option<&'static str> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let address = bare.split_once('%').map_or(bare, |(address, _)| address);
    let is_address = address.parse::<std::net::IpAddr>().is_ok();
    if host.trim().is_empty() {
        Some("is empty; give a name or an address")
    } else if host.contains("://") || host.contains(['@', '?', '#']) || (host.contains('/') && !host.starts_with('/')) {
        Some("is a URL or a part of one; give the name or address alone")
    } else if host.contains(',') {
        Some("names several hosts; give one")
    } else if host.contains(char::is_whitespace) {
        Some("contains white space; give the name or address alone")
    } else if host.contains(':') && !is_address {
        Some("has a port; give the name or address alone, and the port beside it")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_host_is_explained() {
        for (host, word) in [
            ("", "empty"),
            (" ", "empty"),
            ("postgres://db.internal/orders", "URL"),
            ("user@db.internal", "URL"),
            ("db.internal/orders", "URL"),
            ("a.internal,b.internal", "several"),
            ("db internal", "white space"),
            ("db.internal ", "white space"),
            ("db.internal:5432", "port"),
            ("[::1]:5432", "port"),
        ] {
            let problem = Endpoint::server(host, 5_432).host_problem();
            assert!(problem.is_some_and(|problem| problem.contains(word)), "{host:?}: {problem:?}");
        }
        for host in ["db.internal", "db", "10.0.0.1", "::1", "[::1]", "fe80::1", "fe80::1%eth0", "/run/postgresql"] {
            assert_eq!(Endpoint::server(host, 5_432).host_problem(), None, "{host}");
        }
    }
}
