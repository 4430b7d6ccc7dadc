//! Addresses, databases, TLS and timeouts of a pool.

use std::time::Duration;

use crate::classify::is_unreachable;
use claviger::error::{ConnectError, ConnectErrorKind};
use claviger::{Credentials, Endpoint};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    ProtocolVersion, RedisConnectionInfo,
};

/// Returns the error of a setting, which names the field and a valid value.
pub(crate) fn misconfigured(field: &str, problem: impl std::fmt::Display) -> ConnectError {
    ConnectError::new(
        ConnectErrorKind::Misconfigured,
        format!("{field} {problem}"),
    )
}

/// Parses an address. Its user and password are ignored.
pub(crate) fn parse(address: impl IntoConnectionInfo) -> Result<ConnectionInfo, ConnectError> {
    // The error of a URL does not contain it.
    let info = address.into_connection_info().map_err(|error| {
        let problem = format_args!(
            "is invalid: {error}; write redis://host:6379/0, or rediss://host:6379/0 for TLS, \
            with a port from 1 to 65535"
        );
        misconfigured("address", problem)
    })?;
    let problem = match info.addr() {
        ConnectionAddr::TcpTls { insecure: true, .. } => {
            "must not end with #insecure: a certificate is always verified"
        }
        ConnectionAddr::TcpTls { .. } if cfg!(not(feature = "tls")) => {
            "with TLS needs the feature `tls` of claviger-redis"
        }
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            if let Some(problem) = Endpoint::server(host, *port).host_problem() {
                return Err(misconfigured("address: the host", problem));
            }
            if *port == 0 {
                "has port 0; give the server's, from 1 to 65535, usually 6379"
            } else {
                return Ok(without_credentials(info));
            }
        }
        _ => return Ok(without_credentials(info)),
    };
    Err(misconfigured("address", problem))
}

/// Removes user and password, and sets RESP3. Only with RESP3, redis-rs returns the server's error
/// of a login and reports the end of a connection.
fn without_credentials(info: ConnectionInfo) -> ConnectionInfo {
    let given = info.redis_settings();
    let settings = RedisConnectionInfo::default()
        .set_db(given.db())
        .set_protocol(ProtocolVersion::RESP3);
    info.set_redis_settings(settings)
}

/// Settings of every login.
#[derive(Clone, Debug)]
pub struct Logins {
    /// At least one; more than one for a cluster.
    pub(crate) nodes: Vec<ConnectionInfo>,
    #[cfg(feature = "tls")]
    pub(crate) certificates: Option<redis::TlsCertificates>,
    pub(crate) connection_timeout: Duration,
    pub(crate) response_timeout: Option<Duration>,
}

impl Logins {
    pub(crate) fn new(nodes: Vec<ConnectionInfo>) -> Self {
        Self {
            nodes,
            #[cfg(feature = "tls")]
            certificates: None,
            connection_timeout: Duration::from_secs(1),
            response_timeout: Some(Duration::from_millis(500)),
        }
    }

    /// Rejects timeouts of zero, with which each connect or command would fail.
    pub(crate) fn check_timeouts(&self) -> Result<(), ConnectError> {
        if self.connection_timeout.is_zero() {
            return Err(misconfigured(
                "connection_timeout",
                "is 0s; give at least a millisecond, such as 1 s",
            ));
        }
        if self.response_timeout == Some(Duration::ZERO) {
            return Err(misconfigured(
                "response_timeout",
                "is 0s; give at least a millisecond, such as 500 ms, or None for no limit",
            ));
        }
        Ok(())
    }

    /// Returns whether each address is one of TLS, or a socket of this machine.
    pub(crate) fn hides_tokens(&self) -> bool {
        let mut nodes = self.nodes.iter();
        nodes.all(|node| !matches!(node.addr(), ConnectionAddr::Tcp(..)))
    }

    /// Returns the settings for these credentials: their endpoint takes precedence.
    pub(crate) fn at_endpoint_of(&self, credentials: &Credentials) -> Result<Self, ConnectError> {
        let mut logins = self.clone();
        let Some(endpoint) = credentials.endpoint() else {
            return Ok(logins);
        };
        if let Some(problem) = endpoint.host_problem() {
            return Err(misconfigured("endpoint: the host", problem));
        }
        let Some(first) = self.nodes.first() else {
            return Ok(logins);
        };
        let host = endpoint.host().to_owned();
        let own_port = Some(endpoint.port()).filter(|port| *port != 0);
        let address = match first.addr() {
            ConnectionAddr::TcpTls {
                port, tls_params, ..
            } => ConnectionAddr::TcpTls {
                host,
                port: own_port.unwrap_or(*port),
                insecure: false,
                tls_params: tls_params.clone(),
            },
            ConnectionAddr::Tcp(_, port) => ConnectionAddr::Tcp(host, own_port.unwrap_or(*port)),
            _ => ConnectionAddr::Tcp(host, own_port.unwrap_or(DEFAULT_PORT)),
        };
        let mut node = first.clone().set_addr(address);
        if !endpoint.database().is_empty() {
            let number = endpoint.database().parse().ok().filter(|db| *db >= 0);
            let number = number.ok_or_else(|| {
                misconfigured(
                    "endpoint: the database",
                    "is not a number; give 0, 1, 2 … or none",
                )
            })?;
            let settings = node.redis_settings().clone().set_db(number);
            node = node.set_redis_settings(settings);
        }
        logins.nodes = vec![node];
        Ok(logins)
    }

    /// Returns the first address, for messages and to distinguish servers.
    pub(crate) fn server(&self) -> String {
        self.nodes
            .first()
            .map(|node| node.addr().to_string())
            .unwrap_or_default()
    }

    pub(crate) fn config(&self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connection_timeout))
            .set_response_timeout(self.response_timeout)
    }

    /// Logs in to the first node that can be reached.
    pub(crate) async fn verify_any(&self, credentials: &Credentials) -> redis::RedisResult<()> {
        let none = (redis::ErrorKind::InvalidClientConfig, "no address");
        let mut result = Err(none.into());
        for node in &self.nodes {
            result = self.verify(node, credentials).await;
            if !matches!(&result, Err(error) if is_unreachable(error)) {
                break;
            }
        }
        result
    }

    /// Logs in to a node with a connection of its own, sends `PING` and closes it.
    async fn verify(
        &self,
        node: &ConnectionInfo,
        credentials: &Credentials,
    ) -> redis::RedisResult<()> {
        let settings = node
            .redis_settings()
            .clone()
            .set_username(credentials.user())
            .set_password(credentials.expose_password());
        let client = Client::open(node.clone().set_redis_settings(settings))?;
        let config = self.config();
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        redis::cmd("PING").exec_async(&mut connection).await
    }
}

const DEFAULT_PORT: u16 = 6_379;

/// Makes rustls use aws-lc-rs in this process, unless the service has set another provider.
/// redis-rs uses the default of the process, and panics without one.
#[cfg(feature = "tls")]
pub(crate) fn choose_cryptography() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Fails if another thread has set one meanwhile.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }
}

#[cfg(feature = "tls")]
impl Logins {
    pub(crate) fn uses_tls(&self) -> bool {
        let mut nodes = self.nodes.iter();
        nodes.any(|node| matches!(node.addr(), ConnectionAddr::TcpTls { .. }))
    }

    /// Applies certificates to the addresses.
    pub(crate) fn set_certificates(
        &mut self,
        certificates: redis::TlsCertificates,
    ) -> Result<(), ConnectError> {
        for node in &mut self.nodes {
            let client =
                Client::build_with_tls(node.clone(), certificates.clone()).map_err(|error| {
                    misconfigured("certificates", format_args!("are invalid: {error}"))
                })?;
            *node = client.get_connection_info().clone();
        }
        self.certificates = Some(certificates);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "tests")]

    use super::*;
    use crate::RedisPools;
    use claviger::pool::PoolFactory;
    use claviger::{Lease, Revision};

    #[test]
    fn an_invalid_address_is_an_error_with_the_right_form() {
        for address in [
            "localhost:6379",
            "http://cache:6379",
            "redis://u:CANARY@cache:99999",
            "cache",
            "",
        ] {
            let error = RedisPools::new(address).map(drop).expect_err(address);
            assert_eq!(error.kind(), ConnectErrorKind::Misconfigured, "{error}");
            let text = error.to_string();
            for part in ["address", "redis://host:6379/0", "rediss://", "1 to 65535"] {
                assert!(text.contains(part), "{address}: {text}");
            }
            assert!(!text.contains("CANARY"), "{text}");
        }
    }

    #[test]
    fn a_timeout_of_zero_is_an_error_at_registration() {
        let lease = Lease::new(Credentials::new("app", "s3cret"), Revision::new("1"));
        let pools = || RedisPools::new("redis://cache:6379").expect("a valid address");
        assert!(pools().check(&lease).is_ok());
        assert!(pools().with_response_timeout(None).check(&lease).is_ok());
        for (pools, field) in [
            (
                pools().with_connection_timeout(Duration::ZERO),
                "connection_timeout is 0s; give",
            ),
            (
                pools().with_response_timeout(Some(Duration::ZERO)),
                "response_timeout is 0s; give",
            ),
        ] {
            let error = pools.check(&lease).expect_err(field);
            assert_eq!(error.kind(), ConnectErrorKind::Misconfigured, "{error}");
            assert!(error.to_string().contains(field), "{error}");
        }
    }
}
