//! Claviger's metrics for Prometheus.

use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Registry, TextEncoder};

use crate::Problem;

/// The service's own registry of metrics. Nothing global is set. Clones share it.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    provider: SdkMeterProvider,
}

impl Metrics {
    /// Creates a registry and registers the exporter.
    ///
    /// # Errors
    /// The exporter cannot be registered.
    pub fn new(service: &'static str) -> Result<Self, Problem> {
        let registry = Registry::new();
        // The scope would add two useless labels to each series.
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .build()?;
        let resource = Resource::builder().with_service_name(service).build();
        let provider = SdkMeterProvider::builder()
            .with_reader(exporter)
            .with_resource(resource)
            .build();
        Ok(Self { registry, provider })
    }

    /// Sets these as the global metrics, which a supervisor uses by default.
    pub fn set_global(&self) {
        opentelemetry::global::set_meter_provider(self.provider.clone());
    }

    /// Returns the meter of one supervisor, if a process has several.
    pub fn meter(&self) -> Meter {
        self.provider.meter("claviger")
    }

    /// Returns the metrics in the text format 0.0.4, whose type is
    /// [`CONTENT_TYPE`](Self::CONTENT_TYPE).
    ///
    /// # Errors
    /// A metric cannot be written as text.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    /// Content type of the text of [`text`](Self::text).
    pub const CONTENT_TYPE: &'static str = prometheus::TEXT_FORMAT;
}
