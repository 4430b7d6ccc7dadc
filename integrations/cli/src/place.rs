//! The server of a login: that of the credentials, if they have one, as the pools do.

use claviger::Credentials;
use claviger_config::Connection;

/// Host, port and database of a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) database: Option<String>,
}

impl Place {
    /// Returns the place of the settings.
    pub(crate) fn of(connection: &Connection) -> Self {
        Self {
            host: connection.host(),
            port: connection.port(),
            database: connection.database(),
        }
    }

    /// Returns the place with what the endpoint of the credentials replaces.
    pub(crate) fn with_endpoint_of(mut self, credentials: &Credentials) -> Self {
        if let Some(endpoint) = credentials.endpoint() {
            endpoint.host().clone_into(&mut self.host);
            if endpoint.port() != 0 {
                self.port = endpoint.port();
            }
            if !endpoint.database().is_empty() {
                self.database = Some(endpoint.database().to_owned());
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use claviger::Endpoint;

    use super::*;

    #[test]
    fn an_endpoint_replaces_what_it_has() {
        let place = Place {
            host: "file".into(),
            port: 5432,
            database: Some("orders".into()),
        };
        let credentials = |endpoint| Credentials::new("app", "kestrel").with_endpoint(endpoint);
        let moved = |endpoint| place.clone().with_endpoint_of(&credentials(endpoint));
        let host = moved(Endpoint::of_host("secret"));
        assert_eq!((host.host.as_str(), host.port), ("secret", 5432));
        assert_eq!(host.database.as_deref(), Some("orders"));
        let all = moved(Endpoint::new("secret", 6543, "billing"));
        assert_eq!((all.port, all.database.as_deref()), (6543, Some("billing")));
        let none = place
            .clone()
            .with_endpoint_of(&Credentials::new("app", "kestrel"));
        assert_eq!(none, place);
    }
}
