//! needs: moto
//!
//! No secret key, session token, token or Authorization value is in any output at TRACE. That
//! includes the output of the crates below. Sessions come from STS, over HTTP.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fmt::Debug;
use std::time::Duration;

use aws_credential_types::Credentials as AwsCredentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_sigv4::http_request::{
    SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use claviger::Supervisor;
use claviger::error::{ConnectError, ConnectErrorKind};
use claviger::events::Event;
use claviger::provider::FetchRequest;
use claviger_aws_fixtures::{RecordingChain, Secrets, first_lease, start_moto, wall_time};
use claviger_elasticache_iam::{CacheKind, ElastiCacheIam};
use claviger_fixtures::{Capture, eventually_within};
use claviger_testkit::{FetchLease, ScriptedPools};

/// The secret key of the calls to STS.
const SECRET_KEY: &str = "kestrel/secret+key/that/calls/STS";

fn debug_texts(value: &impl Debug) -> String {
    format!("{value:?} {value:#?}")
}

/// Signs a token as the SDK would.
fn sign_with_the_sdk(credentials: AwsCredentials) {
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(Duration::from_secs(900));
    let identity = credentials.into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region("eu-west-1")
        .name("elasticache")
        .time(wall_time())
        .settings(settings)
        .build()
        .expect("they are complete")
        .into();
    let url = "http://orders/?Action=connect&User=orders-app";
    let request = SignableRequest::new("GET", url, std::iter::empty(), SignableBody::Bytes(&[]));
    sign(request.expect("it is valid"), &parameters).expect("it signs");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_any_output_at_trace() {
    let capture = Capture::everything();
    let secrets = Secrets::default();
    secrets.add(SECRET_KEY);
    let moto = start_moto().await;
    let aws = RecordingChain::config(&moto.endpoint(), SECRET_KEY, &secrets).await;
    let builder = || {
        ElastiCacheIam::builder(&aws, CacheKind::Serverless, "orders", "orders-app")
            .with_lifetime(Duration::from_secs(3))
    };
    secrets.assert_absent("a builder's Debug", &debug_texts(&builder()));
    let provider = builder().build().expect("the arguments are valid");
    secrets.assert_absent("a provider's Debug", &debug_texts(&provider));

    // STS sessions sign tokens, each is handed over to a pool, and one is rejected.
    let supervisor = Supervisor::start();
    let mut events = supervisor.events();
    let credentials = supervisor
        .add_provider("login", provider)
        .await
        .expect("a token is signed");
    let pool = supervisor
        .add_pool("orders", &credentials, ScriptedPools::new(4))
        .await
        .expect("it is verified");
    let patience = Duration::from_secs(40);
    eventually_within(patience, "a second and a third token are published", || {
        pool.generation() >= 3
    })
    .await;
    let rejection = ConnectError::new(ConnectErrorKind::Rejected, "WRONGPASS invalid username");
    eventually_within(patience, "a rejection is accepted", || {
        pool.rejected(pool.generation(), &rejection)
    })
    .await;

    // STS is down.
    moto.stop().expect("it stops");
    eventually_within(patience, "a fetch has failed", || {
        let providers = supervisor.status().providers;
        providers.iter().any(|one| one.last_error.is_some())
    })
    .await;
    let direct = builder().build().expect("the arguments are valid");
    let error = direct
        .fetch_lease(FetchRequest::first())
        .await
        .expect_err("STS is down");
    assert!(error.is_transient(), "{error}");
    for value in [
        debug_texts(&error),
        error.to_string(),
        debug_texts(&supervisor.status()),
        debug_texts(&supervisor.readiness()),
        debug_texts(&credentials),
        debug_texts(&pool),
    ] {
        secrets.assert_absent("a Debug", &value);
    }
    supervisor.shutdown(Duration::from_secs(5)).await;
    let mut failed = 0;
    while let Some(event) = events.next().await {
        secrets.assert_absent("an event", &debug_texts(&event));
        failed += usize::from(matches!(event, Event::FetchFailed { .. }));
    }
    assert!(failed > 0, "the hazard");

    // A token that the search looks for.
    moto.start_again().expect("it starts again");
    let lease = first_lease(&direct).await;
    secrets.add_token(&lease);
    secrets.assert_absent(
        "a lease",
        &format!("{} {}", debug_texts(&lease), debug_texts(lease.secret())),
    );
    assert!(secrets.len() >= 9, "sessions were issued and recorded");
    let output = capture.text();
    for text in ["credential.rotation", "claviger_aws", "token signed"] {
        assert!(output.contains(text), "nothing was captured of {text}");
    }
    secrets.assert_absent("the log", &output);

    // The hazard: the SDK's signer logs the session token, and the search finds it.
    let found = secrets.lines_with_secrets(&output).len();
    let session = aws
        .credentials_provider()
        .expect("it has one")
        .provide_credentials()
        .await
        .expect("STS responds");
    sign_with_the_sdk(session);
    assert!(
        secrets.lines_with_secrets(&capture.text()).len() > found,
        "the signer logs the session token"
    );
    tracing::info!(secret = SECRET_KEY, "planted canary");
    assert!(
        secrets
            .lines_with_secrets(&capture.text())
            .iter()
            .any(|line| line.contains("planted canary"))
    );
}
