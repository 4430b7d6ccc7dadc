//! Cost of the feature `otel` for a query and a rotation.
//!
//! It is measured without a listener, with meters, with meters and spans, and with both exported to
//! a collector that is down.
//!
//! This package enables the feature. The core's own bench measures the same without it (`cargo
//! xtask bench query own-work`).

#![expect(clippy::expect_used, reason = "a bench that cannot measure panics")]
#![expect(clippy::print_stdout, reason = "it prints its figures")]

use std::time::Duration;

use claviger::Supervisor;
use claviger_fixtures::{Figures, Fixture, measure_own_work, median};
use claviger_otel::Telemetry;
use claviger_otel::WithMeter;
use claviger_servers::Jaeger;
use claviger_testkit::Lab;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_otlp::{MetricExporter, WithExportConfig};
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};
use tokio::runtime::Runtime;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::SubscriberExt;

/// The port of the discard service, on which nothing listens.
const DOWN: &str = "http://127.0.0.1:9";

/// Interval of metric collection, short enough for a measurement.
const COLLECTION_INTERVAL: Duration = Duration::from_secs(1);

/// A set of listeners.
struct Listeners {
    name: &'static str,
    spans: Option<Telemetry>,
    meters: Option<SdkMeterProvider>,
}

impl Listeners {
    /// Installs the spans' layer for this thread, which runs the whole runtime.
    fn listen(&self) -> Option<DefaultGuard> {
        let telemetry = self.spans.as_ref()?;
        Some(tracing::subscriber::set_default(
            tracing_subscriber::registry().with(telemetry.layer()),
        ))
    }

    /// Starts a supervisor with these meters. Without any it uses the global provider, which does
    /// nothing.
    fn lab(&self) -> Lab {
        let builder = Supervisor::builder();
        let builder = match &self.meters {
            Some(meters) => builder.with_meter(meters.meter("bench")),
            None => builder,
        };
        Lab::with_builder(builder).expect("the durations are valid")
    }
}

fn listener_sets(jaeger: &Jaeger) -> [Listeners; 4] {
    let spans =
        |collector: &str| Some(Telemetry::traces_to("bench", collector).expect("it exports"));
    // Jaeger accepts no metrics.
    let collected = || Some(meter_provider(InMemoryMetricExporter::default()));
    let lost = MetricExporter::builder()
        .with_http()
        .with_endpoint(format!("{DOWN}/v1/metrics"))
        .build()
        .expect("it exports");
    [
        Listeners {
            name: "no listener",
            spans: None,
            meters: None,
        },
        Listeners {
            name: "meters",
            spans: None,
            meters: collected(),
        },
        Listeners {
            name: "meters and spans",
            spans: spans(&jaeger.otlp_endpoint()),
            meters: collected(),
        },
        Listeners {
            name: "meters and spans, collector down",
            spans: spans(DOWN),
            meters: Some(meter_provider(lost)),
        },
    ]
}

fn meter_provider(exporter: impl PushMetricExporter) -> SdkMeterProvider {
    SdkMeterProvider::builder()
        .with_reader(
            PeriodicReader::builder(exporter)
                .with_interval(COLLECTION_INTERVAL)
                .build(),
        )
        .build()
}

fn main() {
    // `cargo test --all-targets` only checks that the bench starts.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let jaeger = Jaeger::start().expect("Jaeger starts");
    let listener_sets = listener_sets(&jaeger);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let mut figures = Figures::default();
    measure_queries(&mut figures, &runtime, &listener_sets);
    measure_rotations(&mut figures, &runtime, &listener_sets);
    println!("\n{figures}");
}

/// Measures queries relative to a plain pool with the same listeners. The ratio is the library's
/// cost.
fn measure_queries(figures: &mut Figures, runtime: &Runtime, listener_sets: &[Listeners]) {
    let fixture = runtime.block_on(Fixture::new());
    for listeners in listener_sets {
        let _listening = listeners.listen();
        let title = format!(
            "query through &Handle / raw &PgPool, otel on, {}",
            listeners.name
        );
        runtime.block_on(async {
            let Lab { supervisor, .. } = listeners.lab();
            let credentials = supervisor
                .add_provider("login", fixture.provider.clone())
                .await
                .expect("a lease");
            fixture
                .compare_with_plain_pool(figures, &title, &supervisor, &credentials)
                .await;
            supervisor.shutdown(Duration::from_secs(5)).await;
        });
    }
    runtime.block_on(fixture.supervisor.shutdown(Duration::from_secs(5)));
}

/// Measures rotations, each set of listeners with its own supervisor.
fn measure_rotations(figures: &mut Figures, runtime: &Runtime, listener_sets: &[Listeners]) {
    for listeners in listener_sets {
        let _listening = listeners.listen();
        let mut took =
            runtime.block_on(async { measure_own_work(&listeners.lab().supervisor).await });
        figures.for_comparison(
            &format!(
                "a rotation's own work, otel on, {}, µs, median",
                listeners.name
            ),
            median(&mut took),
        );
    }
}
