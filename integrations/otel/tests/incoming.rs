//! A request with a `traceparent` that causes a rotation.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/with_remote_parent.rs"]
mod with_remote_parent;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::routing::post;
use claviger::Supervisor;
use claviger_testkit::{Lab, ScriptedPools, ScriptedProvider};
use common::Recorder;
use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tower::ServiceExt;
use with_remote_parent::with_remote_parent;

async fn rotate(State(supervisor): State<Supervisor>) -> StatusCode {
    supervisor
        .rotate_now("orders-credentials")
        .await
        .map_or(StatusCode::BAD_GATEWAY, |_| StatusCode::NO_CONTENT)
}

#[tokio::test(start_paused = true)]
async fn a_requests_span_has_the_remote_parent_and_a_linked_rotation() {
    let recorder = Recorder::new();
    let _guard = tracing::subscriber::set_default(recorder.subscriber());
    // As in `init`.
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    let lab = Lab::new();
    let provider = ScriptedProvider::new();
    let credentials = lab
        .supervisor
        .add_provider("orders-credentials", provider.clone())
        .await
        .expect("a lease");
    let pool = lab
        .supervisor
        .add_pool("orders", &credentials, ScriptedPools::new(10))
        .await
        .expect("verified");
    let service = Router::new()
        .route("/rotate", post(rotate))
        .layer(axum::middleware::from_fn(with_remote_parent))
        .with_state(lab.supervisor.clone());

    for (generation, traceparent) in [
        (
            2,
            Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ),
        (3, None),
    ] {
        recorder.clear();
        provider.rotate();
        let mut request = Request::post("/rotate");
        if let Some(traceparent) = traceparent {
            request = request.header("traceparent", traceparent);
        }
        let response = service
            .clone()
            .oneshot(request.body(Body::empty()).expect("a request"))
            .await
            .expect("it responds");
        assert_eq!(
            (response.status(), pool.generation()),
            (StatusCode::NO_CONTENT, generation)
        );

        let spans = recorder.spans();
        let named = |name: &str| {
            spans
                .iter()
                .find(|span| span.name == name)
                .expect("it was exported")
        };
        let (request, rotation) = (named("POST"), named("credential.rotation"));
        if traceparent.is_some() {
            assert_eq!(
                request.span_context.trace_id(),
                TraceId::from(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c)
            );
            assert_eq!(request.parent_span_id, SpanId::from(0xb7ad_6b71_6920_3331));
        } else {
            assert_eq!(request.parent_span_id, SpanId::INVALID);
        }
        let linked: Vec<_> = rotation
            .links
            .iter()
            .map(|link| &link.span_context)
            .collect();
        assert_eq!(linked, [&request.span_context], "{}", recorder.trees());
        assert_ne!(
            rotation.span_context.trace_id(),
            request.span_context.trace_id(),
            "a rotation is a trace of its own"
        );
    }
}

#[test]
fn the_readme_contains_this_layer() {
    let (_, layer) = include_str!("common/with_remote_parent.rs")
        .split_once("\n\n")
        .expect("it begins with its doc");
    assert!(include_str!("../README.md").contains(layer));
}
