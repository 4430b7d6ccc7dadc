//! Settings of a session, checked before any request.

use std::path::PathBuf;
use std::time::Duration;

use claviger::error::ProviderError;

use super::VaultSession;
use crate::api::{Api, Settings};
use crate::auth::Auth;

/// Default timeout of a request: a third of a fetch's deadline of 30 s.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Builds a [`VaultSession`] with settings other than the defaults.
///
/// ```no_run
/// use std::time::Duration;
/// use claviger_vault::{Auth, VaultSession};
///
/// let session = VaultSession::builder("https://vault.internal:8200", Auth::kubernetes("orders"))
///     .with_namespace("team/orders")
///     .with_ca_file("/etc/ssl/vault-ca.pem")
///     .with_timeout(Duration::from_secs(5))
///     .build()?;
/// # Ok::<_, claviger::error::ProviderError>(())
/// ```
#[derive(Debug)]
#[must_use = "call `build` to make the session"]
pub struct VaultSessionBuilder {
    settings: Settings,
    auth: Auth,
}

impl VaultSessionBuilder {
    pub(super) fn new(address: String, auth: Auth) -> Self {
        Self {
            settings: Settings {
                address,
                namespace: None,
                ca_file: None,
                timeout: TIMEOUT,
                plain_http: false,
            },
            auth,
        }
    }

    /// Sets the namespace, such as `team/orders`. Default: none. Vault's community edition ignores
    /// it silently.
    pub fn with_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.settings.namespace = Some(namespace.into());
        self
    }

    /// Sets a file of PEM certificates whose authorities are trusted besides those of the system.
    /// Comments in it may have any encoding. [`build`](Self::build) reads it once. Default: none.
    pub fn with_ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.ca_file = Some(path.into());
        self
    }

    /// Sets the timeout of one request. Default: 10 s. A fetch may need two or three requests, and
    /// its deadline is 30 s by default.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// Allows tokens and secrets to be sent unencrypted to an `http://` address of another machine.
    /// Anyone on the network path can read them and impersonate Vault. So can a proxy of
    /// `HTTP_PROXY` or `ALL_PROXY`. Default: such an address is an error. Addresses of this machine
    /// are always allowed.
    pub fn with_danger_plain_http(mut self) -> Self {
        self.settings.plain_http = true;
        self
    }

    /// Checks the settings and makes the session. Sends no request, and reads nothing from the
    /// environment but the proxy variables.
    ///
    /// `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` apply to https addresses: the proxy gets host and
    /// port, and TLS passes through it to Vault. Addresses of this machine are never reached by a
    /// proxy.
    ///
    /// # Errors
    /// `Misconfigured`, naming the setting and what would be right:
    /// - "address": more than scheme, host and port, or an `http://` address of another machine
    /// - "namespace": empty or not visible ASCII
    /// - "ca_file": not readable, or without a PEM certificate
    /// - "timeout": zero
    /// - "token", "role", "role_id", "secret_id", "jwt" and "mount": an invalid value of [`Auth`]
    pub fn build(self) -> Result<VaultSession, ProviderError> {
        self.auth.validate()?;
        Ok(VaultSession::from_parts(
            Api::new(self.settings)?,
            self.auth,
        ))
    }
}
