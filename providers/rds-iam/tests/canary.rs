//! needs: postgresql, pam, moto
//!
//! No secret key, session token, token or Authorization value is in any output at TRACE. That
//! includes the output of the crates below. Sessions come from STS, over HTTP.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod common;
#[path = "scenarios/server.rs"]
mod server;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_credential_types::Credentials as AwsCredentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_rds::auth_token::{AuthTokenGenerator, Config};
use claviger::events::Event;
use claviger::provider::FetchRequest;
use claviger::{Credentials, Lease, Supervisor};
use claviger_fixtures::{Callers, Capture, eventually, eventually_within, short_lived};
use claviger_rds_iam::RdsIam;
use claviger_servers::Postgres;
use claviger_testkit::FetchLease;
use common::{HOST, USER, assume_role, first_lease, start_moto, token};
use parking_lot::Mutex;
use server::TokenServer;
use sqlx::postgres::PgPoolOptions;

/// The secret key of the calls to STS.
const SECRET_KEY: &str = "kestrel/secret+key/that/calls/STS";

/// The secrets that must not be in any output, collected as they become known.
#[derive(Clone, Debug, Default)]
struct Secrets(Arc<Mutex<BTreeSet<String>>>);

impl Secrets {
    fn add(&self, secret: &str) {
        self.0.lock().insert(secret.to_owned());
    }

    fn add_session(&self, credentials: &AwsCredentials) {
        self.add(credentials.secret_access_key());
        let session = credentials.session_token().expect("STS issues sessions");
        self.add(session);
        self.add(
            &percent_encoding::utf8_percent_encode(session, percent_encoding::NON_ALPHANUMERIC)
                .to_string(),
        );
    }

    fn add_token(&self, lease: &Lease<Credentials>) {
        self.add(token(lease));
        for name in ["X-Amz-Signature", "X-Amz-Security-Token"] {
            self.add(common::parameter(token(lease), name).expect("it is there"));
        }
    }

    fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Returns the lines of a text that contain a secret.
    fn lines_with_secrets<'t>(&self, text: &'t str) -> Vec<&'t str> {
        let secrets = self.0.lock();
        // The value of an Authorization header contains its signature.
        let has_secret = |line: &&str| {
            secrets.iter().any(|secret| line.contains(&**secret)) || line.contains("Signature=")
        };
        text.lines().filter(has_secret).collect()
    }

    fn assert_absent(&self, what: &str, text: &str) {
        assert!(
            self.lines_with_secrets(text).is_empty(),
            "{what} shows a secret: {:#?}",
            self.lines_with_secrets(text)
        );
    }
}

/// Returns the credentials that STS issues, and records them.
#[derive(Debug)]
struct RecordingChain {
    chain: AssumeRoleProvider,
    secrets: Secrets,
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

/// Returns a configuration whose sessions come from this STS.
async fn configuration(endpoint: &str, secrets: &Secrets) -> SdkConfig {
    let (base, chain) = assume_role(endpoint, SECRET_KEY).await;
    let chain = SharedCredentialsProvider::new(RecordingChain {
        chain,
        secrets: secrets.clone(),
    });
    base.into_builder().credentials_provider(chain).build()
}

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
    let aws = configuration(&moto.endpoint(), &secrets).await;
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
    for text in ["credential.rotation", "claviger_rds_iam", "sqlx"] {
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
