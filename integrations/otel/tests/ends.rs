//! Spans of rotations that last long, and of work that ends early.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::collections::HashMap;
use std::time::Duration;

use claviger::error::{ConnectError, ConnectErrorKind, ProviderError, ProviderErrorKind};
use claviger::lease::{Expiry, Timestamp};
use claviger::report::RotationOutcome;
use claviger::{Credentials, Lease, Revision};
use claviger_testkit::{Lab, ScriptedPools, ScriptedProvider};
use common::Recorder;
use opentelemetry::trace::{SpanId, Status};
use opentelemetry_sdk::trace::SpanData;
use tokio::time::sleep;
use tracing::Instrument;

fn unavailable() -> ProviderError {
    ProviderError::new(ProviderErrorKind::Unavailable, "the backend is down")
}

fn attribute(span: &SpanData, name: &str) -> Option<String> {
    span.attributes
        .iter()
        .find(|attribute| attribute.key.as_str() == name)
        .map(|attribute| attribute.value.to_string())
}

fn named<'s>(spans: &'s [SpanData], name: &str) -> Vec<&'s SpanData> {
    spans.iter().filter(|span| span.name == name).collect()
}

/// Asserts that each span is exported once, within an exported parent, that links are valid, and
/// that exactly the failed spans have an `error.type`.
fn assert_complete(spans: &[SpanData]) {
    let by_id: HashMap<SpanId, &SpanData> = spans
        .iter()
        .map(|span| (span.span_context.span_id(), span))
        .collect();
    assert_eq!(by_id.len(), spans.len(), "one was exported twice");
    for span in spans {
        if span.parent_span_id != SpanId::INVALID {
            let parent = by_id
                .get(&span.parent_span_id)
                .expect("its parent was exported");
            assert!(
                parent.start_time <= span.start_time && span.end_time <= parent.end_time,
                "{} in {}",
                span.name,
                parent.name
            );
        }
        assert!(
            span.links
                .iter()
                .all(|link| by_id.contains_key(&link.span_context.span_id())),
            "{span:?}"
        );
        assert_eq!(
            matches!(span.status, Status::Error { .. }),
            attribute(span, "error.type").is_some(),
            "{span:?}"
        );
        if span.name == "credential.rotation" {
            assert!(attribute(span, "outcome").is_some(), "{span:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_during_a_long_rotation_is_linked_to_the_part_that_ends_it() {
    let recorder = Recorder::new();
    let _guard = tracing::subscriber::set_default(recorder.subscriber());
    let lab = Lab::new();
    let (provider, quick, slow) = (
        ScriptedProvider::new(),
        ScriptedPools::new(4),
        ScriptedPools::new(4),
    );
    let credentials = lab
        .supervisor
        .add_provider("login", provider.clone())
        .await
        .expect("a lease");
    let orders = lab
        .supervisor
        .add_pool("orders", &credentials, quick.clone())
        .await
        .expect("verified");
    let reports = lab
        .supervisor
        .add_pool("reports", &credentials, slow.clone())
        .await
        .expect("verified");
    recorder.clear();

    // The backend is down. A request arrives when the first part is due to end, before an attempt
    // ends it.
    provider.fail_next(1, unavailable());
    provider.fail_next(1, unavailable().with_retry_after(Duration::from_secs(400)));
    provider.fail_next(1_000, unavailable());
    provider.hint();
    sleep(Duration::from_secs(310)).await;
    assert_eq!(
        named(&recorder.spans(), "credential.rotation").len(),
        0,
        "the first part is open"
    );
    let request = tracing::info_span!("POST /rotate", otel.kind = "server");
    assert!(
        lab.supervisor
            .rotate_now("login")
            .instrument(request)
            .await
            .is_err()
    );
    // One pool adopts the next lease at once, the other six minutes later.
    provider.rotate();
    slow.fail_next(
        30,
        ConnectError::new(ConnectErrorKind::Unreachable, "connection refused"),
    );
    provider.recover();
    sleep(Duration::from_secs(20)).await;
    assert_eq!((orders.generation(), reports.generation()), (2, 1));
    sleep(Duration::from_secs(700)).await;
    assert_eq!((orders.generation(), reports.generation()), (2, 2));

    let spans = recorder.spans();
    assert_complete(&spans);
    let request = named(&spans, "POST /rotate")[0].span_context.clone();
    let fetch = named(&spans, "credential.fetch")
        .into_iter()
        .find(|span| attribute(span, "trigger").as_deref() == Some("manual"));
    let rotation = spans
        .iter()
        .find(|span| span.span_context.span_id() == fetch.expect("it was fetched").parent_span_id)
        .expect("a root");
    let linked: Vec<_> = spans
        .iter()
        .filter(|span| span.links.iter().any(|link| link.span_context == request))
        .collect();
    assert_eq!(
        linked
            .iter()
            .map(|span| span.span_context.span_id())
            .collect::<Vec<_>>(),
        [rotation.span_context.span_id()],
        "{}",
        recorder.trees()
    );

    // The last part is the one in which the last pool adopted it.
    let is_changed = |root: &&SpanData| attribute(root, "trigger").as_deref() == Some("changed");
    let roots: Vec<_> = named(&spans, "credential.rotation")
        .into_iter()
        .filter(is_changed)
        .collect();
    let outcomes: Vec<_> = roots
        .iter()
        .map(|root| attribute(root, "outcome").expect("each has one"))
        .collect();
    assert!(
        roots.len() >= 3
            && outcomes
                .iter()
                .rev()
                .skip(1)
                .all(|outcome| outcome == RotationOutcome::Unfinished.as_str()),
        "{outcomes:?}"
    );
    assert_eq!(outcomes.last().map(String::as_str), Some("adopted"));
    for handover in named(&spans, "pool.handover")
        .into_iter()
        .filter(|span| attribute(span, "generation").is_some())
    {
        let part = roots
            .iter()
            .position(|root| root.span_context.span_id() == handover.parent_span_id)
            .expect("it is in a rotation");
        if attribute(handover, "pool").as_deref() == Some("reports") {
            assert_eq!(part, roots.len() - 1);
        } else {
            assert!(part < roots.len() - 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_expired_lease_is_a_failed_fetch() {
    let recorder = Recorder::new();
    let _guard = tracing::subscriber::set_default(recorder.subscriber());
    let lab = Lab::new();
    let provider = ScriptedProvider::new();
    let credentials = lab
        .supervisor
        .add_provider("login", provider.clone())
        .await
        .expect("a lease");
    recorder.clear();
    let past = Expiry::after(Timestamp::now(), Duration::ZERO);
    provider.return_next(
        Lease::new(
            Credentials::new("app", "expired"),
            Revision::new("expired".to_owned()),
        )
        .with_expiry(past),
    );
    assert!(lab.supervisor.rotate_now("login").await.is_err());
    sleep(Duration::from_secs(5)).await;
    let spans = recorder.spans();
    assert_complete(&spans);
    let error_types: Vec<_> = named(&spans, "credential.fetch")
        .into_iter()
        .map(|span| attribute(span, "error.type"))
        .collect();
    assert_eq!(error_types, [Some("expired_lease".to_owned()), None]);
    drop(credentials);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_panics_is_marked() {
    let recorder = Recorder::new();
    let _guard = tracing::subscriber::set_default(recorder.subscriber());
    let lab = Lab::new();
    let (provider, database) = (ScriptedProvider::new(), ScriptedPools::new(4));
    let credentials = lab
        .supervisor
        .add_provider("login", provider.clone())
        .await
        .expect("a lease");
    let pool = lab
        .supervisor
        .add_pool("orders", &credentials, database.clone())
        .await
        .expect("verified");
    recorder.clear();
    lab.failpoints.set("orders", "pool.verified", 1);
    provider.rotate();
    lab.supervisor
        .rotate_now("login")
        .await
        .expect("it rotates");
    sleep(Duration::from_secs(20)).await;
    assert_eq!(
        (
            lab.failpoints.left("orders", "pool.verified"),
            pool.generation()
        ),
        (0, 2)
    );
    let spans = recorder.spans();
    assert_complete(&spans);
    let error_types: Vec<_> = named(&spans, "pool.handover")
        .into_iter()
        .map(|span| attribute(span, "error.type"))
        .collect();
    assert_eq!(
        error_types,
        [Some("other".to_owned()), None],
        "{}",
        recorder.trees()
    );
}

#[tokio::test(start_paused = true)]
async fn a_rotation_that_one_pool_did_not_adopt_is_marked() {
    let recorder = Recorder::new();
    let _guard = tracing::subscriber::set_default(recorder.subscriber());
    let lab = Lab::new();
    let (provider, quick, rejecting) = (
        ScriptedProvider::new(),
        ScriptedPools::new(4),
        ScriptedPools::new(4),
    );
    let credentials = lab
        .supervisor
        .add_provider("login", provider.clone())
        .await
        .expect("a lease");
    let _orders = lab
        .supervisor
        .add_pool("orders", &credentials, quick.clone())
        .await
        .expect("verified");
    let _reports = lab
        .supervisor
        .add_pool("reports", &credentials, rejecting.clone())
        .await
        .expect("verified");
    recorder.clear();
    rejecting.accept_only(["password-1"]);
    quick.stall();
    provider.rotate();
    provider.hint();
    sleep(Duration::from_millis(1_500)).await;
    assert!(rejecting.rejected() > 0, "one pool could not adopt it");
    quick.resume();
    sleep(Duration::from_millis(100)).await;
    lab.supervisor
        .remove_pool("orders")
        .await
        .expect("it is removed");
    lab.supervisor.shutdown(Duration::from_secs(5)).await;
    let spans = recorder.spans();
    assert_complete(&spans);
    let roots = named(&spans, "credential.rotation");
    assert_eq!(
        roots
            .iter()
            .map(|root| attribute(root, "error.type"))
            .collect::<Vec<_>>(),
        [Some("rejected".to_owned())],
        "{}",
        recorder.trees()
    );
}

#[tokio::test(start_paused = true)]
async fn a_generation_without_connections_has_no_drain() {
    let recorder = Recorder::new();
    let _guard = tracing::subscriber::set_default(recorder.subscriber());
    let lab = Lab::new();
    let (provider, database) = (ScriptedProvider::new(), ScriptedPools::new(4));
    let credentials = lab
        .supervisor
        .add_provider("login", provider.clone())
        .await
        .expect("a lease");
    database.accept_only(["nothing"]);
    let _pool = lab
        .supervisor
        .add_pool_in_background("orders", &credentials, database.clone())
        .expect("it is registered");
    sleep(Duration::from_secs(2)).await;
    assert!(database.rejected() > 0);
    lab.supervisor
        .remove_pool("orders")
        .await
        .expect("it is removed");
    lab.supervisor
        .remove_provider("login")
        .await
        .expect("it is removed");
    let spans = recorder.spans();
    assert_complete(&spans);
    assert!(
        named(&spans, "pool.drain").is_empty(),
        "{}",
        recorder.trees()
    );
}

/// Covers a fetch, a verification and a drain that hang.
#[tokio::test(start_paused = true)]
async fn unfinished_work_is_exported_at_shutdown() {
    for work in ["fetch", "verification", "drain"] {
        for end in ["shutdown", "removal"] {
            let recorder = Recorder::new();
            let _guard = tracing::subscriber::set_default(recorder.subscriber());
            let lab = Lab::new();
            let (provider, database) = (ScriptedProvider::new(), ScriptedPools::new(4));
            let credentials = lab
                .supervisor
                .add_provider("login", provider.clone())
                .await
                .expect("a lease");
            let _pool = lab
                .supervisor
                .add_pool("orders", &credentials, database.clone())
                .await
                .expect("verified");
            let mut at_shutdown = None;
            let connection = (work == "drain").then(|| database.opened()[0].connection());
            match work {
                "fetch" => provider.stall(),
                "verification" => database.stall(),
                _ => database.disable_in_place(),
            }
            provider.rotate();
            provider.hint();
            sleep(Duration::from_secs(2)).await;
            if end == "shutdown" {
                let report = lab.supervisor.shutdown(Duration::from_secs(2)).await;
                assert!(!report.clean, "{work} {report:?}");
                at_shutdown = Some(recorder.spans().len());
            } else {
                lab.supervisor
                    .remove_pool("orders")
                    .await
                    .expect("it is removed");
                drop(connection);
                sleep(Duration::from_secs(1)).await;
                lab.supervisor
                    .remove_provider("login")
                    .await
                    .expect("it is removed");
            }
            provider.resume();
            database.resume();
            sleep(Duration::from_secs(120)).await;
            let spans = recorder.spans();
            assert_complete(&spans);
            // A process ends after a shutdown, so spans that end later are lost.
            assert!(
                at_shutdown.is_none_or(|exported| exported == spans.len()),
                "{work}: {at_shutdown:?}\n{}",
                recorder.trees()
            );
            let changed: Vec<_> = named(&spans, "credential.rotation")
                .into_iter()
                .filter(|root| attribute(root, "trigger").as_deref() == Some("changed"))
                .collect();
            assert_eq!(changed.len(), 1, "{work} {end}");
        }
    }
}
