//! When Jaeger has everything.

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

/// Counts the spans of Claviger and of the test that are over. Jaeger takes what it is sent in no
/// order.
#[derive(Clone, Debug, Default)]
struct Ended(Arc<AtomicUsize>);

impl<S: Subscriber + for<'span> LookupSpan<'span>> Layer<S> for Ended {
    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let target = context.metadata(&id).map_or("", Metadata::target);
        if target.starts_with("claviger") || target.starts_with("jaeger") {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What a Jaeger of its own has of the service `orders` after the play: its answer, and the spans
/// in it. The address that takes traces ends with `path`.
pub(crate) async fn traced(path: &str, play: impl Future<Output = ()>) -> (String, Vec<Span>) {
    let jaeger = tokio::task::spawn_blocking(Jaeger::start)
        .await
        .expect("no panic")
        .expect("Jaeger starts");
    let telemetry = Telemetry::traces_to("orders", &format!("{}{path}", jaeger.otlp_endpoint()))
        .expect("it exports");
    let ended = Ended::default();
    tracing_subscriber::registry()
        .with(telemetry.layer())
        .with(ended.clone())
        .init();
    play.await;
    tokio::task::spawn_blocking(move || {
        telemetry.flush().expect("everything was sent");
        telemetry.shutdown();
        told_by(&jaeger, &ended)
    })
    .await
    .expect("no panic")
}

/// Once it has all that ended.
fn told_by(jaeger: &Jaeger, ended: &Ended) -> (String, Vec<Span>) {
    let expected = ended.0.load(Ordering::Relaxed);
    let ask = || {
        jaeger
            .get("/api/traces?service=orders&limit=1000")
            .expect("it answers")
    };
    (0..250)
        .map(|_| ask())
        .map(|answer| (spans(&answer).expect("it is JSON"), answer))
        .find(|(spans, _)| {
            let all_there = spans.len() == expected;
            if !all_there {
                std::thread::sleep(Duration::from_millis(20));
            }
            all_there
        })
        .map(|(spans, answer)| (answer, spans))
        .expect("all was told within five seconds, and no more")
}
