//! Settings of a KV provider.

use claviger::error::ProviderError;
use claviger::lease::OldConnections;
use parking_lot::Mutex;

use super::VaultKv;
use crate::path::{MountPath, misconfigured};
use crate::session::VaultSession;

/// Builds a [`VaultKv`] with settings other than the defaults.
///
/// ```
/// use claviger_vault::{Auth, VaultKv, VaultSession};
///
/// # fn provider() -> Result<VaultKv, claviger::error::ProviderError> {
/// let auth = Auth::token_file("/run/vault/token");
/// let session = VaultSession::new("https://vault.internal:8200", auth)?;
/// // {"login": "orders", "pw": "s3cret"}
/// let provider = VaultKv::builder(&session, "secret", "prod/orders-db")
///     .with_user_key("login")
///     .with_password_key("pw")
///     .build()?;
/// # Ok(provider)
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "call `build` to make the provider"]
pub struct VaultKvBuilder {
    session: VaultSession,
    mount: String,
    path: String,
    user_key: String,
    password_key: String,
    old_connections: OldConnections,
}

impl VaultKvBuilder {
    pub(super) fn new(session: &VaultSession, mount: String, path: String) -> Self {
        Self {
            session: session.clone(),
            mount,
            path,
            user_key: "username".to_owned(),
            password_key: "password".to_owned(),
            old_connections: OldConnections::Drain,
        }
    }

    /// Sets the key of the user. Default: `username`.
    pub fn with_user_key(mut self, key: impl Into<String>) -> Self {
        self.user_key = key.into();
        self
    }

    /// Sets the key of the password. Default: `password`.
    pub fn with_password_key(mut self, key: impl Into<String>) -> Self {
        self.password_key = key.into();
        self
    }

    /// Sets what is done with open connections once a newer version is current. Default:
    /// [`OldConnections::Drain`].
    pub fn with_old_connections(mut self, old_connections: OldConnections) -> Self {
        self.old_connections = old_connections;
        self
    }

    /// Checks the settings and makes the provider. Sends no request.
    ///
    /// # Errors
    /// `Misconfigured`, naming "mount", "path", "user_key" or "password_key".
    pub fn build(self) -> Result<VaultKv, ProviderError> {
        for (setting, key) in [
            ("user_key", &self.user_key),
            ("password_key", &self.password_key),
        ] {
            if key.is_empty() {
                return Err(misconfigured(
                    setting,
                    "set the name of a key of the secret",
                ));
            }
        }
        let secret = MountPath::new(self.mount, "path", self.path)?;
        Ok(VaultKv {
            user: self.session.user(),
            session: self.session,
            secret,
            user_key: self.user_key,
            password_key: self.password_key,
            old_connections: self.old_connections,
            metadata_denied: Mutex::default(),
        })
    }
}
