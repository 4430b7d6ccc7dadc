//! Settings of pools with a shared connection.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use claviger::error::ConnectError;
use claviger::pool::{CheckPolicy, HandoverPolicy, PoolSettings};
use redis::IntoConnectionInfo;

use crate::address::{self, Logins};
use crate::kind::{Kind, Multiplexed};

/// Factory of pools in which all callers share one connection.
///
/// ```no_run
/// use claviger::Supervisor;
/// use claviger::lease::OldConnections;
/// use claviger::provider::static_credentials;
/// use claviger::Credentials;
/// use claviger_redis::RedisPools;
/// use claviger_redis::redis::AsyncCommands;
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let supervisor = Supervisor::start();
/// let provider = static_credentials(Credentials::new("orders", "s3cret"));
/// let credentials = supervisor.add_provider("cache-credentials", provider).await?;
/// let pools = RedisPools::new("rediss://cache.internal:6379")?;
/// let cache = supervisor.add_pool("cache", &credentials, pools).await?;
///
/// let mut connection = cache.get().await?;
/// connection.set::<_, _, ()>("greeting", "hello").await?;
/// # Ok(())
/// # }
/// ```
pub struct RedisPools<K: Kind = Multiplexed> {
    pub(crate) logins: Logins,
    pub(crate) settings: PoolSettings,
    pub(crate) tokens_in_clear: bool,
    pub(crate) kind: PhantomData<fn() -> K>,
}

impl RedisPools {
    /// Creates a factory of multiplexed connections to a server: `redis://host:port/database`,
    /// `rediss://…` with TLS, or `redis+unix://…`. User and password of a URL are ignored.
    ///
    /// The server must support RESP3: Redis 6 or newer, or Valkey.
    ///
    /// # Errors
    /// [`Misconfigured`](claviger::error::ConnectErrorKind::Misconfigured): the address is
    /// malformed, has `#insecure`, or needs the feature `tls`.
    pub fn new(address: impl IntoConnectionInfo) -> Result<Self, ConnectError> {
        Ok(Self::with_logins(Logins::new(vec![address::parse(
            address,
        )?])))
    }
}

impl<K: Kind> RedisPools<K> {
    pub(crate) fn with_logins(logins: Logins) -> Self {
        #[cfg(feature = "tls")]
        if logins.uses_tls() {
            address::choose_cryptography();
        }
        let mut settings = PoolSettings::new(1);
        settings.own_queue = true;
        settings.reauthenticates = true;
        settings.shares_connections = true;
        // Ready before the first call.
        settings.warm_connections = 1;
        Self {
            logins,
            settings,
            tokens_in_clear: false,
            kind: PhantomData,
        }
    }

    /// Sets the time for which a call waits for a connection, across all generations. Default:
    /// 30 s.
    #[must_use]
    pub fn with_acquire_timeout(mut self, timeout: Duration) -> Self {
        self.settings.acquire_timeout = timeout;
        self
    }

    /// Sets whether the open connection authenticates again, or is replaced. Default: as the lease
    /// specifies.
    ///
    /// With [`HandoverPolicy::AlwaysInPlace`] it authenticates again after each rotation, also
    /// where the lease specifies [`OldConnections::Drain`](claviger::lease::OldConnections::Drain).
    #[must_use]
    pub fn with_handover_policy(mut self, policy: HandoverPolicy) -> Self {
        self.settings.policy = policy;
        self
    }

    /// Sets when the connection is checked by `PING` before a call gets it. Default: only while
    /// credentials are rejected, old connections drain, or after a command that timed out. redis-rs
    /// reports a connection that the server closes by itself.
    #[must_use]
    pub fn with_checks(mut self, checks: CheckPolicy) -> Self {
        self.settings.checks = checks;
        self
    }

    /// Sets the timeout of a connect with its login. Default: 1 s, as in redis-rs. A verification
    /// ends after its own deadline, 5 s by default.
    ///
    /// Zero is an error at registration.
    #[must_use]
    pub fn with_connection_timeout(mut self, timeout: Duration) -> Self {
        self.logins.connection_timeout = timeout;
        self
    }

    /// Sets the timeout of a command. Default: 500 ms, as in redis-rs. `None`: no limit, which
    /// blocking commands such as `BLPOP` need. They also delay all other commands of the
    /// connection.
    ///
    /// Zero is an error at registration.
    #[must_use]
    pub fn with_response_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.logins.response_timeout = timeout;
        self
    }

    /// Trusts only the CA certificates in this PEM text. Default: the system's.
    ///
    /// # Errors
    /// [`Misconfigured`](claviger::error::ConnectErrorKind::Misconfigured): the text has no
    /// certificate, or the address is not one of TLS.
    #[cfg(feature = "tls")]
    pub fn with_ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Result<Self, ConnectError> {
        let pem = pem.into();
        if !contains(&pem, b"-----BEGIN CERTIFICATE-----") {
            return Err(address::misconfigured(
                "ca_pem",
                "contains no certificate; give the content of a PEM file",
            ));
        }
        let mut certificates = self.certificates();
        certificates.root_cert = Some(pem);
        self.logins.set_certificates(certificates)?;
        Ok(self)
    }

    /// Presents this certificate to the server, before the login by user and password. Both
    /// arguments are PEM texts. Default: no certificate.
    ///
    /// # Errors
    /// [`Misconfigured`](claviger::error::ConnectErrorKind::Misconfigured): a text is malformed, or
    /// the address is not one of TLS.
    #[cfg(feature = "tls")]
    pub fn with_client_certificate(
        mut self,
        certificate_pem: impl Into<Vec<u8>>,
        key_pem: impl Into<Vec<u8>>,
    ) -> Result<Self, ConnectError> {
        let mut certificates = self.certificates();
        certificates.client_tls = Some(redis::ClientTlsConfig {
            client_cert: certificate_pem.into(),
            client_key: key_pem.into(),
        });
        self.logins.set_certificates(certificates)?;
        Ok(self)
    }

    /// Sends tokens without TLS, for a connection that is encrypted by other means: a tunnel, a
    /// service mesh, a proxy on this machine. Default: an error before the first connect.
    #[must_use]
    pub fn with_tokens_in_clear(mut self) -> Self {
        self.tokens_in_clear = true;
        self
    }

    #[cfg(feature = "tls")]
    fn certificates(&self) -> redis::TlsCertificates {
        let none = redis::TlsCertificates {
            client_tls: None,
            root_cert: None,
        };
        self.logins.certificates.clone().unwrap_or(none)
    }
}

#[cfg(feature = "tls")]
fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

impl<K: Kind> fmt::Debug for RedisPools<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisPools")
            .field("kind", &K::NAME)
            .field("server", &self.logins.server())
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
