//! What the standard variables say, as far as the SDK and its exporter do not read them themselves.

use std::env;

use opentelemetry_otlp::OTEL_EXPORTER_OTLP_ENDPOINT;
use opentelemetry_sdk::Resource;

use crate::InitError;

/// The collector's address where no variable names one.
const COLLECTOR: &str = "http://localhost:4318";

/// Whether this signal is to be exported: `OTEL_SDK_DISABLED`, and `OTEL_TRACES_EXPORTER` or
/// `OTEL_METRICS_EXPORTER`.
pub(crate) fn is_exported(exporter: &'static str) -> Result<bool, InitError> {
    if value("OTEL_SDK_DISABLED").is_some_and(|disabled| disabled.eq_ignore_ascii_case("true")) {
        return Ok(false);
    }
    match value(exporter).as_deref() {
        None | Some("otlp") => Ok(true),
        Some("none") => Ok(false),
        Some(other) => Err(InitError::unknown(exporter, other, "otlp or none")),
    }
}

/// The one protocol that is built in.
pub(crate) fn check_protocol() -> Result<(), InitError> {
    for variable in [
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
    ] {
        if let Some(other) = value(variable).filter(|protocol| protocol != "http/protobuf") {
            return Err(InitError::unknown(
                variable,
                &other,
                "http/protobuf (port 4318 of a collector)",
            ));
        }
    }
    Ok(())
}

/// Where a signal is sent, as the exporter reads it: the variable of the signal as it is, else that
/// of all signals with the signal's path.
pub(crate) fn endpoint(of_signal: &str, path: &str) -> String {
    value(of_signal).unwrap_or_else(|| {
        let collector = value(OTEL_EXPORTER_OTLP_ENDPOINT).unwrap_or_else(|| COLLECTOR.to_owned());
        format!(
            "{}{path}",
            collector.strip_suffix('/').unwrap_or(&collector)
        )
    })
}

/// What the SDK reads from the environment; the service's name where that does not give one.
pub(crate) fn resource(service: &str) -> Resource {
    let named = value("OTEL_SERVICE_NAME").is_some()
        || value("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|attributes| {
            attributes
                .split(',')
                .any(|one| one.trim_start().starts_with("service.name="))
        });
    let resource = Resource::builder();
    if named {
        resource.build()
    } else {
        resource.with_service_name(service.to_owned()).build()
    }
}

/// An empty variable counts as unset, as the specification has it.
fn value(name: &str) -> Option<String> {
    env::var(name)
        .ok()
        .map(|value| value.trim().to_owned())
        .filter(|value| !value.is_empty())
}
