//! Law 13: no secret in any Debug, Display, log, span, metric, panic or error, at any level. A
//! planted canary shows that the search works.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fmt::Debug;
use std::time::Duration;

use super::fixtures::{Callers, Capture, backend_down, eventually, until_rejected, until_serving};
use super::{Fixture, Pools};
use claviger::error::ProviderError;
use claviger::events::Event;
use claviger::pool::HandoverPolicy;
use claviger::{Credentials, Endpoint, Lease, Revision, provider_fn};

const SECRETS: [&str; 3] = ["password-1", "password-2", "kestrel-hidden-in-the-options"];

fn assert_clean(what: &str, text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{what} shows {secret}");
    }
}

fn shown(value: &impl Debug) -> String {
    format!("{value:?} {value:#?}")
}

#[tokio::test(flavor = "multi_thread")]
async fn law_13_a_rotation_shows_no_secret() {
    let capture = Capture::everything();
    let fixture = Fixture::new().await;
    let mut events = fixture.supervisor.events();
    let credentials = fixture.add_provider().await;
    let pools = Pools::new(
        fixture
            .connect_options()
            .password("kestrel-hidden-in-the-options"),
        fixture.pool_options(4),
    );
    assert_clean("the factory's Debug", &shown(&pools));
    let db = fixture.add_pool("orders", &credentials, pools).await;
    let callers = Callers::start(&db, 8);
    callers.wait_for_more(50).await;

    // A rejection, a failing backend, a failing verification, a rotation, a shutdown.
    fixture.set_password("another password").await;
    fixture.terminate_connections().await;
    fixture.provider.fail_next(1, backend_down());
    until_rejected(&db).await;
    fixture.provider.rotate();
    fixture.provider.hint();
    eventually("the next lease was tried", || {
        fixture.rejected_logins() >= 2
    })
    .await;
    fixture.set_password("password-2").await;
    until_serving(&db).await;
    for value in [
        shown(&fixture.supervisor.status()),
        shown(&fixture.supervisor),
        shown(&db),
        shown(&credentials),
        shown(&fixture.supervisor.readiness()),
    ] {
        assert_clean("a Debug", &value);
    }
    let tally = callers.stop().await;
    assert_clean("a caller's error", &shown(&tally));
    fixture.supervisor.shutdown(Duration::from_secs(5)).await;
    let mut received = 0;
    while let Some(event) = events.next().await {
        assert_clean("an event", &shown(&event));
        received += usize::from(matches!(
            event,
            Event::Rejected { .. } | Event::FetchFailed { .. } | Event::VerificationFailed { .. }
        ));
    }
    assert!(received >= 3, "the hazards occurred");

    // Values that carry the secret, and errors about them.
    let lease = Lease::new(
        Credentials::new("app", "password-1").with_endpoint(Endpoint::new("db", 5432, "orders")),
        Revision::new("password-2"),
    );
    assert_clean(
        "a lease",
        &format!("{} {}", shown(&lease), shown(lease.secret())),
    );
    assert_clean(
        "a revision",
        &format!("{} {}", lease.revision(), shown(lease.revision())),
    );
    let supervisor = claviger::Supervisor::start();
    let given = supervisor.add_provider(
        "bad",
        provider_fn(move |_| {
            let lease = lease.clone();
            async move { Ok::<_, ProviderError>(lease) }
        }),
    );
    let provider = given.await.expect("a lease");
    let wrong = Pools::new(fixture.connect_options(), fixture.pool_options(1))
        .with_handover_policy(HandoverPolicy::AlwaysReplace);
    let error = tokio::time::timeout(
        Duration::from_secs(1),
        supervisor.add_pool("bad", &provider, wrong),
    )
    .await;
    assert_clean("a start", &shown(&error.map(|outcome| outcome.map(drop))));

    // The canary shows that the search works.
    tracing::info!(secret = "password-1", "planted canary");
    let logged = capture.text();
    assert!(
        logged.contains("credential.rotation") && logged.contains("pool.verify"),
        "the spans were captured"
    );
    assert_eq!(
        logged.matches("password-1").count(),
        1,
        "{:?}",
        logged.lines().find(|line| line.contains("password-1"))
    );
    assert_clean("the log", &logged.replace("secret=\"password-1\"", ""));
}
