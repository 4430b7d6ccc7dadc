//! Claviger's metrics as a Prometheus scrapes them.

use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Registry, TextEncoder};

use crate::Problem;

/// The service's own registry: nothing global is set. Clones are the same.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    provider: SdkMeterProvider,
}

impl Metrics {
    /// Begins to count.
    ///
    /// # Errors
    /// When the exporter does not take to the registry, which it does.
    pub fn new(service: &'static str) -> Result<Self, Problem> {
        let registry = Registry::new();
        // Which library a metric is of tells nobody anything here, and would be two more labels of
        // each series.
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

    /// What [`SupervisorBuilder::with_meter`](claviger::SupervisorBuilder::with_meter) takes.
    pub fn meter(&self) -> Meter {
        self.provider.meter("claviger")
    }

    /// What stands at `/metrics`: the text format 0.0.4, which [`CONTENT_TYPE`](Self::CONTENT_TYPE)
    /// names.
    ///
    /// # Errors
    /// When a metric cannot be written as text.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    /// The type of that text.
    pub const CONTENT_TYPE: &'static str = prometheus::TEXT_FORMAT;
}
