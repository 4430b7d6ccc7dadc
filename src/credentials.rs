//! Credentials for a database: the secret of its pools.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use secrecy::{ExposeSecret, SecretString};

/// User and password (or bearer token) of a database, and its endpoint if the backend gives one.
///
/// ```
/// use claviger::{Endpoint, Credentials};
///
/// let endpoint = Endpoint::new("db.internal", 5432, "orders");
/// let credentials = Credentials::new("orders_app", "s3cret").with_endpoint(endpoint);
/// assert!(!format!("{credentials:?}").contains("s3cret"));
/// ```
#[derive(Clone)]
pub struct Credentials {
    user: String,
    password: SecretString,
    token: bool,
    endpoint: Option<Endpoint>,
}

impl Credentials {
    /// Creates credentials from a user and a password. The pool returns an error for an empty user.
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            user: user.into(),
            password: SecretString::from(password.into()),
            token: false,
            endpoint: None,
        }
    }

    /// Marks the password as a bearer token: anybody who reads it can act as the user. Without
    /// verified TLS, pools return an error before the first connect.
    #[must_use]
    pub fn with_password_as_token(mut self) -> Self {
        self.token = true;
        self
    }

    /// Sets the endpoint. It takes precedence over the pool's connect options; a change of it
    /// always replaces the pool.
    #[must_use]
    pub fn with_endpoint(mut self, endpoint: Endpoint) -> Self {
        self.endpoint = Some(endpoint);
        self
    }

    /// Returns the user.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Returns the password or token, in clear text, for the login call.
    pub fn expose_password(&self) -> &str {
        self.password.expose_secret()
    }

    /// Returns whether the password is a bearer token.
    pub fn is_token(&self) -> bool {
        self.token
    }

    /// Returns the endpoint, if the backend gives one.
    pub fn endpoint(&self) -> Option<&Endpoint> {
        self.endpoint.as_ref()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &shown_name(&self.user))
            .field("password", &"[redacted]")
            .field("token", &self.token)
            .field("endpoint", &self.endpoint)
            .finish()
    }
}

/// Address of a database. Port and database may be left to the pool's connect options.
///
/// `Debug` shows an invalid host as `[malformed]`, because a URL may contain a password.
///
/// ```
/// use claviger::{Credentials, Endpoint};
///
/// let endpoint = Endpoint::new("db.internal", 5432, "orders");
/// let credentials = Credentials::new("orders_app", "s3cret").with_endpoint(endpoint);
/// assert_eq!(credentials.endpoint().map(Endpoint::host), Some("db.internal"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
    /// `None`: from the pool's connect options.
    port: Option<u16>,
    /// `None`: from the pool's connect options.
    database: Option<String>,
}

impl Endpoint {
    /// Creates an endpoint of host, port and database. The pool returns an error for an empty host
    /// or database, or port 0.
    ///
    /// An IPv6 address may be in brackets, as in a URL; they are removed.
    pub fn new(host: impl Into<String>, port: u16, database: impl Into<String>) -> Self {
        Self::of_host(host).with_port(port).with_database(database)
    }

    /// Creates an endpoint of host and port; the database is that of the pool's connect options.
    pub fn server(host: impl Into<String>, port: u16) -> Self {
        Self::of_host(host).with_port(port)
    }

    /// Creates an endpoint of the host alone; port and database are those of the pool's connect
    /// options.
    ///
    /// ```
    /// use claviger::Endpoint;
    ///
    /// let endpoint = Endpoint::of_host("db.internal").with_database("orders");
    /// assert_eq!((endpoint.port(), endpoint.database()), (0, "orders"));
    /// ```
    pub fn of_host(host: impl Into<String>) -> Self {
        let mut host = host.into();
        if let Some(address) = without_brackets(&host) {
            host = address.to_owned();
        }
        Self {
            host,
            port: None,
            database: None,
        }
    }

    /// Sets the TCP port, instead of that of the pool's connect options.
    #[must_use]
    pub fn with_port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Sets the database, instead of that of the pool's connect options.
    #[must_use]
    pub fn with_database(mut self, database: impl Into<String>) -> Self {
        self.database = Some(database.into());
        self
    }

    /// Returns the host's name or address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the TCP port; 0 if it is left to the pool.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or_default()
    }

    /// Returns the database's name; empty if it is left to the pool.
    pub fn database(&self) -> &str {
        self.database.as_deref().unwrap_or_default()
    }

    pub(crate) fn own_port(&self) -> Option<u16> {
        self.port
    }

    pub(crate) fn own_database(&self) -> Option<&str> {
        self.database.as_deref()
    }

    /// Returns why the host is invalid, and what to give instead. Such a host fails every name
    /// resolution, but only after its timeout. `None` if there is no problem.
    ///
    /// ```
    /// use claviger::Endpoint;
    ///
    /// assert!(Endpoint::server("db.internal", 5432).host_problem().is_none());
    /// assert!(Endpoint::server("::1", 5432).host_problem().is_none());
    /// assert!(Endpoint::server("[::1]", 5432).host_problem().is_none());
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

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("host", &shown_host(&self.host))
            .field("port", &self.port)
            .field("database", &self.database.as_deref().map(shown_name))
            .finish()
    }
}

/// Replaces a text that may contain a secret.
const MALFORMED: &str = "[malformed]";

/// Returns the host for a message, or a placeholder if it is invalid: a URL may contain a password.
pub(crate) fn shown_host(host: &str) -> &str {
    host_problem(host).map_or(host, |_| MALFORMED)
}

/// Returns the name of a user or database for a message, or a placeholder if it is a URL.
pub(crate) fn shown_name(name: &str) -> &str {
    if name.contains("://") {
        MALFORMED
    } else {
        name
    }
}

/// Returns why the host is invalid, and what to give instead.
pub(crate) fn host_problem(host: &str) -> Option<&'static str> {
    // sqlx accepts an address in brackets, too.
    let is_address = is_address(without_brackets(host).unwrap_or(host));
    let is_path = host.starts_with('/') && !host.starts_with("//");
    if host.trim().is_empty() {
        Some("is empty; give a name or an address")
    } else if host.contains("://")
        || host.contains(['@', '?', '#'])
        || (host.contains('/') && !is_path)
    {
        Some("is a URL or a part of one; give the name or address alone")
    } else if is_path || is_address {
        None
    } else if host.contains(',') {
        Some("names several hosts; give one")
    } else if host.contains(char::is_whitespace) {
        Some("contains white space; give the name or address alone")
    } else if host.contains(':') {
        Some("has a port; give the name or address alone, and the port beside it")
    } else if !is_name(host) {
        Some("has a character that host names cannot have; give the name or address alone")
    } else {
        None
    }
}

/// Returns the IPv6 address within brackets.
fn without_brackets(host: &str) -> Option<&str> {
    host.strip_prefix('[')?
        .strip_suffix(']')
        .filter(|address| address.contains(':') && is_address(address))
}

/// Returns whether this is an IP address. An IPv6 address may have a zone.
fn is_address(host: &str) -> bool {
    match host.split_once('%') {
        Some((address, zone)) => {
            address.parse::<Ipv6Addr>().is_ok() && !zone.is_empty() && is_name(zone)
        }
        None => host.parse::<IpAddr>().is_ok(),
    }
}

/// Returns whether the text has only characters that names of hosts and zones can have.
fn is_name(text: &str) -> bool {
    text.chars()
        .all(|one| one.is_alphanumeric() || matches!(one, '-' | '_' | '.'))
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
            ("//u:s3cret@db.internal/orders", "URL"),
            ("db.internal;password=s3cret", "character"),
            ("[db.internal]", "character"),
            ("fe80::1%", "port"),
            ("10.0.0.1%eth0", "character"),
        ] {
            let problem = Endpoint::server(host, 5_432).host_problem();
            assert!(
                problem.is_some_and(|problem| problem.contains(word)),
                "{host:?}: {problem:?}"
            );
        }
        for host in [
            "db.internal",
            "db",
            "db_1",
            "10.0.0.1",
            "::1",
            "fe80::1",
            "fe80::1%eth0",
            "[::1]",
            "[fe80::1%2]",
            "/run/postgresql",
            "/run/a b",
        ] {
            assert_eq!(Endpoint::server(host, 5_432).host_problem(), None, "{host}");
        }
    }

    #[test]
    fn an_address_in_brackets_is_that_address() {
        assert_eq!(
            Endpoint::server("[::1]", 5_432),
            Endpoint::server("::1", 5_432)
        );
        assert_eq!(
            Endpoint::server("[fe80::1%eth0]", 5_432).host(),
            "fe80::1%eth0"
        );
        for host in ["[::1", "[db.internal]", "[::1]:5432"] {
            assert_eq!(Endpoint::server(host, 5_432).host(), host);
        }
    }

    #[test]
    fn debug_shows_no_password_of_a_url() {
        for url in [
            "postgres://u:s3cret@h/db",
            "//u:s3cret@h/db",
            "u:s3cret@h",
            "u:s3cret",
            "h;password=s3cret",
            "host=h password=s3cret",
        ] {
            let credentials =
                Credentials::new("orders_app", "p").with_endpoint(Endpoint::server(url, 5_432));
            let shown = format!("{credentials:?} {:?}", credentials.endpoint());
            assert!(
                !shown.contains("s3cret") && shown.contains("[malformed]"),
                "{url}: {shown}"
            );
        }
        let url = "postgres://u:s3cret@h/db";
        let shown = format!(
            "{:?}",
            Credentials::new(url, "p").with_endpoint(Endpoint::new("db.internal", 5_432, url))
        );
        assert!(
            !shown.contains("s3cret") && shown.contains("db.internal"),
            "{shown}"
        );
        let shown = format!("{:?}", Endpoint::new("db.internal", 5_432, "orders"));
        assert_eq!(
            shown,
            r#"Endpoint { host: "db.internal", port: Some(5432), database: Some("orders") }"#
        );
    }

    #[test]
    fn missing_parts_of_an_endpoint_are_left_to_the_pool() {
        let endpoint = Endpoint::of_host("db.internal");
        assert_eq!((endpoint.own_port(), endpoint.own_database()), (None, None));
        let endpoint = endpoint.with_port(6_432).with_database("orders");
        assert_eq!(endpoint, Endpoint::new("db.internal", 6_432, "orders"));
    }
}
