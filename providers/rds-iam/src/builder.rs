//! Settings of a provider, checked before anything is signed.

use std::fmt;
use std::time::Duration;

use aws_types::SdkConfig;
use claviger::error::ProviderError;
use claviger::lease::OldConnections;
use claviger_aws::{RegionSettings, Tokens, check_user, misconfigured};

use crate::host::Host;
use crate::provider::{RdsIam, connect_request};
use crate::region;

/// Builds an [`RdsIam`] with settings other than the defaults.
///
/// ```
/// # async fn provider() -> Result<(), claviger::error::ProviderError> {
/// use claviger_rds_iam::RdsIam;
///
/// let aws = aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await;
/// // This host name does not contain the region.
/// let provider = RdsIam::builder(&aws, "db.internal", 5432, "orders_app")
///     .with_region("eu-west-1")
///     .build()?;
/// # drop(provider);
/// # Ok(())
/// # }
/// ```
#[must_use = "call `build` to make the provider"]
pub struct RdsIamBuilder {
    sdk: SdkConfig,
    host: String,
    port: u16,
    user: String,
    region: Option<String>,
    lifetime: Duration,
}

impl RdsIamBuilder {
    pub(crate) fn new(
        sdk: &SdkConfig,
        host: impl Into<String>,
        port: u16,
        user: impl Into<String>,
    ) -> Self {
        Self {
            sdk: sdk.clone(),
            host: host.into(),
            port,
            user: user.into(),
            region: None,
            lifetime: Tokens::MAX_LIFETIME,
        }
    }

    /// Sets the region of the database. Default: the region of the `SdkConfig` or of the endpoint's
    /// name. If more than one of them is set, they must agree.
    pub fn with_region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// Sets the lifetime of a token, from 3 s to 15 min. Default: 15 min, the maximum of RDS.
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
    /// `Misconfigured`, naming the setting and what would be right:
    /// - "host", "port" or "user": invalid
    /// - "region": none, or two that differ
    /// - "lifetime": out of range
    /// - "SdkConfig": without a credentials provider
    pub fn build(self) -> Result<RdsIam, ProviderError> {
        let host = Host::parse(&self.host).map_err(|problem| misconfigured("host", &problem))?;
        if self.port == 0 {
            return Err(misconfigured(
                "port",
                "is 0; set the port of the database, 5432 or 3306 by default",
            ));
        }
        check_user(&self.user)?;
        if region::is_global(host.signed()) && self.region.is_none() {
            return Err(misconfigured(
                "host",
                "is the endpoint of an Aurora global database, whose region changes at a \
                failover, and a token is valid in one region only; set the writer's regional \
                endpoint, or the current \"region\"",
            ));
        }
        let region = RegionSettings::new("database", "RdsIam::builder(…).with_region(…)")
            .with_place("the caller", self.region.as_deref())
            .with_place("the SdkConfig", self.sdk.region().map(AsRef::as_ref))
            .with_place(
                "the endpoint's name",
                region::region_of_endpoint(host.signed()),
            )
            .resolve()?;
        let request = connect_request(&host, self.port, region, self.user);
        let tokens = Tokens::new(&self.sdk, request, self.lifetime, OldConnections::Keep)?;
        Ok(RdsIam::from_tokens(tokens))
    }
}

impl fmt::Debug for RdsIamBuilder {
    /// Leaves out an invalid host, which may be a URL with a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = Host::parse(&self.host);
        f.debug_struct("RdsIamBuilder")
            .field("host", &host.as_ref().map_or("not a host", Host::written))
            .field("port", &self.port)
            .field("user", &self.user)
            .field("region", &self.region)
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}
