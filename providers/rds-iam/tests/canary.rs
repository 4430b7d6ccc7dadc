//! needs: postgresql, pam, moto
//!
//! No secret key, session token, token or Authorization value is in any output at TRACE. That
//! includes the output of the crates below. Sessions come from STS, over HTTP.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod common;
#[path = "scenarios/server.rs"]
mod server;

use std::fmt::Debug;
use std::time::Duration;

use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_rds::auth_token::{AuthTokenGenerator, Config};
use claviger::Supervisor;
use claviger::events::Event;
use claviger::provider::FetchRequest;
use claviger_aws_fixtures::{RecordingChain, Secrets};
use claviger_fixtures::{Callers, Capture, eventually, eventually_within, short_lived};
use claviger_rds_iam::RdsIam;
use claviger_servers::Postgres;
use claviger_testkit::FetchLease;
use common::{HOST, USER, first_lease, start_moto};
use server::TokenServer;
use sqlx::postgres::PgPoolOptions;

/// The secret key of the calls to STS.
const SECRET_KEY: &str = "kestrel/secret+key/that/calls/STS";

fn debug_texts(value: &impl Debug) -> String {
    format!("{value:?} {value:#?}")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_any_output_at_trace() {
    let capture = Capture::everything();
    let secrets = Secrets::default();
    secrets.add(SECRET_KEY);
    let moto = start_moto().await;
    let server: Postgres = server::start_server().await;
    let aws = RecordingChain::config(&moto.endpoint(), SECRET_KEY, &secrets).await;
    let builder = || RdsIam::builder(&aws, HOST, 5432, USER).with_lifetime(Duration::from_secs(3));
    secrets.assert_absent("a builder's Debug", &debug_texts(&builder()));
    let provider = builder().build().expect("the arguments are valid");
    secrets.assert_absent("a provider's Debug", &debug_texts(&provider));

    // STS sessions sign tokens, and connections open with them under load. Then every login is
    // rejected for a short time.
    let supervisor = Supervisor::start();
    let mut events = supervisor.events();
    let credentials = supervisor
        .add_provider("login", provider)
        .await
        .expect("a token is signed");
    let options = short_lived(
        PgPoolOptions::new()
            .max_connections(4)
            .acquire_timeout(Duration::from_secs(3)),
        Duration::from_millis(300),
    );
    let db = supervisor
        .add_pool("orders", &credentials, server.pools(options))
        .await
        .expect("it is verified");
    let callers = Callers::start(&db, 8);
    eventually_within(
        Duration::from_secs(30),
        "a second and a third token are published",
        || db.generation() >= 3,
    )
    .await;
    server
        .checks()
        .reject_all(true)
        .expect("the server accepts it");
    eventually("logins are rejected", || {
        server.checks().rejected().expect("the checks can be read") > 0
    })
    .await;
    server
        .checks()
        .reject_all(false)
        .expect("the server accepts it");

    // STS is down.
    moto.stop().expect("it stops");
    eventually_within(Duration::from_secs(40), "a fetch has failed", || {
        supervisor
            .status()
            .providers
            .iter()
            .any(|provider| provider.last_error.is_some())
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
        debug_texts(&db),
    ] {
        secrets.assert_absent("a Debug", &value);
    }
    let tally = callers.stop().await;
    supervisor.shutdown(Duration::from_secs(5)).await;
    let mut failed = 0;
    while let Some(event) = events.next().await {
        secrets.assert_absent("an event", &debug_texts(&event));
        failed += usize::from(matches!(event, Event::FetchFailed { .. }));
    }
    assert!(failed > 0 && tally.succeeded > 0);
    secrets.assert_absent("a caller's error", &debug_texts(&tally));

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
    for text in ["credential.rotation", "claviger_aws", "sqlx"] {
        assert!(output.contains(text), "nothing was captured of {text}");
    }
    secrets.assert_absent("the log", &output);

    // The hazard: without silencing, the log contains it, and the search finds it.
    let session = aws
        .credentials_provider()
        .expect("it has one")
        .provide_credentials()
        .await
        .expect("STS responds");
    let found = secrets.lines_with_secrets(&capture.text()).len();
    let config = Config::builder()
        .hostname(HOST)
        .port(5432)
        .username(USER)
        .build()
        .expect("it is complete");
    let token = AuthTokenGenerator::new(config)
        .auth_token(&aws)
        .await
        .expect("it signs");
    assert!(
        secrets.lines_with_secrets(&capture.text()).len() > found,
        "the signer logs the session token"
    );
    drop((session, token));
    tracing::info!(secret = SECRET_KEY, "planted canary");
    assert!(
        secrets
            .lines_with_secrets(&capture.text())
            .iter()
            .any(|line| line.contains("planted canary"))
    );
}
