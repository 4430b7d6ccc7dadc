//! What the feature `otel` costs, once it is on: a query and a rotation without a listener, with
//! meters alone, with spans as well, and with both on their way to a collector that is down.
//!
//! Here the feature is always on, for this package asks for it. Without it the same query and the
//! same rotation are measured by the core's own bench (`cargo xtask bench query own-work`).

#![expect(
    clippy::expect_used,
    reason = "a bench that cannot measure says so by panicking"
)]
#![expect(clippy::print_stdout, reason = "it prints what it measured")]

use std::time::Duration;

use claviger::Supervisor;
use claviger_fixtures::{Figures, Fixture, median, own_work};
use claviger_otel::Telemetry;
use claviger_servers::Jaeger;
use claviger_testkit::Lab;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_otlp::{MetricExporter, WithExportConfig};
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};
use tokio::runtime::Runtime;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::SubscriberExt;

/// Nobody listens on it: the discard service's.
const DOWN: &str = "http://127.0.0.1:9";

/// Metrics are collected so often, so that it happens while something is measured.
const COLLECTED_EVERY: Duration = Duration::from_secs(1);

/// Who listens.
struct Audience {
    name: &'static str,
    spans: Option<Telemetry>,
    meters: Option<SdkMeterProvider>,
}

impl Audience {
    /// For this thread, on which the runtime runs everything.
    fn listen(&self) -> Option<DefaultGuard> {
        let telemetry = self.spans.as_ref()?;
        Some(tracing::subscriber::set_default(
            tracing_subscriber::registry().with(telemetry.layer()),
        ))
    }

    /// A supervisor whose metrics go there; to the global provider, which is none, otherwise.
    fn lab(&self) -> Lab {
        let builder = Supervisor::builder();
        let builder = match &self.meters {
            Some(meters) => builder.with_meter(meters.meter("bench")),
            None => builder,
        };
        Lab::with_builder(builder).expect("the durations are right")
    }
}

fn audiences(jaeger: &Jaeger) -> [Audience; 4] {
    let spans =
        |collector: &str| Some(Telemetry::traces_to("bench", collector).expect("it exports"));
    // Jaeger takes no metrics.
    let collected = || Some(collecting(InMemoryMetricExporter::default()));
    let lost = MetricExporter::builder()
        .with_http()
        .with_endpoint(format!("{DOWN}/v1/metrics"))
        .build()
        .expect("it exports");
    [
        Audience {
            name: "no listener",
            spans: None,
            meters: None,
        },
        Audience {
            name: "meters",
            spans: None,
            meters: collected(),
        },
        Audience {
            name: "meters and spans",
            spans: spans(&jaeger.otlp_endpoint()),
            meters: collected(),
        },
        Audience {
            name: "meters and spans, collector down",
            spans: spans(DOWN),
            meters: Some(collecting(lost)),
        },
    ]
}

fn collecting(exporter: impl PushMetricExporter) -> SdkMeterProvider {
    SdkMeterProvider::builder()
        .with_reader(
            PeriodicReader::builder(exporter)
                .with_interval(COLLECTED_EVERY)
                .build(),
        )
        .build()
}

fn main() {
    // A test run of all targets only wants to see that this starts.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let jaeger = Jaeger::start().expect("Jaeger starts");
    let audiences = audiences(&jaeger);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let mut figures = Figures::default();
    queries(&mut figures, &runtime, &audiences);
    rotations(&mut figures, &runtime, &audiences);
    println!("\n{figures}");
}

/// Beside a raw pool under the same audience: what is left is ours.
fn queries(figures: &mut Figures, runtime: &Runtime, audiences: &[Audience]) {
    let fixture = runtime.block_on(Fixture::new());
    for audience in audiences {
        let _listening = audience.listen();
        let title = format!(
            "query through &Handle / raw &PgPool, otel on, {}",
            audience.name
        );
        runtime.block_on(async {
            let Lab { supervisor, .. } = audience.lab();
            let login = supervisor
                .add_provider("login", fixture.provider.clone())
                .await
                .expect("a lease");
            fixture
                .compare_with_plain_pool(figures, &title, &supervisor, &login)
                .await;
            supervisor.shutdown(Duration::from_secs(5)).await;
        });
    }
    runtime.block_on(fixture.supervisor.shutdown(Duration::from_secs(5)));
}

/// Each with a supervisor of its own.
fn rotations(figures: &mut Figures, runtime: &Runtime, audiences: &[Audience]) {
    for audience in audiences {
        let _listening = audience.listen();
        let mut took = runtime.block_on(async { own_work(&audience.lab().supervisor).await });
        figures.for_comparison(
            &format!(
                "a rotation's own work, otel on, {}, µs, median",
                audience.name
            ),
            median(&mut took),
        );
    }
}
