//! Standard variables that the SDK and its exporter do not read themselves.

use std::env;

use opentelemetry_otlp::OTEL_EXPORTER_OTLP_ENDPOINT;
use opentelemetry_sdk::Resource;

use crate::InitError;

/// Default address of the collector.
const COLLECTOR: &str = "http://localhost:4318";

/// Returns whether a signal is exported, according to `OTEL_SDK_DISABLED`, and
/// `OTEL_TRACES_EXPORTER` or `OTEL_METRICS_EXPORTER`.
pub(crate) fn is_exported(exporter: &'static str) -> Result<bool, InitError> {
    if value("OTEL_SDK_DISABLED").is_some_and(|disabled| disabled.eq_ignore_ascii_case("true")) {
        return Ok(false);
    }
    match value(exporter).as_deref() {
        None | Some("otlp") => Ok(true),
        Some("none") => Ok(false),
        Some(other) => Err(InitError::invalid_variable(exporter, other, "otlp or none")),
    }
}

/// Checks that the variables set no protocol but the built-in one.
pub(crate) fn check_protocol() -> Result<(), InitError> {
    for variable in [
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
    ] {
        if let Some(other) = value(variable).filter(|protocol| protocol != "http/protobuf") {
            return Err(InitError::invalid_variable(
                variable,
                &other,
                "http/protobuf (port 4318 of a collector)",
            ));
        }
    }
    Ok(())
}

/// Returns the endpoint of a signal as the exporter determines it: the signal's variable unchanged,
/// else the general variable with the signal's path.
pub(crate) fn endpoint(variable: &str, path: &str) -> String {
    value(variable).unwrap_or_else(|| {
        let collector = value(OTEL_EXPORTER_OTLP_ENDPOINT).unwrap_or_else(|| COLLECTOR.to_owned());
        format!(
            "{}{path}",
            collector.strip_suffix('/').unwrap_or(&collector)
        )
    })
}

/// Returns the resource of the environment, with the service's name as default.
pub(crate) fn resource(service: &str) -> Resource {
    let has_name = value("OTEL_SERVICE_NAME").is_some()
        || value("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|attributes| {
            attributes
                .split(',')
                .any(|attribute| attribute.trim_start().starts_with("service.name="))
        });
    let resource = Resource::builder();
    if has_name {
        resource.build()
    } else {
        resource.with_service_name(service.to_owned()).build()
    }
}

/// Returns the value of a variable. By the specification an empty one counts as unset.
fn value(name: &str) -> Option<String> {
    env::var(name)
        .ok()
        .map(|value| value.trim().to_owned())
        .filter(|value| !value.is_empty())
}
