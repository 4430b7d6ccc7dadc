//! OpenTelemetry for a service in one line.
//!
//! [`init`] exports spans and metrics to the collector of the standard `OTEL_*` variables, and
//! writes log lines to stderr. It sets the global propagator to W3C trace context and baggage. A
//! layer of the web framework reads both from requests (the
//! [README](https://github.com/claviger/claviger/blob/main/integrations/otel/README.md) has one for
//! axum). With the feature `otel` of [claviger](https://docs.rs/claviger), every rotation is a
//! trace and its metrics are exported, because both use the global providers.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let telemetry = claviger_otel::init("orders")?; // before Supervisor::start()
//! // … the service …
//! telemetry.shutdown(); // after Supervisor::shutdown(): sends what is still buffered
//! # Ok(()) }
//! ```
//!
//! | variable | default |
//! |---|---|
//! | `OTEL_EXPORTER_OTLP_ENDPOINT` (and `…_TRACES_ENDPOINT`, `…_METRICS_ENDPOINT`) | `http://localhost:4318` |
//! | `OTEL_EXPORTER_OTLP_HEADERS`, `…_TIMEOUT` | none, 10 s |
//! | `OTEL_EXPORTER_OTLP_PROTOCOL` | `http/protobuf`, the only one that is built in |
//! | `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES` | the name given to [`init`] |
//! | `OTEL_TRACES_SAMPLER`, `OTEL_TRACES_SAMPLER_ARG` | `parentbased_always_on` |
//! | `OTEL_TRACES_EXPORTER`, `OTEL_METRICS_EXPORTER` | `otlp`; or `none` |
//! | `OTEL_BSP_*`, `OTEL_METRIC_EXPORT_INTERVAL`, `OTEL_SPAN_*_LIMIT` | the SDK's: spans each 5 s, metrics each 60 s |
//! | `OTEL_SDK_DISABLED` | `false` |
//! | `RUST_LOG` | `info`. It filters log lines; spans are exported from INFO on. Failed exports are one WARN line an hour. The SDK's own lines about them are logged only if it names `opentelemetry` |
//!
//! A service with its own subscriber calls [`Telemetry::start`] and adds [`Telemetry::layer`]. This
//! sets nothing global.
//!
//! [Monitoring](https://github.com/claviger/claviger/blob/main/docs/monitoring.md) describes the
//! setup of alerts and of the dashboard.

mod crates;
mod exports;
mod filter;
mod meter;
mod quiet;
mod settings;
mod telemetry;

pub use meter::WithMeter;
pub use telemetry::{InitError, Telemetry, init};

/// Compiles the README's code.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
