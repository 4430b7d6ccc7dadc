//! A chain that assumes a role at an STS.

use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials as AwsCredentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use claviger_servers::Moto;

use crate::secrets::Secrets;

/// Starts a moto server, off the async threads.
pub async fn start_moto() -> Moto {
    tokio::task::spawn_blocking(|| Moto::start().expect("moto starts"))
        .await
        .expect("its thread ends")
}

/// Returns a configuration for this endpoint, and a chain that assumes a role at its STS.
/// `secret_key` signs the calls to STS.
pub async fn assume_role(endpoint: &str, secret_key: &str) -> (SdkConfig, AssumeRoleProvider) {
    let key = AwsCredentials::new("AKIAEXAMPLE", secret_key, None, None, "test");
    let base = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(key);
    let base = base.endpoint_url(endpoint).load().await;
    let chain = AssumeRoleProvider::builder("arn:aws:iam::123456789012:role/orders")
        .session_name("orders")
        .configure(&base)
        .build()
        .await;
    (base, chain)
}

/// Returns the credentials that STS issues, and records them.
#[derive(Debug)]
pub struct RecordingChain {
    chain: AssumeRoleProvider,
    secrets: Secrets,
}

impl RecordingChain {
    /// Returns a configuration whose sessions come from the STS at this endpoint, and are recorded.
    pub async fn config(endpoint: &str, secret_key: &str, secrets: &Secrets) -> SdkConfig {
        let (base, chain) = assume_role(endpoint, secret_key).await;
        let chain = SharedCredentialsProvider::new(Self {
            chain,
            secrets: secrets.clone(),
        });
        base.into_builder().credentials_provider(chain).build()
    }
}

impl ProvideCredentials for RecordingChain {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let credentials = self.chain.provide_credentials().await?;
            self.secrets.add_session(&credentials);
            Ok(credentials)
        })
    }
}
