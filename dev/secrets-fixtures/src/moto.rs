//! A moto server and the AWS configuration of a client.

use aws_config::BehaviorVersion;
use aws_credential_types::Credentials as AwsCredentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_types::SdkConfig;
use aws_types::region::Region;
use claviger_servers::Moto;

/// Session token sent with every request.
pub const SESSION_TOKEN: &str = "session-token-of-the-tests";
/// Secret access key that signs every request.
pub const SECRET_ACCESS_KEY: &str = "secret-access-key-of-the-tests";

/// Returns a configuration for the server at this endpoint, in eu-west-1.
pub fn aws(endpoint: &str) -> SdkConfig {
    let credentials = AwsCredentials::from_keys(
        "AKIDEXAMPLE",
        SECRET_ACCESS_KEY,
        Some(SESSION_TOKEN.to_owned()),
    );
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .endpoint_url(endpoint)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}

/// Starts a moto server, off the async threads.
///
/// # Panics
/// Panics if the server does not start.
pub async fn start_moto() -> Moto {
    tokio::task::spawn_blocking(Moto::start)
        .await
        .expect("no panic")
        .expect("moto starts")
}
