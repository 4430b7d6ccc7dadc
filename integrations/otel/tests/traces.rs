//! Rotations as OpenTelemetry exports them: kinds, status, links and when spans end.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use claviger::Supervisor;
use claviger::error::{ConnectError, ConnectErrorKind, ProviderError, ProviderErrorKind};
use claviger::report::RotationTrigger;
use claviger_fixtures::eventually;
use claviger_testkit::{Lab, ScriptedPools, ScriptedProvider};
use common::Recorder;
use opentelemetry::trace::{TraceContextExt, Tracer, TracerProvider};
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData};
use tokio::time::sleep;
use tracing::Instrument;

/// Returns a provider and a database with one pool, after the first rotation.
async fn fixture(
    lab: &Lab,
) -> (
    ScriptedProvider,
    ScriptedPools,
    claviger::Handle<claviger_testkit::ScriptedPools>,
) {
    let (provider, database) = (ScriptedProvider::new(), ScriptedPools::new(10));
    let credentials = lab
        .supervisor
        .add_provider("orders-credentials", provider.clone())
        .await
        .expect("a lease");
    let pool = lab
        .supervisor
        .add_pool("orders", &credentials, database.clone())
        .await
        .expect("verified");
    (provider, database, pool)
}

#[tokio::test(start_paused = true)]
async fn a_pools_first_handover_is_linked_to_the_rotation_of_its_lease() {
    let recorder = Recorder::new();
    let _guard = tracing::subscriber::set_default(recorder.subscriber());
    let lab = Lab::new();
    let _fixture = fixture(&lab).await;
    insta::assert_snapshot!(recorder.trees(), @r"
    credential.rotation outcome=adopted provider=orders-credentials revision=6b86b273 trigger=start
      credential.fetch (client) provider=orders-credentials trigger=start
    pool.handover generation=1 mode=replace pool=orders revision=6b86b273 → credential.rotation
      pool.verify (client)
      pool.open
      pool.publish generation=1
    ");
}

#[tokio::test(start_paused = true)]
async fn a_rotation_within_a_request_is_linked_to_the_request() {
    let recorder = Recorder::new();
    let _guard = tracing::subscriber::set_default(recorder.subscriber());
    let lab = Lab::new();
    let (provider, _, _) = fixture(&lab).await;
    recorder.clear();
    provider.rotate();
    lab.supervisor
        .rotate_now("orders-credentials")
        .instrument(tracing::info_span!("POST /rotate", otel.kind = "server"))
        .await
        .expect("it rotates");
    sleep(Duration::from_secs(1)).await;
    insta::assert_snapshot!(recorder.trees(), @r"
    POST /rotate (server)
    credential.rotation generation=2 outcome=adopted provider=orders-credentials revision=d4735e3a trigger=manual → POST /rotate
      credential.fetch (client) provider=orders-credentials trigger=manual
      pool.handover generation=2 mode=replace pool=orders revision=d4735e3a
        pool.verify (client)
        pool.open
        pool.warm connections=1
        pool.publish generation=2
    pool.drain generation=1 pool=orders → credential.rotation
    ");
}

/// The service uses OpenTelemetry's own API, and its trace has a remote parent.
#[tokio::test(start_paused = true)]
async fn a_request_of_opentelemetrys_api_is_linked() {
    let recorder = Recorder::new();
    let _guard = tracing::subscriber::set_default(recorder.subscriber());
    let lab = Lab::new();
    let (provider, _, _) = fixture(&lab).await;
    recorder.clear();
    provider.rotate();
    let span = SdkTracerProvider::builder()
        .build()
        .tracer("service")
        .start("request");
    let context = opentelemetry::Context::current_with_span(span);
    let request = context.span().span_context().clone();
    {
        // `rotate_now` reads the current context when it is first polled.
        use opentelemetry::context::FutureExt;
        lab.supervisor
            .rotate_now("orders-credentials")
            .with_context(context)
            .await
            .expect("it rotates");
    }
    let root = recorder
        .spans()
        .into_iter()
        .find(|span| span.name == "credential.rotation")
        .expect("it was exported");
    assert_eq!(
        root.links
            .iter()
            .map(|link| link.span_context.clone())
            .collect::<Vec<_>>(),
        [request]
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_attempt_that_is_retried_marks_only_itself() {
    let recorder = Recorder::new();
    let _guard = tracing::subscriber::set_default(recorder.subscriber());
    let lab = Lab::new();
    let (provider, database, pool) = fixture(&lab).await;
    // A recent verification would be repeated before a fetch.
    sleep(Duration::from_secs(11)).await;
    recorder.clear();
    // The fetch succeeds after the second verification, which comes after a second or a little
    // more.
    let down = ProviderError::new(ProviderErrorKind::Unavailable, "the backend is down");
    provider.fail_next(1, down.with_retry_after(Duration::from_millis(1_500)));
    provider.rotate();
    database.accept_only(["password-2"]);
    database.fail_next(
        1,
        ConnectError::new(ConnectErrorKind::Unreachable, "connection refused"),
    );
    assert!(
        pool.rejected(
            1,
            &ConnectError::new(ConnectErrorKind::Rejected, "password authentication failed")
                .with_code("28P01")
        )
    );
    sleep(Duration::from_secs(10)).await;
    insta::assert_snapshot!(recorder.trees(), @r#"
    credential.rotation generation=2 outcome=adopted provider=orders-credentials revision=d4735e3a trigger=rejected
      credential.fetch (client) error.type=unavailable provider=orders-credentials trigger=rejected ERROR "the backend is down (unavailable)"
      pool.handover error.type=unreachable pool=orders revision=6b86b273 ERROR "connection refused (unreachable)"
        pool.verify (client) error.type=unreachable ERROR "connection refused (unreachable)"
      credential.fetch (client) provider=orders-credentials trigger=rejected
      pool.handover generation=2 mode=replace pool=orders revision=d4735e3a
        pool.verify (client)
        pool.open
        pool.warm connections=1
        pool.publish generation=2
    pool.drain generation=1 pool=orders → credential.rotation
    "#);
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_drain_is_exported_at_its_deadline() {
    let recorder = Recorder::new();
    let _guard = tracing::subscriber::set_default(recorder.subscriber());
    let lab = Lab::new();
    let (provider, database, _) = fixture(&lab).await;
    let connection = database
        .opened()
        .first()
        .expect("one was opened")
        .connection();
    recorder.clear();
    provider.rotate();
    lab.supervisor
        .rotate_now("orders-credentials")
        .await
        .expect("it rotates");
    sleep(Duration::from_secs(59)).await;
    assert!(
        !recorder.trees().contains("pool.drain"),
        "before its deadline"
    );
    sleep(Duration::from_secs(2)).await;
    let trees = recorder.trees();
    let drain = &trees[trees
        .find("pool.drain")
        .expect("it was exported while its connection is open")..];
    insta::assert_snapshot!(drain, @r#"
    pool.drain abandoned=true error.type=drain_abandoned generation=1 pool=orders ERROR "connections outlive the drain deadline of their generation" → credential.rotation
      ! connections outlive the drain deadline of their generation; they stay open, and its lease is kept {connections, generation, level, pool, target}
    "#);
    drop(connection);
}

#[tokio::test]
async fn a_fetch_that_hangs_is_exported_at_its_deadline() {
    let recorder = Recorder::new();
    let _guard = tracing::subscriber::set_default(recorder.subscriber());
    let deadline = Duration::from_millis(200);
    let supervisor = Supervisor::builder()
        .with_fetch_deadline(deadline)
        .start()
        .expect("it starts");
    let provider = ScriptedProvider::new();
    provider.stall();
    let _credentials = supervisor
        .add_provider_in_background("orders-credentials", provider.clone())
        .expect("it is registered");
    eventually("the first attempt was exported", || {
        recorder
            .spans()
            .iter()
            .any(|span| span.name == "credential.fetch")
    })
    .await;
    let fetch = recorder
        .spans()
        .into_iter()
        .find(|span| span.name == "credential.fetch")
        .expect("it was exported");
    assert!(attribute(&fetch, "error.type").is_some_and(|kind| kind == "timed_out"));
    assert!(length(&fetch) >= deadline, "{:?}", length(&fetch));
    provider.resume();
}

#[tokio::test(start_paused = true)]
async fn a_rotation_that_ends_with_the_supervisor_is_marked_by_its_last_failure() {
    let recorder = Recorder::new();
    let _guard = tracing::subscriber::set_default(recorder.subscriber());
    let lab = Lab::new();
    let (provider, _, _) = fixture(&lab).await;
    recorder.clear();
    provider.fail_next(
        1_000,
        ProviderError::new(ProviderErrorKind::Unavailable, "the backend is down"),
    );
    assert!(
        lab.supervisor
            .rotate_now("orders-credentials")
            .await
            .is_err()
    );
    lab.supervisor.shutdown(Duration::from_secs(5)).await;
    let root = recorder
        .spans()
        .into_iter()
        .find(|span| span.name == "credential.rotation")
        .expect("it was exported");
    assert_eq!(attribute(&root, "outcome").as_deref(), Some("unfinished"));
    assert_eq!(
        attribute(&root, "error.type").as_deref(),
        Some("unavailable")
    );
    assert_eq!(
        root.status,
        opentelemetry::trace::Status::error("the backend is down (unavailable)")
    );
}

/// An outage can be read while it lasts, and no trace has thousands of spans.
#[tokio::test(start_paused = true)]
async fn a_long_rotation_is_exported_in_linked_parts() {
    let recorder = Recorder::new();
    let _guard = tracing::subscriber::set_default(recorder.subscriber());
    let lab = Lab::new();
    let (provider, _, _) = fixture(&lab).await;
    recorder.clear();
    provider.fail_next(
        1_000,
        ProviderError::new(ProviderErrorKind::Unavailable, "the backend is down"),
    );
    provider.rotate();
    assert!(
        lab.supervisor
            .rotate_now("orders-credentials")
            .await
            .is_err()
    );
    sleep(Duration::from_secs(1_000)).await;
    let roots = || {
        recorder
            .spans()
            .into_iter()
            .filter(|span| span.name == "credential.rotation")
            .collect::<Vec<_>>()
    };
    let during = roots();
    assert_eq!(
        during.len(),
        4,
        "after one minute, two, four and five: {during:?}"
    );
    provider.recover();
    sleep(Duration::from_secs(60)).await;

    let (spans, roots) = (recorder.spans(), roots());
    assert_eq!(roots.len(), 5);
    for (before, part) in roots.iter().zip(&roots[1..]) {
        assert_eq!(
            before.status,
            opentelemetry::trace::Status::error("the backend is down (unavailable)")
        );
        assert_eq!(attribute(before, "outcome").as_deref(), Some("unfinished"));
        assert_eq!(
            part.links
                .iter()
                .map(|link| link.span_context.clone())
                .collect::<Vec<_>>(),
            std::slice::from_ref(&before.span_context)
        );
        assert_ne!(part.span_context.trace_id(), before.span_context.trace_id());
    }
    let last = roots.last().expect("there are five");
    assert_eq!(last.status, opentelemetry::trace::Status::Unset);
    assert_eq!(
        (attribute(last, "outcome"), attribute(last, "trigger")),
        (Some("adopted".to_owned()), Some("manual".to_owned()))
    );
    let ids: Vec<_> = spans
        .iter()
        .map(|span| span.span_context.span_id())
        .collect();
    let fetches: Vec<_> = spans
        .iter()
        .filter(|span| span.name == "credential.fetch")
        .collect();
    assert!(
        fetches.len() > 90
            && fetches
                .iter()
                .all(|fetch| ids.contains(&fetch.parent_span_id)),
        "{}",
        fetches.len()
    );
    let handover = spans
        .iter()
        .find(|span| span.name == "pool.handover")
        .expect("it was handed over");
    assert_eq!(handover.parent_span_id, last.span_context.span_id());
}

/// A failed verification marks the rotation, too.
#[tokio::test(start_paused = true)]
async fn a_part_is_marked_by_its_last_failed_verification() {
    let recorder = Recorder::new();
    let _guard = tracing::subscriber::set_default(recorder.subscriber());
    let lab = Lab::new();
    let (provider, database, _) = fixture(&lab).await;
    recorder.clear();
    database.fail_next(
        1_000,
        ConnectError::new(ConnectErrorKind::Unreachable, "connection refused"),
    );
    provider.rotate();
    provider.hint();
    sleep(Duration::from_secs(100)).await;
    let root = recorder
        .spans()
        .into_iter()
        .find(|span| span.name == "credential.rotation")
        .expect("its first part is over");
    assert_eq!(
        root.status,
        opentelemetry::trace::Status::error("connection refused (unreachable)")
    );
    assert_eq!(
        attribute(&root, "error.type").as_deref(),
        Some("unreachable")
    );
    assert_eq!(attribute(&root, "revision").as_deref(), Some("d4735e3a"));
    lab.supervisor.shutdown(Duration::from_secs(5)).await;
    let revisions: Vec<_> = recorder
        .spans()
        .iter()
        .filter(|span| {
            span.name == "credential.rotation"
                && attribute(span, "trigger").as_deref() == Some("changed")
        })
        .map(|part| attribute(part, "revision"))
        .collect();
    assert_eq!(revisions, vec![Some("d4735e3a".to_owned()); 2]);
}

/// The password was changed, and the backend still returns the rejected one. This is one rotation,
/// even if it lasts long.
#[tokio::test(start_paused = true)]
async fn a_rejected_credential_without_a_successor_is_one_rotation() {
    let recorder = Recorder::new();
    let _guard = tracing::subscriber::set_default(recorder.subscriber());
    let lab = Lab::new();
    let (provider, database, pool) = fixture(&lab).await;
    recorder.clear();
    database.accept_only(["unknown"]);
    assert!(
        pool.rejected(
            1,
            &ConnectError::new(ConnectErrorKind::Rejected, "password authentication failed")
                .with_code("28P01")
        )
    );
    let rejected = || {
        lab.supervisor
            .status()
            .providers
            .first()
            .map(|provider| provider.rejected)
    };
    for second in 0..900 {
        sleep(Duration::from_secs(1)).await;
        assert_eq!(rejected(), Some(true), "after {second} s");
    }
    database.accept_only([provider.rotate()]);
    provider.hint();
    sleep(Duration::from_secs(70)).await;
    assert_eq!(rejected(), Some(false));

    let roots: Vec<_> = recorder
        .spans()
        .into_iter()
        .filter(|span| span.name == "credential.rotation")
        .collect();
    let (last, before) = roots.split_last().expect("there are some");
    assert!(before.len() >= 3, "{}", recorder.trees());
    for (part, next) in before.iter().zip(&roots[1..]) {
        assert_eq!(attribute(part, "outcome").as_deref(), Some("unfinished"));
        assert!(
            matches!(
                &part.status,
                opentelemetry::trace::Status::Error { description }
                    if description.contains("28P01")
            ),
            "{:?}",
            part.status
        );
        assert!(
            next.links
                .iter()
                .any(|link| link.span_context == part.span_context)
        );
    }
    assert_eq!(
        (attribute(last, "outcome"), attribute(last, "trigger")),
        (Some("adopted".to_owned()), Some("rejected".to_owned()))
    );
}

/// After the removal no pool needs another credential.
#[tokio::test(start_paused = true)]
async fn a_rotation_after_a_rejection_ends_when_its_pool_is_removed() {
    let recorder = Recorder::new();
    let _guard = tracing::subscriber::set_default(recorder.subscriber());
    let lab = Lab::new();
    let (_provider, database, pool) = fixture(&lab).await;
    recorder.clear();
    database.accept_only(["unknown"]);
    assert!(
        pool.rejected(
            1,
            &ConnectError::new(ConnectErrorKind::Rejected, "password authentication failed")
                .with_code("28P01")
        )
    );
    sleep(Duration::from_secs(30)).await;
    let roots = || {
        recorder
            .spans()
            .into_iter()
            .filter(|span| span.name == "credential.rotation")
            .collect::<Vec<_>>()
    };
    assert!(roots().is_empty(), "it continues: {}", recorder.trees());
    lab.supervisor
        .remove_pool("orders")
        .await
        .expect("it is removed");
    let ended: Vec<_> = roots()
        .iter()
        .map(|root| (attribute(root, "trigger"), attribute(root, "outcome")))
        .collect();
    assert_eq!(
        ended,
        [(Some("rejected".to_owned()), Some("unchanged".to_owned()))]
    );
}

/// A concurrent reconcile is unrelated to a pool's first handover.
#[tokio::test(start_paused = true)]
async fn a_handover_is_no_part_of_a_concurrent_reconcile() {
    let recorder = Recorder::new();
    let _guard = tracing::subscriber::set_default(recorder.subscriber());
    let lab = Lab::new();
    let (provider, database) = (ScriptedProvider::new(), ScriptedPools::new(10));
    let credentials = lab
        .supervisor
        .add_provider("orders-credentials", provider.clone())
        .await
        .expect("a lease");
    provider.stall();
    provider.hint();
    while provider.calls().len() < 2 {
        sleep(Duration::from_millis(100)).await;
    }
    let _pool = lab
        .supervisor
        .add_pool("orders", &credentials, database.clone())
        .await
        .expect("verified");
    provider.resume();
    sleep(Duration::from_secs(1)).await;
    insta::assert_snapshot!(recorder.trees(), @r"
    credential.rotation outcome=adopted provider=orders-credentials revision=6b86b273 trigger=start
      credential.fetch (client) provider=orders-credentials trigger=start
    credential.rotation outcome=unchanged provider=orders-credentials trigger=changed
      credential.fetch (client) provider=orders-credentials trigger=changed
    pool.handover generation=1 mode=replace pool=orders revision=6b86b273 → credential.rotation
      pool.verify (client)
      pool.open
      pool.publish generation=1
    ");
}

/// Children are within their parents, and the steps of a handover take no longer than the handover.
#[tokio::test(start_paused = true)]
async fn every_trigger_is_a_root_that_contains_its_children() {
    let recorder = Recorder::new();
    let _guard = tracing::subscriber::set_default(recorder.subscriber());
    let lab = Lab::new();
    let (provider, database, pool) = fixture(&lab).await;
    // Schedule: the poll of a lease without an expiry, which finds nothing new.
    sleep(Duration::from_secs(301)).await;
    provider.rotate();
    provider.hint();
    sleep(Duration::from_secs(2)).await;
    database.accept_only([provider.rotate()]);
    assert!(
        pool.rejected(
            2,
            &ConnectError::new(ConnectErrorKind::Rejected, "password authentication failed")
                .with_code("28P01")
        )
    );
    sleep(Duration::from_secs(2)).await;
    lab.supervisor
        .rotate_now("orders-credentials")
        .await
        .expect("it responds");
    lab.clock.jump(Duration::from_secs(3_600));
    sleep(Duration::from_secs(16)).await;

    let spans = recorder.spans();
    let roots: Vec<_> = spans
        .iter()
        .filter(|span| span.name == "credential.rotation")
        .collect();
    for trigger in [
        RotationTrigger::Start,
        RotationTrigger::Schedule,
        RotationTrigger::Changed,
        RotationTrigger::Rejected,
        RotationTrigger::Manual,
        RotationTrigger::ClockJump,
    ] {
        let root = roots
            .iter()
            .find(|root| attribute(root, "trigger").as_deref() == Some(trigger.as_str()));
        let root = root.expect("each trigger has its rotation");
        assert_eq!(root.parent_span_id, opentelemetry::trace::SpanId::INVALID);
        let adopted = matches!(
            trigger,
            RotationTrigger::Start | RotationTrigger::Changed | RotationTrigger::Rejected
        );
        assert_eq!(
            attribute(root, "outcome").as_deref(),
            Some(if adopted { "adopted" } else { "unchanged" }),
            "{trigger}"
        );
    }
    let traces: std::collections::HashSet<_> = roots
        .iter()
        .map(|root| root.span_context.trace_id())
        .collect();
    assert_eq!(traces.len(), roots.len(), "each is a trace of its own");
    for span in &spans {
        if let Some(parent) = spans
            .iter()
            .find(|parent| parent.span_context.span_id() == span.parent_span_id)
        {
            assert!(
                parent.start_time <= span.start_time && span.end_time <= parent.end_time,
                "{} in {}",
                span.name,
                parent.name
            );
            let children = spans
                .iter()
                .filter(|child| child.parent_span_id == parent.span_context.span_id());
            if parent.name == "pool.handover" {
                assert!(children.map(length).sum::<Duration>() <= length(parent));
            }
        }
    }
}

fn attribute(span: &SpanData, name: &str) -> Option<String> {
    span.attributes
        .iter()
        .find(|attribute| attribute.key.as_str() == name)
        .map(|attribute| attribute.value.to_string())
}

fn length(span: &SpanData) -> Duration {
    span.end_time
        .duration_since(span.start_time)
        .unwrap_or_default()
}
