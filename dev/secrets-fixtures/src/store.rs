//! A store, and a client's configuration for it.

use aws_config::BehaviorVersion;
use aws_credential_types::Credentials as AwsCredentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_types::SdkConfig;
use aws_types::region::Region;
use claviger_servers::Moto;

/// The session token of every request.
pub const SESSION_TOKEN: &str = "connection-token-of-the-tests";
/// What signs every request.
pub const SECRET_ACCESS_KEY: &str = "secret-access-key-of-the-tests";

/// A configuration for a store at this endpoint, in eu-west-1.
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

/// Starts a store, off the async threads.
///
/// # Panics
/// When it does not start.
pub async fn moto() -> Moto {
    tokio::task::spawn_blocking(Moto::start)
        .await
        .expect("no panic")
        .expect("a store starts")
}
