//! A service that logs through the `log` crate and has no tracing subscriber. After a token was
//! signed it still logs its own lines, and no secret at any level.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use aws_config::{Region, SdkConfig};
use aws_credential_types::Credentials as AwsCredentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use claviger::provider::FetchRequest;
use claviger_fixtures::LogRecorder;
use claviger_rds_iam::RdsIam;
use claviger_testkit::FetchLease;

#[tokio::test(flavor = "multi_thread")]
async fn a_token_neither_silences_the_process_nor_shows_a_secret() {
    let log = LogRecorder::everything();
    let credentials = AwsCredentials::new(
        "AKIAIOSFODNN7EXAMPLE",
        "CANARY-secret-key",
        Some("CANARY-session-token".to_owned()),
        None,
        "test",
    );
    let config = SdkConfig::builder()
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .region(Region::new("eu-west-1"))
        .build();
    let provider = RdsIam::new(
        &config,
        "db.example.eu-west-1.rds.amazonaws.com",
        5432,
        "orders_app",
    )
    .expect("the settings are valid");
    let lease = provider
        .fetch_lease(FetchRequest::first())
        .await
        .expect("a token");
    let token = lease.secret().expose_password();
    assert!(
        token.contains("CANARY-session-token"),
        "the hazard: the token contains the session token"
    );
    let signature = token.rsplit('=').next().expect("a signature");

    log.assert_not_silenced();
    let shown = log.lines_containing(&["CANARY", signature]);
    assert!(shown.is_empty(), "{shown:#?}");
}
