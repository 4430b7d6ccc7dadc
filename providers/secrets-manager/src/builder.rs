//! Settings of a provider, checked before anything is requested.

use std::fmt;

use aws_types::SdkConfig;
use claviger::error::ProviderError;
use claviger::lease::OldConnections;

use crate::api::SecretClient;
use crate::format::{Format, Keys};
use crate::provider::SecretsManager;
use crate::secret_id::{SecretId, misconfigured};

/// Builds a [`SecretsManager`] with settings other than the defaults.
///
/// ```
/// use claviger_secrets_manager::SecretsManager;
///
/// # use claviger::error::ProviderError;
/// # fn provider(aws: &aws_types::SdkConfig) -> Result<SecretsManager, ProviderError> {
/// // {"login": "orders", "pw": "s3cret", "host": "db.internal", "port": 5432}
/// let provider = SecretsManager::builder(aws, "prod/orders-db")
///     .with_user_key("login")
///     .with_password_key("pw")
///     .with_endpoint_from_secret()
///     .build()?;
/// # Ok(provider)
/// # }
/// ```
#[derive(Clone)]
#[must_use = "call `build` to make the provider"]
pub struct SecretsManagerBuilder {
    aws: SdkConfig,
    secret_id: String,
    keys: Keys,
    /// First setting that requires a JSON object.
    json_setting: Option<&'static str>,
    /// User of a secret that is the password alone.
    password_user: Option<String>,
    alternating: bool,
    old_connections: Option<OldConnections>,
}

impl SecretsManagerBuilder {
    pub(crate) fn new(aws: &SdkConfig, secret_id: String) -> Self {
        Self {
            aws: aws.clone(),
            secret_id,
            keys: Keys::default(),
            json_setting: None,
            password_user: None,
            alternating: false,
            old_connections: None,
        }
    }

    /// Reads the secret as the password alone, of this database user. A byte order mark at its
    /// beginning is left out. Default: a JSON object.
    pub fn with_plain_password(mut self, user: impl Into<String>) -> Self {
        self.password_user = Some(user.into());
        self
    }

    /// Sets the key of the user. Default: `username`.
    pub fn with_user_key(self, key: impl Into<String>) -> Self {
        self.key("user_key", key.into(), |keys| &mut keys.user)
    }

    /// Sets the key of the password. Default: `password`.
    pub fn with_password_key(self, key: impl Into<String>) -> Self {
        self.key("password_key", key.into(), |keys| &mut keys.password)
    }

    /// Sets the key of the host. Default: `host`. Read with
    /// [`with_endpoint_from_secret`](Self::with_endpoint_from_secret) only, as are the next two.
    pub fn with_host_key(self, key: impl Into<String>) -> Self {
        self.key("host_key", key.into(), |keys| &mut keys.host)
    }

    /// Sets the key of the port. Default: `port`.
    pub fn with_port_key(self, key: impl Into<String>) -> Self {
        self.key("port_key", key.into(), |keys| &mut keys.port)
    }

    /// Sets the key of the database's name. Default: `dbname`.
    pub fn with_database_key(self, key: impl Into<String>) -> Self {
        self.key("database_key", key.into(), |keys| &mut keys.database)
    }

    /// Reads host, port and database from the secret. They take precedence over the pool's connect
    /// options, and a change of them replaces the pool. Default: the pool's connect options.
    ///
    /// The port is a number, or one in quotes. Its default is that of the `engine`: 5432 for
    /// `postgres`, 3306 for `mysql` and `mariadb`. Without a database in the secret, it is that of
    /// the pool's connect options.
    pub fn with_endpoint_from_secret(mut self) -> Self {
        self.keys.endpoint = true;
        self.json_setting.get_or_insert("endpoint_from_secret");
        self
    }

    /// Declares that the secret alternates between two users: the previous user stays valid for one
    /// more rotation. Open connections are then kept ([`OldConnections::Keep`]) until the pool's
    /// `max_lifetime`. Meanwhile both users have connections in the pool.
    ///
    /// Default: one user, whose connections are drained ([`OldConnections::Drain`]).
    pub fn with_alternating_users(mut self) -> Self {
        self.alternating = true;
        self
    }

    /// Sets what is done with open connections once another version is current. Overrides the
    /// default of the rotation strategy.
    pub fn with_old_connections(mut self, old_connections: OldConnections) -> Self {
        self.old_connections = Some(old_connections);
        self
    }

    /// Checks the settings and makes the provider. Sends no request.
    ///
    /// # Errors
    /// `Misconfigured`, naming the setting:
    /// - "secret_id": neither a name nor the ARN of a secret
    /// - "region": none in the configuration or the ARN, or two that differ
    /// - "aws": without a credentials provider
    /// - "endpoint_url": not a URL
    /// - "user" and the keys: empty or with a NUL
    /// - "user_key" and any other setting of a JSON object together with a plain password
    pub fn build(self) -> Result<SecretsManager, ProviderError> {
        for (setting, key) in self.keys.settings() {
            check_text(setting, key)?;
        }
        let format = match (self.password_user, self.json_setting) {
            (None, _) => Format::Json(self.keys),
            (Some(_), Some(setting)) => {
                let problem = "has no effect on a secret that is only a password; remove it";
                return Err(misconfigured(setting, problem));
            }
            (Some(user), None) => {
                check_text("user", &user)?;
                Format::Password { user }
            }
        };
        let client = SecretClient::new(&self.aws, SecretId::parse(self.secret_id)?)?;
        let old_connections = self.old_connections.unwrap_or(if self.alternating {
            OldConnections::Keep
        } else {
            OldConnections::Drain
        });
        Ok(SecretsManager::from_settings(
            client,
            format,
            old_connections,
        ))
    }

    fn key(
        mut self,
        setting: &'static str,
        key: String,
        which: impl FnOnce(&mut Keys) -> &mut String,
    ) -> Self {
        *which(&mut self.keys) = key;
        self.json_setting.get_or_insert(setting);
        self
    }
}

impl fmt::Debug for SecretsManagerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretsManagerBuilder")
            .field("secret_id", &self.secret_id)
            .field("keys", &self.keys)
            .field("password_user", &self.password_user)
            .field("alternating", &self.alternating)
            .field("old_connections", &self.old_connections)
            .finish_non_exhaustive()
    }
}

fn check_text(setting: &str, text: &str) -> Result<(), ProviderError> {
    if text.is_empty() {
        return Err(misconfigured(setting, "is empty; set a name"));
    }
    if text.contains('\0') {
        return Err(misconfigured(setting, "has a NUL character; remove it"));
    }
    Ok(())
}
