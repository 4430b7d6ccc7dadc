//! Client of the SDK, with default timeouts.

use std::time::Duration;

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::{BehaviorVersion, Builder, Region};
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::SdkConfig;
use aws_types::service_config::ServiceConfigKey;
use claviger::error::ProviderError;

use crate::secret_id::misconfigured;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout of an operation. Includes the SDK's retries. Below the core's fetch deadline of 30 s.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(20);

/// Builds the client.
///
/// # Errors
/// `Misconfigured` for settings that would make the SDK panic.
pub(super) fn build_client(aws: &SdkConfig, region: &str) -> Result<Client, ProviderError> {
    if aws.credentials_provider().is_none() {
        let problem = "has no credentials provider; load it with aws_config::load_defaults, which \
            finds profiles, web identity and IMDS";
        return Err(misconfigured("aws", problem));
    }
    if endpoint(aws).is_some_and(|url| !is_http(&url)) {
        let problem = "of the AWS configuration (or AWS_ENDPOINT_URL_SECRETS_MANAGER) is not a \
            URL; set one such as https://vpce-….amazonaws.com";
        return Err(misconfigured("endpoint_url", problem));
    }
    let timeouts = match aws.timeout_config() {
        Some(own) => own.to_builder().take_unset_from(default_timeouts()).build(),
        None => default_timeouts().build(),
    };
    let config = Builder::from(aws)
        .region(Region::new(region.to_owned()))
        .behavior_version(
            aws.behavior_version()
                .unwrap_or_else(BehaviorVersion::latest),
        )
        .timeout_config(timeouts);
    Ok(Client::from_conf(config.build()))
}

/// Returns the configured endpoint, if any, by the rules of the SDK.
fn endpoint(aws: &SdkConfig) -> Option<String> {
    let general = || aws.endpoint_url().map(str::to_owned);
    if aws.get_origin("endpoint_url").is_client_config() {
        return general();
    }
    let key = ServiceConfigKey::builder()
        .service_id("Secrets Manager")
        .env("AWS_ENDPOINT_URL")
        .profile("endpoint_url")
        .build()
        .ok();
    let own = key
        .zip(aws.service_config())
        .and_then(|(key, own)| own.load_config(key));
    own.or_else(general)
}

fn default_timeouts() -> aws_smithy_types::timeout::TimeoutConfigBuilder {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(OPERATION_TIMEOUT)
}

fn is_http(url: &str) -> bool {
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    rest.is_some_and(|rest| {
        !rest.is_empty() && !rest.starts_with('/') && !rest.contains(char::is_whitespace)
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use aws_credential_types::Credentials as AwsCredentials;
    use aws_credential_types::provider::SharedCredentialsProvider;
    use aws_types::service_config::LoadServiceConfig;
    use claviger::error::ProviderErrorKind;

    fn config() -> aws_types::sdk_config::Builder {
        SdkConfig::builder()
            .credentials_provider(SharedCredentialsProvider::new(AwsCredentials::for_tests()))
    }

    #[test]
    fn a_setting_that_would_make_the_sdk_panic_is_an_error_or_has_a_default() {
        assert!(
            build_client(&config().build(), "eu-west-1").is_ok(),
            "no behaviour version, sleep or HTTP client"
        );
        for (aws, expected) in [
            (
                SdkConfig::builder().build(),
                "\"aws\" has no credentials provider",
            ),
            (config().endpoint_url("").build(), "\"endpoint_url\""),
            (
                config().endpoint_url("localhost:4566").build(),
                "\"endpoint_url\"",
            ),
            (
                config().endpoint_url("https://").build(),
                "\"endpoint_url\"",
            ),
            (
                config().endpoint_url("http://a b").build(),
                "\"endpoint_url\"",
            ),
        ] {
            let error = build_client(&aws, "eu-west-1").map(drop).unwrap_err();
            assert_eq!(error.kind(), ProviderErrorKind::Misconfigured);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    /// An endpoint that an environment variable or a profile sets for this service only.
    #[derive(Debug)]
    struct ServiceOnly(&'static str);

    impl LoadServiceConfig for ServiceOnly {
        fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
            ((key.service_id(), key.env()) == ("Secrets Manager", "AWS_ENDPOINT_URL"))
                .then(|| self.0.to_owned())
        }
    }

    #[test]
    fn an_endpoint_of_this_service_takes_precedence_and_is_validated() {
        let with = |own| {
            config()
                .endpoint_url("https://general.example")
                .service_config(ServiceOnly(own))
                .build()
        };
        assert_eq!(
            endpoint(&with("https://own.example")).unwrap(),
            "https://own.example"
        );
        assert!(build_client(&with("https://own.example"), "eu-west-1").is_ok());
        for own in ["", "localhost:4566"] {
            let error = build_client(&with(own), "eu-west-1").map(drop).unwrap_err();
            assert!(
                error.kind() == ProviderErrorKind::Misconfigured
                    && error
                        .to_string()
                        .contains("AWS_ENDPOINT_URL_SECRETS_MANAGER"),
                "{error}"
            );
        }
    }

    #[test]
    fn time_outs_of_the_configuration_replace_the_defaults() {
        let own = TimeoutConfig::builder()
            .operation_timeout(Duration::from_secs(7))
            .disable_connect_timeout()
            .build();
        let merged = own.to_builder().take_unset_from(default_timeouts()).build();
        assert_eq!(merged.operation_timeout(), Some(Duration::from_secs(7)));
        assert_eq!(merged.connect_timeout(), None);
        assert_eq!(merged.operation_attempt_timeout(), Some(ATTEMPT_TIMEOUT));
        assert!(default_timeouts().build().operation_timeout() < Some(Duration::from_secs(30)));
    }
}
