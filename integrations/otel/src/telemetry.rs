//! OpenTelemetry's providers and their setup.

use std::error::Error;
use std::fmt;
use std::io::IsTerminal;
use std::time::Duration;

use opentelemetry::global;
use opentelemetry::metrics::{Meter, MeterProvider, NoopMeterProvider};
use opentelemetry::propagation::TextMapCompositePropagator;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{
    ExporterBuildError, MetricExporter, OTEL_EXPORTER_OTLP_METRICS_ENDPOINT,
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, Protocol, SpanExporter, WithExportConfig,
};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Subscriber;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::exports::{Exports, Recorder, Signal};
use crate::{filter, settings};

/// Scope of exported spans.
const SCOPE: &str = "claviger-otel";

/// Path for spans, by the specification of OTLP.
const TRACES: &str = "/v1/traces";

/// Path for metrics.
const METRICS: &str = "/v1/metrics";

/// Advice for exporting that is configured by variables.
const VARIABLES_ADVICE: &str = "start a collector there, or set another one in \
    OTEL_EXPORTER_OTLP_ENDPOINT; OTEL_SDK_DISABLED=true disables exporting, \
    OTEL_TRACES_EXPORTER=none or OTEL_METRICS_EXPORTER=none one signal";

/// Advice for exporting that is configured by code.
const CODE_ADVICE: &str = "start a collector there, or change or remove the call of \
    Telemetry::traces_to in the service's code";

/// Timeout of the last export, for a collector that does not respond.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Sets up telemetry for the whole process. Spans and metrics are exported by OTLP. Log lines are
/// written to stderr. W3C trace context and baggage are propagated. Call it once, first in `main`.
/// The collector need not be available.
///
/// `service` is the `service.name`, unless `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` sets
/// it.
///
/// # Errors
/// A variable is invalid (the message names it), or a subscriber of `tracing` is already set. In
/// the latter case use [`Telemetry::start`].
pub fn init(service: &str) -> Result<Telemetry, InitError> {
    let telemetry = Telemetry::start(service)?;
    // Colours in a file would make searching harder.
    let log = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_filter(filter::logged());
    tracing_subscriber::registry()
        .with(log)
        .with(telemetry.layer())
        .try_init()
        .map_err(InitError::subscriber)?;
    telemetry.install();
    Ok(telemetry)
}

/// Exports spans and metrics until it is [shut down](Self::shutdown) or dropped.
pub struct Telemetry {
    traces: SdkTracerProvider,
    /// `None` without an exporter, because the SDK would report an error for each observable
    /// instrument.
    metrics: Option<SdkMeterProvider>,
    traces_recorder: Option<Recorder>,
    metrics_recorder: Option<Recorder>,
}

impl Telemetry {
    /// Starts the exporters. Sets nothing global. A signal that the variables disable is not
    /// exported.
    ///
    /// # Errors
    /// A variable is invalid; the message names it.
    pub fn start(service: &str) -> Result<Self, InitError> {
        settings::check_protocol()?;
        let resource = settings::resource(service);
        let exports = Exports::new(VARIABLES_ADVICE);
        let mut traces = SdkTracerProvider::builder().with_resource(resource.clone());
        let (mut metrics, mut traces_recorder, mut metrics_recorder) = (None, None, None);
        if settings::is_exported("OTEL_TRACES_EXPORTER")? {
            let exporter = SpanExporter::builder()
                .with_http()
                .build()
                .map_err(InitError::exporter)?;
            let recorder = Recorder::new(
                &exports,
                Signal::Traces,
                &settings::endpoint(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, TRACES),
            );
            traces = traces.with_batch_exporter(recorder.clone().observe(exporter));
            traces_recorder = Some(recorder);
        }
        if settings::is_exported("OTEL_METRICS_EXPORTER")? {
            let exporter = MetricExporter::builder()
                .with_http()
                .build()
                .map_err(InitError::exporter)?;
            let recorder = Recorder::new(
                &exports,
                Signal::Metrics,
                &settings::endpoint(OTEL_EXPORTER_OTLP_METRICS_ENDPOINT, METRICS),
            );
            let exporter = recorder.clone().observe(exporter);
            metrics = Some(
                SdkMeterProvider::builder()
                    .with_resource(resource)
                    .with_periodic_exporter(exporter)
                    .build(),
            );
            metrics_recorder = Some(recorder);
        }
        Ok(Self {
            traces: traces.build(),
            metrics,
            traces_recorder,
            metrics_recorder,
        })
    }

    /// Exports spans only, to the collector at this address (`http://localhost:4318`, or the
    /// complete `http://localhost:4318/v1/traces`). Ignores the variables of the exporter, and sets
    /// nothing global. For demos and tests, and for Jaeger, which accepts no metrics.
    ///
    /// # Errors
    /// The address is invalid.
    pub fn traces_to(service: &str, collector: &str) -> Result<Self, InitError> {
        let resource = settings::resource(service);
        let address = collector.trim_end_matches('/');
        let endpoint = if address.ends_with(TRACES) {
            address.to_owned()
        } else {
            format!("{address}{TRACES}")
        };
        let recorder = Recorder::new(&Exports::new(CODE_ADVICE), Signal::Traces, &endpoint);
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint)
            .build();
        let exporter = recorder
            .clone()
            .observe(exporter.map_err(InitError::exporter)?);
        let traces = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_batch_exporter(exporter)
            .build();
        Ok(Self {
            traces,
            metrics: None,
            traces_recorder: Some(recorder),
            metrics_recorder: None,
        })
    }

    /// Returns a layer for your own subscriber that exports spans of `tracing` from INFO on. It
    /// exports no spans of ractor, which last as long as an actor, and none of the exporter itself.
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.traces.tracer(SCOPE))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(filter::exported())
    }

    /// Returns a meter whose metrics are exported here. Set it by
    /// [`with_meter`](crate::WithMeter::with_meter) if the global provider is another.
    pub fn meter(&self, name: &'static str) -> Meter {
        self.metrics.as_ref().map_or_else(
            || NoopMeterProvider::new().meter(name),
            |metrics| metrics.meter(name),
        )
    }

    /// Exports buffered telemetry, and waits for the result.
    ///
    /// # Errors
    /// The collector could not be reached, or rejected the export.
    pub fn flush(&self) -> Result<(), InitError> {
        let (traces, metrics) = (
            self.traces.force_flush(),
            self.metrics
                .as_ref()
                .map_or(Ok(()), SdkMeterProvider::force_flush),
        );
        traces.and(metrics).map_err(|error| InitError {
            message: "not everything was exported".to_owned(),
            source: Some(Box::new(error)),
        })
    }

    /// Exports buffered telemetry and stops. Blocks for up to 5 s per signal if the collector does
    /// not respond. Telemetry that it does not accept is lost.
    pub fn shutdown(self) {
        drop(self);
    }

    fn install(&self) {
        global::set_text_map_propagator(TextMapCompositePropagator::new(vec![
            Box::new(TraceContextPropagator::new()),
            Box::new(BaggagePropagator::new()),
        ]));
        global::set_tracer_provider(self.traces.clone());
        if let Some(metrics) = &self.metrics {
            global::set_meter_provider(metrics.clone());
        }
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        // An export that is still running was not recorded by the exporter.
        let record = |recorder: &Option<Recorder>, result: OTelSdkResult| {
            if let (Some(recorder), Err(error)) = (recorder, result) {
                recorder.record(&Err(error));
            }
        };
        record(
            &self.traces_recorder,
            self.traces.shutdown_with_timeout(SHUTDOWN_TIMEOUT),
        );
        if let Some(metrics) = &self.metrics {
            record(
                &self.metrics_recorder,
                metrics.shutdown_with_timeout(SHUTDOWN_TIMEOUT),
            );
        }
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").finish_non_exhaustive()
    }
}

/// Error of setting up telemetry, or of exporting.
#[derive(Debug)]
pub struct InitError {
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl InitError {
    pub(crate) fn invalid_variable(variable: &str, value: &str, valid: &str) -> Self {
        Self {
            message: format!("{variable}={value:?} is unknown; set it to {valid}"),
            source: None,
        }
    }

    fn exporter(error: ExporterBuildError) -> Self {
        Self {
            message:
                "the OTLP exporter could not be created; check the variables OTEL_EXPORTER_OTLP_…"
                    .to_owned(),
            source: Some(Box::new(error)),
        }
    }

    fn subscriber(error: TryInitError) -> Self {
        Self {
            message: "a subscriber of tracing is already set; add Telemetry::layer to it"
                .to_owned(),
            source: Some(Box::new(error)),
        }
    }
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for InitError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn Error + 'static))
    }
}
