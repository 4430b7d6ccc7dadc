//! The provider reads the supervisor's clock.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use aws_smithy_types::date_time::{DateTime, Format};
use claviger::lease::Timestamp;
use claviger::provider::FetchRequest;
use claviger::testing::MovedClock;
use claviger_secrets_fixtures::aws;
use claviger_secrets_manager::SecretsManager;
use claviger_testkit::FetchLease;

/// Returns the endpoint of a server that rejects the signature of each request, dated now.
fn start_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let date = DateTime::from(Timestamp::now().wall())
        .fmt(Format::HttpDate)
        .expect("a date");
    let body = r#"{"__type":"InvalidSignatureException","message":"expired"}"#;
    std::thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            let read = connection.read(&mut [0; 65_536]);
            let written = write!(
                connection,
                "HTTP/1.1 400 Bad Request\r\nDate: {date}\r\nContent-Length: {}\r\n\
                 Connection: close\r\n\r\n{body}",
                body.len()
            );
            drop((read, written));
        }
    });
    endpoint
}

#[tokio::test]
async fn a_rejected_signature_names_the_difference_of_the_supervisors_clock() {
    let provider = SecretsManager::new(&aws(&start_server()), "orders").expect("valid settings");
    let clock = MovedClock::default();
    clock.jump(Duration::from_secs(3_660));
    let request = FetchRequest::first().with_clock(clock.clock());
    let error = provider
        .fetch_lease(request)
        .await
        .map(drop)
        .expect_err("the signature is rejected");
    assert!(
        error
            .to_string()
            .contains("this machine's clock is 61 min "),
        "{error}"
    );
    assert!(error.to_string().contains("ahead of AWS's"), "{error}");
}
