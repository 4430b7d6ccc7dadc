//! AWS's configuration, which all providers for AWS share.

use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use tokio::time::{Instant, timeout_at};

use crate::error::ConfigError;
use crate::schema::{File, ProviderSettings};

/// The supervisor's default start deadline.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// Time after which a start that still waits logs its reason, within a second.
const LOG_AFTER: Duration = Duration::from_millis(900);

/// Stands for a region that only the environment has.
const ANY_REGION: &str = "us-east-1";

/// Returns a configuration without credentials, for a check of settings. The region may be set only
/// in the environment of the service.
pub(crate) fn without_credentials(file: &File) -> SdkConfig {
    let region = file.aws.region.as_deref().unwrap_or(ANY_REGION);
    let config = SdkConfig::builder().behavior_version(BehaviorVersion::latest());
    config.region(Region::new(region.to_owned())).build()
}

/// Loads AWS's configuration, if a provider needs it. If no region is set, this requests the
/// region of this machine.
///
/// # Errors
/// The region was not found within the start deadline.
pub(crate) async fn load(origin: &str, file: &File) -> Result<Option<SdkConfig>, ConfigError> {
    let is_aws = |provider: &ProviderSettings| {
        matches!(
            provider,
            ProviderSettings::RdsIam(_)
                | ProviderSettings::ElasticacheIam(_)
                | ProviderSettings::SecretsManager(_)
        )
    };
    if !file.providers.values().any(is_aws) && !file.pools.values().any(|pool| pool.aws_iam_auth) {
        return Ok(None);
    }
    let mut loader = aws_config::defaults(BehaviorVersion::latest());
    if let Some(region) = &file.aws.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(profile) = &file.aws.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(url) = &file.aws.endpoint_url {
        loader = loader.endpoint_url(url);
    }
    let deadline = file.supervisor.start_deadline;
    let deadline = deadline.map_or(START_DEADLINE, |deadline| deadline.0);
    let began = Instant::now();
    let mut loading = std::pin::pin!(loader.load());
    if deadline > LOG_AFTER {
        if let Ok(loaded) = timeout_at(began + LOG_AFTER, loading.as_mut()).await {
            return Ok(Some(loaded));
        }
        let left = Duration::from_secs((deadline - LOG_AFTER).as_secs());
        let left = humantime::format_duration(left);
        tracing::warn!(
            fails_in = %left,
            reason = "no region is set, and this machine's metadata service has not returned one",
            "start still waits for the configuration of AWS"
        );
    }
    let loaded = timeout_at(began + deadline, loading).await;
    loaded.map(Some).map_err(|_| {
        let within = humantime::format_duration(deadline);
        let message = format!(
            "is missing, and this machine's metadata service returned none within {within}; give \
             one such as `eu-west-1`"
        );
        ConfigError::one(origin, "aws.region", message)
    })
}
