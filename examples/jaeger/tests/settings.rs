//! What the standard variables get wrong is said at the start, by name.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::process::Command;

fn said_of(variable: &str, value: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_jaeger"))
        .arg("/nonexistent/secret.json")
        .env(variable, value)
        .output()
        .expect("it runs");
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_variable_that_cannot_be_right_is_named_with_what_would_be() {
    for (variable, value, right) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "http/protobuf"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "otlp or none"),
        ("OTEL_METRICS_EXPORTER", "prometheus", "otlp or none"),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "http://[",
            "OTEL_EXPORTER_OTLP_",
        ),
    ] {
        let said = said_of(variable, value);
        assert!(
            said.contains(variable) || said.contains("OTEL_EXPORTER_OTLP_"),
            "{said}"
        );
        assert!(said.contains(right), "{variable}: {said}");
    }
}

#[test]
fn what_is_switched_off_is_no_error() {
    // The secret that is not there is what it ends of, then.
    for (variable, value) in [
        ("OTEL_SDK_DISABLED", "true"),
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", ""),
    ] {
        let said = said_of(variable, value);
        assert!(said.contains("secret.json"), "{variable}: {said}");
    }
}
