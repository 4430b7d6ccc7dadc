//! A configuration as `aws_config::load_defaults` returns it on AWS.

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials as AwsCredentials;
use aws_credential_types::provider::SharedCredentialsProvider;

/// Returns a configuration with a region and an identity. `endpoint` replaces AWS's.
pub(crate) fn config(endpoint: Option<String>) -> SdkConfig {
    let identity = AwsCredentials::new(
        "AKIDEXAMPLE",
        "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        None,
        None,
        "demo",
    );
    let mut config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("eu-west-1"))
        .credentials_provider(SharedCredentialsProvider::new(identity));
    config.set_endpoint_url(endpoint);
    config.build()
}
