//! needs: postgresql, moto
//!
//! No password, secret access key, session token or Authorization value is in any output at TRACE.
//! That includes the output of the crates below. A planted canary shows that the search works, and
//! what the SDK logs when it is not silenced.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fmt::Debug;
use std::time::Duration;

use aws_sdk_secretsmanager::Client;
use claviger::events::Event;
use claviger::provider::FetchRequest;
use claviger_fixtures::{Callers, Capture};
use claviger_rotator::{Pending, Users};
use claviger_secrets_fixtures::{SECRET, SECRET_ACCESS_KEY, SESSION_TOKEN, SecretsFixture};
use claviger_secrets_manager::SecretsManager;
use claviger_servers::{InjectedFault, Postgres};
use claviger_testkit::FetchLease;
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;

/// Matches `password-1`, `password-2` …; an Authorization header contains its signature.
const SECRETS: [&str; 4] = ["password-", SESSION_TOKEN, SECRET_ACCESS_KEY, "Signature="];

fn lines_with_secrets(text: &str) -> Vec<&str> {
    text.lines()
        .filter(|line| SECRETS.iter().any(|secret| line.contains(secret)))
        .collect()
}

fn assert_clean(what: &str, value: &impl Debug) {
    let text = format!("{value:?} {value:#?}");
    assert!(
        lines_with_secrets(&text).is_empty(),
        "{what} shows a secret: {:?}",
        lines_with_secrets(&text)
    );
}

/// Opens the window, terminates all connections, and waits until callers succeed again.
async fn serve_in_an_opened_window(
    fixture: &SecretsFixture<Postgres>,
    callers: &Callers,
) -> Pending {
    let pending = fixture
        .open_window()
        .with_subscriber(NoSubscriber::default())
        .await;
    fixture.terminate_connections().await;
    callers.wait_for_more(50).await;
    pending
}

#[tokio::test(flavor = "multi_thread")]
async fn no_output_of_a_rotation_contains_a_secret() {
    let capture = Capture::everything();
    // The administrator of the secret is no part of the service: its SDK client is not captured.
    let fixture = SecretsFixture::<Postgres>::new(Users::Single)
        .with_subscriber(NoSubscriber::default())
        .await;
    let supervisor = &fixture.database.supervisor;
    let mut events = supervisor.events();
    let provider = SecretsManager::new(&fixture.aws(), SECRET).expect("the settings are valid");
    assert_clean("the provider", &provider);
    let db = fixture.pool(provider, fixture.database.pools(4)).await;
    let callers = Callers::start_with_pause(&db, 8, "SELECT 1", Duration::from_millis(10));
    callers.wait_for_more(50).await;

    // A window that is rolled back, one that is closed, a backend that fails, a fetch on demand.
    let pending = serve_in_an_opened_window(&fixture, &callers).await;
    fixture
        .rotator
        .roll_back(&pending)
        .with_subscriber(NoSubscriber::default())
        .await
        .expect("it is rolled back");
    fixture.terminate_connections().await;
    callers.wait_for_more(50).await;
    let pending = serve_in_an_opened_window(&fixture, &callers).await;
    fixture
        .close_window(&pending)
        .with_subscriber(NoSubscriber::default())
        .await;
    for fault in [
        InjectedFault::reply(
            400,
            r#"{"__type":"InvalidSignatureException","message":"password-9"}"#,
        ),
        InjectedFault::Cut,
    ] {
        fixture.proxy.fault(fault);
        let error = supervisor
            .rotate_now("login")
            .await
            .expect_err("the backend fails");
        assert_clean("an error", &error);
    }
    fixture.proxy.heal();
    for value in [
        "password-8",
        r#"{"username":"app","password":["password-8"]}"#,
    ] {
        let body = serde_json::json!({ "VersionId": "v", "SecretString": value }).to_string();
        fixture
            .proxy
            .fault_on("GetSecretValue", InjectedFault::reply(200, body));
        let other = SecretsManager::new(&fixture.aws(), SECRET).expect("the settings are valid");
        assert_clean(
            "an error",
            &other
                .fetch_lease(FetchRequest::first())
                .await
                .map(drop)
                .expect_err("it cannot be read"),
        );
    }
    fixture.proxy.heal();
    assert_clean("the status", &supervisor.status());
    let tally = callers.stop().await;
    assert_clean("a caller's error", &tally);
    fixture.shutdown().await;
    let (mut rejected, mut failed) = (0, 0);
    while let Some(event) = events.next().await {
        assert_clean("an event", &event);
        rejected += usize::from(matches!(event, Event::Rejected { .. }));
        failed += usize::from(matches!(event, Event::FetchFailed { .. }));
    }
    assert!(
        rejected == 3 && failed >= 2,
        "the hazards: {rejected} rejections, {failed} failed fetches"
    );

    let output = capture.text();
    for line in [
        "credential.rotation",
        "AWSCURRENT is rejected; another version is tried",
        "pool.verify",
    ] {
        assert!(output.contains(line), "nothing was captured of {line}");
    }
    assert!(
        lines_with_secrets(&output).is_empty(),
        "{:#?}",
        lines_with_secrets(&output)
    );

    // Tasks of connections log their throughput outside of a fetch.
    let of_the_sdk = |text: &str| {
        text.lines()
            .filter(|line| line.contains(" aws_") && !line.contains("minimum_throughput"))
            .count()
    };
    assert_eq!(
        of_the_sdk(&output),
        0,
        "the SDK is silenced: {:?}",
        output.lines().find(|line| of_the_sdk(line) > 0)
    );

    // The search finds a secret that is there, and the SDK's output is captured when it is not
    // silenced.
    tracing::trace!(canary = "password-1", "planted");
    assert_eq!(lines_with_secrets(&capture.text()).len(), 1);
    Client::new(&fixture.aws())
        .get_secret_value()
        .secret_id(SECRET)
        .version_stage("AWSCURRENT")
        .send()
        .await
        .expect("it responds");
    assert!(of_the_sdk(&capture.text()) > 10, "the hazard: the SDK logs");
}
