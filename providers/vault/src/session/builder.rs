//! What a session is made of.

use std::path::PathBuf;
use std::time::Duration;

use claviger::ProviderError;

use super::VaultSession;
use crate::api::{Api, Settings};
use crate::auth::Auth;

/// Long for a server that answers in milliseconds, and a third of a fetch's deadline of 30 s.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A [`VaultSession`] to be made.
#[derive(Debug)]
#[must_use = "a session is made by `build`"]
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

    /// The namespace, as `team/orders`. Vault's community edition ignores it without a word.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.settings.namespace = Some(namespace.into());
        self
    }

    /// A file of PEM certificates whose authorities are trusted beside the system's. Comments in it
    /// may have any encoding. Read once, by [`build`](Self::build).
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.ca_file = Some(path.into());
        self
    }

    /// How long one request may take; 10 s by default. A fetch may need two or three, and its
    /// deadline is 30 s by default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// Allows tokens and secrets to go unencrypted to an `http://` address of another machine.
    /// Everybody in between can read them, and impersonate Vault, a proxy of `HTTP_PROXY` or
    /// `ALL_PROXY` included. Default: such an address is an
    /// error; addresses of this machine need no permission.
    pub fn danger_plain_http(mut self) -> Self {
        self.settings.plain_http = true;
        self
    }

    /// Makes the session. Nothing is asked of the server yet, and nothing comes from the
    /// environment but the proxy variables.
    ///
    /// `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` hold for https addresses: the proxy sees host and
    /// port, and TLS goes through it to Vault. Addresses of this machine are never reached by a
    /// proxy.
    ///
    /// # Errors
    /// `Misconfigured`, naming the setting and what would be right: an address that is more than
    /// scheme, host and port, or an `http://` one of another machine; a CA file that cannot be read
    /// or is none; a token, role or mount that cannot be right.
    pub fn build(self) -> Result<VaultSession, ProviderError> {
        self.auth.validate()?;
        Ok(VaultSession::from_parts(
            Api::new(self.settings)?,
            self.auth,
        ))
    }
}
