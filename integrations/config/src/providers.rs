//! Providers from their settings.

#[cfg(any(
    feature = "elasticache-iam",
    feature = "rds-iam",
    feature = "secrets-manager"
))]
use aws_config::{Region, SdkConfig};
use claviger::error::ProviderError;
use claviger::{Credentials, Provider, static_credentials};

use crate::any_provider::AnyProvider;
use crate::error::ConfigError;
use crate::resolved_pool::ResolvedPool;
#[cfg(feature = "elasticache-iam")]
use crate::schema::CacheSettings;
#[cfg(feature = "file")]
use crate::schema::FileSettings;
#[cfg(feature = "rds-iam")]
use crate::schema::RdsSettings;
#[cfg(feature = "secrets-manager")]
use crate::schema::SecretSettings;
use crate::schema::{File, ProviderSettings};
use crate::values::Secret;

/// Problem of a provider that only the service has.
pub(crate) const ADDED_BY_SERVICE: &str = "is added by the service; it is unknown here";

/// Creates providers, which share AWS's configuration and Vault's sessions.
pub(crate) struct Providers<'f> {
    origin: &'f str,
    #[cfg(any(
        feature = "elasticache-iam",
        feature = "rds-iam",
        feature = "secrets-manager"
    ))]
    aws: Result<Option<SdkConfig>, ConfigError>,
    #[cfg(feature = "vault")]
    sessions: crate::vault::Sessions,
}

impl<'f> Providers<'f> {
    /// Loads AWS's configuration and creates Vault's sessions. Logs in to neither. An error is that
    /// of the providers that need them.
    #[cfg_attr(
        not(any(
            feature = "elasticache-iam",
            feature = "rds-iam",
            feature = "secrets-manager",
            feature = "vault"
        )),
        expect(unused_variables, reason = "no kind with a backend is enabled")
    )]
    pub(crate) async fn new(origin: &'f str, file: &File) -> Self {
        Self {
            origin,
            #[cfg(any(
                feature = "elasticache-iam",
                feature = "rds-iam",
                feature = "secrets-manager"
            ))]
            aws: crate::aws::load(origin, file).await,
            #[cfg(feature = "vault")]
            sessions: crate::vault::Sessions::new(origin, &file.vaults),
        }
    }

    /// Creates builders for a check of settings. AWS has no credentials, and Vault no certificates.
    #[cfg_attr(
        not(any(
            feature = "elasticache-iam",
            feature = "rds-iam",
            feature = "secrets-manager",
            feature = "vault"
        )),
        expect(unused_variables, reason = "no kind with a backend is enabled")
    )]
    pub(crate) fn for_check(file: &'f File) -> Self {
        Self {
            origin: "",
            #[cfg(any(
                feature = "elasticache-iam",
                feature = "rds-iam",
                feature = "secrets-manager"
            ))]
            aws: Ok(Some(crate::aws::without_credentials(file))),
            #[cfg(feature = "vault")]
            sessions: crate::vault::Sessions::for_check(&file.vaults),
        }
    }

    /// Creates a provider of the file. Sends no request.
    ///
    /// # Errors
    /// A setting is invalid.
    pub(crate) fn of_file(
        &self,
        name: &str,
        settings: &ProviderSettings,
    ) -> Result<AnyProvider, ConfigError> {
        let key = &format!("providers.{name}");
        match settings {
            ProviderSettings::Static(settings) => {
                let key = &format!("{key}.password");
                let credentials = self.fixed(&settings.user, &settings.password, key)?;
                self.valid(key, Ok(static_credentials(credentials)))
            }
            #[cfg(feature = "file")]
            ProviderSettings::File(settings) => self.valid(key, file(settings)),
            #[cfg(feature = "rds-iam")]
            ProviderSettings::RdsIam(settings) => {
                let provider = rds_iam(self.sdk(key)?, settings);
                self.valid(key, provider)
            }
            #[cfg(feature = "elasticache-iam")]
            ProviderSettings::ElasticacheIam(settings) => {
                let provider = elasticache_iam(self.sdk(key)?, settings);
                self.valid(key, provider)
            }
            #[cfg(feature = "secrets-manager")]
            ProviderSettings::SecretsManager(settings) => {
                let provider = secrets_manager(self.sdk(key)?, settings);
                let provider = self.valid(key, provider);
                // The table has no key for the region.
                provider.map_err(|error| error.with_key(&format!("{key}.region"), "aws.region"))
            }
            #[cfg(feature = "vault")]
            ProviderSettings::VaultDynamic(settings) => {
                let session = self.sessions.get(settings.vault.as_deref(), key)?;
                self.valid(key, crate::vault::dynamic(session, settings))
            }
            #[cfg(feature = "vault")]
            ProviderSettings::VaultStatic(settings) => {
                let session = self.sessions.get(settings.vault.as_deref(), key)?;
                self.valid(key, crate::vault::static_role(session, settings))
            }
            #[cfg(feature = "vault")]
            ProviderSettings::VaultKv(settings) => {
                let session = self.sessions.get(settings.vault.as_deref(), key)?;
                self.valid(key, crate::vault::kv(session, settings))
            }
            ProviderSettings::Service(_) => {
                Err(ConfigError::one(self.origin, key, ADDED_BY_SERVICE))
            }
            #[cfg(not(all(
                feature = "elasticache-iam",
                feature = "file",
                feature = "rds-iam",
                feature = "secrets-manager",
                feature = "vault"
            )))]
            _ => Err(self.without_feature(key)),
        }
    }

    /// Returns the session of a provider of Vault.
    #[cfg(feature = "vault")]
    pub(crate) fn vault_session(
        &self,
        settings: &ProviderSettings,
    ) -> Option<claviger_vault::VaultSession> {
        self.sessions.of_provider(settings)
    }

    /// Creates the provider of a pool whose table contains the credentials.
    ///
    /// # Errors
    /// As [`of_file`](Self::of_file).
    pub(crate) fn of_pool(&self, pool: &ResolvedPool) -> Result<AnyProvider, ConfigError> {
        let user = pool.user().unwrap_or_else(|| "default".to_owned());
        if pool.settings.aws_iam_auth {
            #[cfg(feature = "rds-iam")]
            {
                let key = &pool.key("aws_iam_auth");
                let settings = RdsSettings {
                    host: pool.host().unwrap_or_default(),
                    port: pool.port(),
                    user,
                    region: pool.settings.region.clone(),
                };
                let provider = rds_iam(self.sdk(key)?, &settings);
                return self.valid(key, provider);
            }
        }
        let key = &pool.key("password");
        match pool.password() {
            #[cfg(feature = "file")]
            Some(Secret::File(path)) => {
                let provider = claviger_file::FileProvider::password(path, user);
                self.valid(key, provider)
            }
            Some(password) => {
                let credentials = self.fixed(&user, &password, key)?;
                self.valid(key, Ok(static_credentials(credentials)))
            }
            None => Err(self.without_feature(key)),
        }
    }

    fn fixed(&self, user: &str, password: &Secret, key: &str) -> Result<Credentials, ConfigError> {
        let password = password
            .read()
            .map_err(|problem| ConfigError::one(self.origin, key, problem))?;
        Ok(Credentials::new(user, password))
    }

    fn valid<P: Provider<Secret = Credentials>>(
        &self,
        key: &str,
        provider: Result<P, ProviderError>,
    ) -> Result<AnyProvider, ConfigError> {
        let provider = provider.map(AnyProvider::new);
        provider.map_err(|error| {
            let table = match key.rsplit_once('.') {
                Some((pool, "aws_iam_auth" | "password")) => pool,
                _ => key,
            };
            ConfigError::of_setting(self.origin, table, key, &error)
        })
    }

    /// Returns the error of a feature that is not enabled. `check` finds it first.
    fn without_feature(&self, key: &str) -> ConfigError {
        ConfigError::one(self.origin, key, "needs a feature of claviger-config")
    }

    #[cfg(any(
        feature = "elasticache-iam",
        feature = "rds-iam",
        feature = "secrets-manager"
    ))]
    pub(crate) fn aws(&self) -> Option<&SdkConfig> {
        self.aws.as_ref().ok()?.as_ref()
    }

    #[cfg(any(
        feature = "elasticache-iam",
        feature = "rds-iam",
        feature = "secrets-manager"
    ))]
    fn sdk(&self, key: &str) -> Result<&SdkConfig, ConfigError> {
        let aws = self.aws.as_ref().map_err(Clone::clone)?;
        aws.as_ref().ok_or_else(|| self.without_feature(key))
    }
}

#[cfg(feature = "file")]
fn file(settings: &FileSettings) -> Result<claviger_file::FileProvider, ProviderError> {
    use crate::schema::FileFormat as Format;
    use claviger_file::{FileFormat, FileProvider};

    let format = match settings.format {
        Format::Json => FileFormat::Json,
        Format::Directory => FileFormat::Directory,
        Format::Url => FileFormat::Url,
        Format::Password => FileFormat::password(settings.user.clone().unwrap_or_default()),
    };
    let mut builder = FileProvider::builder(&settings.path, format);
    if let Some(key) = &settings.user_key {
        builder = builder.with_user_key(key);
    }
    if let Some(key) = &settings.password_key {
        builder = builder.with_password_key(key);
    }
    if let Some(interval) = settings.poll_interval {
        builder = builder.with_poll_interval(interval.0);
    }
    if settings.token {
        builder = builder.with_token();
    }
    builder.build()
}

#[cfg(feature = "rds-iam")]
fn rds_iam(
    sdk: &SdkConfig,
    settings: &RdsSettings,
) -> Result<claviger_rds_iam::RdsIam, ProviderError> {
    let builder = |sdk: &SdkConfig| {
        claviger_rds_iam::RdsIam::builder(sdk, &settings.host, settings.port, &settings.user)
    };
    match &settings.region {
        Some(region) => builder(&without_region(sdk)).with_region(region).build(),
        // The endpoint's name has precedence over the region of `[aws]`.
        None => match builder(&without_region(sdk)).build() {
            Err(error) if error.message().starts_with("\"region\"") => builder(sdk).build(),
            by_name => by_name,
        },
    }
}

#[cfg(feature = "elasticache-iam")]
fn elasticache_iam(
    sdk: &SdkConfig,
    settings: &CacheSettings,
) -> Result<claviger_elasticache_iam::ElastiCacheIam, ProviderError> {
    use crate::schema::CacheKind as Kind;
    use claviger_elasticache_iam::{CacheKind, ElastiCacheIam};

    let kind = match settings.cache_kind {
        Kind::Serverless => CacheKind::Serverless,
        Kind::NodeBased => CacheKind::NodeBased,
        Kind::Memorydb => CacheKind::MemoryDb,
    };
    let builder =
        |sdk: &SdkConfig| ElastiCacheIam::builder(sdk, kind, &settings.cache, &settings.user);
    match &settings.region {
        Some(region) => builder(&without_region(sdk)).with_region(region).build(),
        None => builder(sdk).build(),
    }
}

/// Returns AWS's configuration without its region, over which another one has precedence.
#[cfg(any(
    feature = "elasticache-iam",
    feature = "rds-iam",
    feature = "secrets-manager"
))]
fn without_region(sdk: &SdkConfig) -> SdkConfig {
    sdk.clone().into_builder().region(None::<Region>).build()
}

#[cfg(feature = "secrets-manager")]
fn secrets_manager(
    sdk: &SdkConfig,
    settings: &SecretSettings,
) -> Result<claviger_secrets_manager::SecretsManager, ProviderError> {
    use claviger_secrets_manager::SecretsManager;

    // A file may have secrets of several regions.
    let is_arn = settings.secret.starts_with("arn:");
    let sdk = if is_arn { &without_region(sdk) } else { sdk };
    let mut builder = SecretsManager::builder(sdk, &settings.secret);
    if let Some(user) = &settings.user {
        builder = builder.with_plain_password(user);
    }
    if let Some(key) = &settings.user_key {
        builder = builder.with_user_key(key);
    }
    if let Some(key) = &settings.password_key {
        builder = builder.with_password_key(key);
    }
    if let Some(key) = &settings.host_key {
        builder = builder.with_host_key(key);
    }
    if let Some(key) = &settings.port_key {
        builder = builder.with_port_key(key);
    }
    if let Some(key) = &settings.database_key {
        builder = builder.with_database_key(key);
    }
    if settings.endpoint_from_secret {
        builder = builder.with_endpoint_from_secret();
    }
    if settings.alternating_users {
        builder = builder.with_alternating_users();
    }
    builder.build()
}
