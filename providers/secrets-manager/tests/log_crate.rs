//! needs: moto
//!
//! A service that logs through the `log` crate and has no tracing subscriber. A fetch does not
//! change its logger, and logs no secret at any level, whatever AWS returns.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials as AwsCredentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use claviger::Credentials;
use claviger::provider::FetchRequest;
use claviger::report::RotationTrigger;
use claviger_fixtures::LogRecorder;
use claviger_secrets_fixtures::{
    SECRET_ACCESS_KEY, SESSION_TOKEN, Secret, aws, secret_text, start_moto,
};
use claviger_secrets_manager::SecretsManager;
use claviger_servers::{InjectedFault, Proxy};
use claviger_testkit::FetchLease;

/// Returns a configuration that assumes a role, by STS at this endpoint.
async fn assuming_a_role(endpoint: &str) -> SdkConfig {
    let key = AwsCredentials::new(
        "AKIAEXAMPLE",
        SECRET_ACCESS_KEY,
        Some(SESSION_TOKEN.to_owned()),
        None,
        "test",
    );
    let base = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(key);
    let base = base.endpoint_url(endpoint).load().await;
    let role =
        AssumeRoleProvider::builder("arn:aws:iam::123456789012:role/orders").session_name("orders");
    let chain = SharedCredentialsProvider::new(role.configure(&base).build().await);
    base.into_builder().credentials_provider(chain).build()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_neither_silences_the_process_nor_shows_a_secret() {
    let log = LogRecorder::everything();
    let moto = start_moto().await;
    Secret::create(&moto, "orders", &secret_text("CANARY-password")).await;
    let proxy = Proxy::start(&moto.endpoint()).expect("a proxy starts");

    let provider =
        SecretsManager::new(&aws(&proxy.endpoint()), "orders").expect("the settings are valid");
    let current = provider
        .fetch_lease(FetchRequest::first())
        .await
        .expect("a lease");
    assert_eq!(
        current.secret().expose_password(),
        "CANARY-password",
        "the hazard: a secret was fetched"
    );
    let canonical = format!(
        "The Canonical String should have been 'POST x-amz-security-token:{SESSION_TOKEN} CANARY'"
    );
    for fault in [
        InjectedFault::reply(
            400,
            serde_json::json!({ "__type": "InvalidSignatureException", "message": canonical })
                .to_string(),
        ),
        InjectedFault::reply(200, r#"{"VersionId":"1","SecretString":"CANARY"#),
        InjectedFault::reply(200, r#"{"VersionId":"1","SecretString":["CANARY"]}"#),
        InjectedFault::reply(502, "<html>CANARY</html>"),
        InjectedFault::reply(
            400,
            r#"{"__type":"AccessDeniedException","Message":"not authorized to perform: secretsmanager:GetSecretValue"}"#,
        ),
        InjectedFault::Cut,
    ] {
        proxy.fault(fault);
        let request = FetchRequest::<Credentials>::new(RotationTrigger::Rejected)
            .with_rejected([current.revision().clone()])
            .with_current(current.clone());
        provider
            .fetch_lease(request)
            .await
            .map(drop)
            .expect_err("it fails");
    }
    proxy.heal();
    let assuming = assuming_a_role(&proxy.endpoint()).await;
    SecretsManager::new(&assuming, "orders")
        .expect("the settings are valid")
        .fetch_lease(FetchRequest::first())
        .await
        .expect("a lease");
    let session = assuming
        .credentials_provider()
        .expect("it has one")
        .provide_credentials()
        .await
        .expect("STS issues a session");

    log.assert_not_silenced();
    assert!(
        log.lines()
            .iter()
            .any(|line| line.target.starts_with("aws_")),
        "the hazard: the SDK logs"
    );
    let token = session.session_token().expect("it has a token");
    let shown = log.lines_containing(&[
        "CANARY",
        SESSION_TOKEN,
        SECRET_ACCESS_KEY,
        "Signature=",
        session.secret_access_key(),
        token,
    ]);
    assert!(shown.is_empty(), "{shown:#?}");
}
