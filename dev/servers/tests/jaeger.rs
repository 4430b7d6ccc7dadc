//! needs: jaeger
//!
//! Jaeger stores spans, returns them, and leaves nothing behind.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

#[path = "support/processes.rs"]
mod processes;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use claviger_servers::{Jaeger, Programs, StartError};
use processes::{children_of, is_gone, kill, parent_and_state};

const SPAN: &str = r#"{"resourceSpans": [{
    "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "orders"}}]},
    "scopeSpans": [{"spans": [{
        "traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174",
        "name": "a span", "kind": 1,
        "startTimeUnixNano": "1544712660000000000", "endTimeUnixNano": "1544712661000000000"
    }]}]
}]}"#;

/// Sends a span by OTLP in JSON and returns the status line.
fn send_span(jaeger: &Jaeger) -> String {
    let endpoint = jaeger.otlp_endpoint();
    let address = endpoint.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "POST /v1/traces HTTP/1.0\r\n\
         Host: {address}\r\n\
         Content-Type: application/json\r\n\
         Content-Length: {}\r\n\
         \r\n\
         {SPAN}",
        SPAN.len()
    )
    .unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn spans_are_returned() {
    let jaeger = Jaeger::start().unwrap();
    assert!(!jaeger.get("/api/services").unwrap().contains("orders"));
    let status = send_span(&jaeger);
    assert!(status.contains("200"), "{status}");
    let path = "/api/traces/5b8efff798038103d269b633813fc60c";
    // Spans appear with a delay.
    let found = (0..250).any(|_| {
        jaeger
            .get(path)
            .is_ok_and(|traces| traces.contains("a span"))
            || {
                std::thread::sleep(Duration::from_millis(20));
                false
            }
    });
    assert!(found);
    assert!(jaeger.get("/api/services").unwrap().contains("orders"));
    assert!(
        jaeger.get("/api/traces/0").is_err(),
        "an unknown trace must be an error"
    );
}

#[test]
fn nothing_is_left_behind() {
    let jaeger = Jaeger::start().unwrap();
    let server = jaeger.pid().unwrap();
    let (guardian, _) = parent_and_state(server).unwrap();
    assert!(children_of(guardian).contains(&server));
    jaeger.stop().unwrap();
    assert!(is_gone(server) && jaeger.get("/api/services").is_err());
    drop(jaeger);
    assert!(is_gone(guardian));

    let jaeger = Jaeger::start().unwrap();
    let server = jaeger.pid().unwrap();
    kill(server);
    drop(jaeger);
    assert!(is_gone(server));
}

#[test]
fn a_missing_jaeger_is_an_error_with_the_command_that_installs_it() {
    let error = Jaeger::start_from(&Programs::nowhere()).unwrap_err();
    assert!(matches!(error, StartError::NotInstalled(_)), "{error:?}");
    assert!(
        error.to_string().contains("cargo xtask install jaeger"),
        "{error:?}"
    );
}
