//! Reads traces from Jaeger when it has received all spans.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use claviger_otel::Telemetry;
use claviger_servers::Jaeger;
use claviger_traces::{Span, spans};
use tracing::span::Id;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// Counts the ended spans of Claviger and of the test, because Jaeger stores spans in no order.
#[derive(Clone, Debug, Default)]
struct EndedSpans(Arc<AtomicUsize>);

impl<S: Subscriber + for<'span> LookupSpan<'span>> Layer<S> for EndedSpans {
    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let target = context.metadata(&id).map_or("", Metadata::target);
        if target.starts_with("claviger") || target.starts_with("jaeger") {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Runs the scenario. Returns the response and spans of a new Jaeger for the service `orders`. The
/// address for spans ends with `path`.
pub(crate) async fn run_traced(
    path: &str,
    scenario: impl Future<Output = ()>,
) -> (String, Vec<Span>) {
    let jaeger = tokio::task::spawn_blocking(Jaeger::start)
        .await
        .expect("no panic")
        .expect("Jaeger starts");
    let telemetry = Telemetry::traces_to("orders", &format!("{}{path}", jaeger.otlp_endpoint()))
        .expect("it exports");
    let ended = EndedSpans::default();
    tracing_subscriber::registry()
        .with(telemetry.layer())
        .with(ended.clone())
        .init();
    scenario.await;
    tokio::task::spawn_blocking(move || {
        telemetry.flush().expect("everything was sent");
        telemetry.shutdown();
        spans_in(&jaeger, &ended)
    })
    .await
    .expect("no panic")
}

/// Reads the spans once all have been received.
fn spans_in(jaeger: &Jaeger, ended: &EndedSpans) -> (String, Vec<Span>) {
    let expected = ended.0.load(Ordering::Relaxed);
    let request = || {
        jaeger
            .get("/api/traces?service=orders&limit=1000")
            .expect("it responds")
    };
    (0..250)
        .map(|_| request())
        .map(|response| (spans(&response).expect("it is JSON"), response))
        .find(|(spans, _)| {
            let is_complete = spans.len() == expected;
            if !is_complete {
                std::thread::sleep(Duration::from_millis(20));
            }
            is_complete
        })
        .map(|(spans, response)| (response, spans))
        .expect("exactly these spans arrive within five seconds")
}
