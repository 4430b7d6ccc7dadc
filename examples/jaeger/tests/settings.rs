//! Invalid standard variables are errors at the start. They name the variable.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::process::Command;

fn error_with(variable: &str, value: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_jaeger"))
        .arg("/nonexistent/secret.json")
        .env(variable, value)
        .output()
        .expect("it runs");
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn an_invalid_variable_is_an_error_with_the_valid_values() {
    for (variable, value, valid) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "http/protobuf"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "otlp or none"),
        ("OTEL_METRICS_EXPORTER", "prometheus", "otlp or none"),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "http://[",
            "OTEL_EXPORTER_OTLP_",
        ),
    ] {
        let message = error_with(variable, value);
        assert!(
            message.contains(variable) || message.contains("OTEL_EXPORTER_OTLP_"),
            "{message}"
        );
        assert!(message.contains(valid), "{variable}: {message}");
    }
}

#[test]
fn a_disabled_exporter_needs_no_valid_settings() {
    // The missing secret ends the program instead.
    for (variable, value) in [
        ("OTEL_SDK_DISABLED", "true"),
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", ""),
    ] {
        let message = error_with(variable, value);
        assert!(message.contains("secret.json"), "{variable}: {message}");
    }
}
