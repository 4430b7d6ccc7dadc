//! Settings of a provider, checked before anything is signed.

use std::fmt;
use std::time::Duration;

use aws_types::SdkConfig;
use claviger::error::ProviderError;
use claviger_aws::{RegionSettings, Tokens, check_user, misconfigured};

use crate::cache::{CacheKind, CacheName};
use crate::provider::{CONNECTION_LIFETIME, ElastiCacheIam, OLD_CONNECTIONS};

/// Builds an [`ElastiCacheIam`] with settings other than the defaults.
///
/// ```
/// # async fn provider() -> Result<(), claviger::error::ProviderError> {
/// use claviger_elasticache_iam::{CacheKind, ElastiCacheIam};
///
/// let aws = aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await;
/// // For an environment that sets no region.
/// let provider = ElastiCacheIam::builder(&aws, CacheKind::MemoryDb, "orders", "orders-app")
///     .with_region("eu-west-1")
///     .build()?;
/// # drop(provider);
/// # Ok(())
/// # }
/// ```
#[must_use = "call `build` to make the provider"]
pub struct ElastiCacheIamBuilder {
    sdk: SdkConfig,
    kind: CacheKind,
    name: String,
    user: String,
    region: Option<String>,
    lifetime: Duration,
}

impl ElastiCacheIamBuilder {
    pub(crate) fn new(sdk: &SdkConfig, kind: CacheKind, name: String, user: String) -> Self {
        Self {
            sdk: sdk.clone(),
            kind,
            name,
            user,
            region: None,
            lifetime: Tokens::MAX_LIFETIME,
        }
    }

    /// Sets the region of the cache. Default: the region of the `SdkConfig`. If both are set, they
    /// must agree.
    pub fn with_region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// Sets the lifetime of a token, from 3 s to 15 min. Default: 15 min, the maximum of AWS.
    ///
    /// It counts in whole seconds from the second in which the token is signed. A token that is
    /// signed at 0:00.7 is valid until 15:00.0, and the next one is signed at 13:00. Shorter
    /// lifetimes are for tests: with 6 s it is valid until 0:06.0, and the next one is signed 1 s
    /// before.
    pub fn with_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Checks the settings and makes the provider. Sends no request.
    ///
    /// # Errors
    /// `Misconfigured`, naming the setting and a valid value:
    /// - "name": not the name of a cache; its endpoint, for example
    /// - "user": invalid
    /// - "region": none, or two that differ
    /// - "lifetime": out of range
    /// - "SdkConfig": without a credentials provider
    pub fn build(self) -> Result<ElastiCacheIam, ProviderError> {
        let name =
            CacheName::parse(&self.name).map_err(|problem| misconfigured("name", &problem))?;
        check_user(&self.user)?;
        let region = RegionSettings::new("cache", "ElastiCacheIam::builder(…).with_region(…)")
            .with_place("the caller", self.region.as_deref())
            .with_place("the SdkConfig", self.sdk.region().map(AsRef::as_ref))
            .resolve()?;
        let request = self.kind.connect_request(name, region, self.user);
        let tokens = Tokens::new(&self.sdk, request, self.lifetime, OLD_CONNECTIONS)?
            .with_connection_lifetime(CONNECTION_LIFETIME);
        Ok(ElastiCacheIam::from_tokens(self.kind, tokens))
    }
}

impl fmt::Debug for ElastiCacheIamBuilder {
    /// Leaves out an invalid name, which may be a URL with a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = CacheName::parse(&self.name);
        f.debug_struct("ElastiCacheIamBuilder")
            .field("kind", &self.kind)
            .field(
                "name",
                &name.as_ref().map_or("not a name", CacheName::as_str),
            )
            .field("user", &self.user)
            .field("region", &self.region)
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}
