//! needs: postgresql
//!
//! Queries have no spans of the library. A caller that waits for a credential gets an event in its
//! own span, and a link to the rotation that ended the wait.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use claviger::error::{ProviderError, ProviderErrorKind};
use claviger::{Handle, PgPools};
use claviger_fixtures::{Fixture, eventually};
use common::Recorder;
use opentelemetry_sdk::trace::SpanData;
use tokio::time::timeout;
use tracing::Instrument;
use tracing::instrument::WithSubscriber;
use tracing_subscriber::util::SubscriberInitExt;

async fn query(db: &Handle<PgPools>) {
    sqlx::query("SELECT 1")
        .execute(db)
        .await
        .expect("it succeeds");
}

fn requests(recorder: &Recorder) -> Vec<SpanData> {
    recorder
        .spans()
        .into_iter()
        .filter(|span| span.name == "request")
        .collect()
}

/// Terminates connections until none is open: one may be opened at the same time.
async fn close_connections(fixture: &Fixture) {
    let close = async {
        while fixture.server.connection_count("app").expect("a count") > 0 {
            fixture.terminate_connections().await;
        }
    };
    timeout(Duration::from_secs(10), close)
        .await
        .expect("the connections are closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_caller_that_waited_has_an_event() {
    let recorder = Recorder::new();
    recorder.subscriber().init();
    let fixture = Fixture::new().await;
    let db = fixture.pool(4).await;
    for _ in 0..20 {
        query(&db).instrument(tracing::info_span!("request")).await;
    }
    let without_wait = requests(&recorder);
    assert_eq!(without_wait.len(), 20);
    assert!(
        without_wait
            .iter()
            .all(|span| span.events.is_empty() && span.links.is_empty())
    );
    let has_span = |name: &str| recorder.spans().iter().any(|span| span.name.contains(name));
    assert!(
        !has_span("acquire") && !has_span("query"),
        "the query path has no span of the library: {}",
        recorder.trees()
    );

    // Terminated connections are replaced without a wait for a credential.
    let before = fixture.accepted_logins();
    close_connections(&fixture).await;
    while sqlx::query("SELECT 1")
        .execute(&db)
        .instrument(tracing::info_span!("request"))
        .await
        .is_err()
    {}
    assert!(
        fixture.accepted_logins() > before,
        "a connection was replaced"
    );
    assert!(
        requests(&recorder)
            .iter()
            .all(|span| span.events.is_empty() && span.links.is_empty()),
        "{}",
        recorder.trees()
    );

    // The password changes without a hint. The provider gets it while the caller waits.
    recorder.clear();
    fixture.set_password("password-2").await;
    close_connections(&fixture).await;
    let waiting = tokio::spawn({
        let db = db.clone();
        async move {
            // A statement interrupted by the server does not wait.
            while sqlx::query("SELECT 1").execute(&db).await.is_err() {}
        }
        .instrument(tracing::info_span!("request"))
    });
    eventually("it is rejected", || {
        db.status().is_some_and(|status| status.rejected)
    })
    .await;
    fixture.provider.rotate();
    fixture.provider.hint();
    tokio::time::timeout(Duration::from_secs(10), waiting)
        .await
        .expect("it gets a connection")
        .expect("no panic");
    eventually("the rotation is over", || {
        recorder
            .spans()
            .iter()
            .any(|span| span.name == "credential.rotation" && has(span, "outcome", "adopted"))
    })
    .await;

    let spans = requests(&recorder);
    let request = spans.first().expect("it was exported");
    let event = request
        .events
        .iter()
        .find(|event| event.name == "pool.rejected.wait")
        .expect("the wait is an event");
    let attributes: Vec<_> = event
        .attributes
        .iter()
        .map(|attribute| attribute.key.as_str())
        .collect();
    assert_eq!(attributes, ["pool", "waited_s"]);
    let adopted = recorder
        .spans()
        .into_iter()
        .find(|span| span.name == "credential.rotation" && has(span, "outcome", "adopted"));
    let rotation = adopted.expect("it was exported").span_context;
    assert_eq!(
        request
            .links
            .iter()
            .map(|link| link.span_context.clone())
            .collect::<Vec<_>>(),
        [rotation]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_got_no_connection_has_an_event_with_the_error() {
    let recorder = Recorder::new();
    let fixture = Fixture::new().await;
    let credentials = fixture.add_provider().await;
    let options = fixture
        .pool_options(4)
        .acquire_timeout(Duration::from_millis(800));
    let db = fixture
        .supervisor
        .add_pool("orders", &credentials, fixture.pools_with(options))
        .await
        .expect("verified");
    fixture.set_password("an unknown password").await;
    fixture.provider.fail_next(
        1_000,
        ProviderError::new(ProviderErrorKind::Unavailable, "the backend is down"),
    );
    fixture.terminate_connections().await;
    let rejected = loop {
        recorder.clear();
        let dispatch = tracing::Dispatch::new(recorder.subscriber());
        let span = tracing::dispatcher::with_default(&dispatch, || tracing::info_span!("request"));
        match sqlx::query("SELECT 1")
            .execute(&db)
            .instrument(span)
            .with_subscriber(dispatch)
            .await
        {
            // A statement interrupted by the server does not wait.
            Err(sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut) => {}
            other => break other.expect_err("it is rejected"),
        }
    };
    assert_eq!(
        rejected
            .as_database_error()
            .and_then(|error| error.code())
            .as_deref(),
        Some(Fixture::REJECTED)
    );
    let spans = requests(&recorder);
    let request = spans.first().expect("it was exported");
    let event = request
        .events
        .iter()
        .find(|event| event.name == "pool.rejected.wait")
        .expect("the wait is an event");
    assert!(
        event
            .attributes
            .iter()
            .any(|attribute| attribute.key.as_str() == "error.type"
                && attribute.value.as_str() == "rejected"),
        "{event:?}"
    );
    assert!(request.links.is_empty());
}

fn has(span: &SpanData, name: &str, value: &str) -> bool {
    span.attributes
        .iter()
        .any(|attribute| attribute.key.as_str() == name && attribute.value.as_str() == value)
}
