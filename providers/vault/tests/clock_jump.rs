//! The provider compares times with the supervisor's clock.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use claviger::error::ProviderErrorKind;
use claviger::lease::Timestamp;
use claviger_testkit::Lab;
use claviger_vault::{Auth, VaultKv, VaultSession};
use serde_json::json;

/// Returns the address of a server that returns this to every request.
fn start_server(body: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            let read = connection.read(&mut [0; 4_096]);
            let written = write!(
                connection,
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
                 connection: close\r\n\r\n{body}",
                body.len()
            );
            drop((read, written));
        }
    });
    format!("http://{address}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_deleted_when_the_moved_clock_reaches_its_deletion_time() {
    let deletion = Timestamp::now().wall() + Duration::from_secs(3_600);
    let version = json!({
        "version": 1,
        "created_time": "2026-01-01T00:00:00Z",
        "deletion_time": humantime::format_rfc3339_seconds(deletion).to_string(),
        "destroyed": false,
    });
    // Token, metadata and data in one.
    let data = json!({
        "ttl": 0,
        "current_version": 1,
        "versions": { "1": version },
        "data": { "username": "app", "password": "s3cret" },
        "metadata": version,
    });
    let address = start_server(json!({ "data": data }).to_string());
    let session =
        VaultSession::new(address, Auth::token("s.token")).expect("the settings are valid");
    let kv = VaultKv::new(&session, "kv", "orders").expect("a path");
    let lab = Lab::new();
    let added = lab.supervisor.add_provider("login", kv).await;
    drop(added.expect("the version is there"));
    lab.clock.jump(Duration::from_secs(7_200));
    let error = lab.supervisor.rotate_now("login").await;
    let error = error.expect_err("the version is deleted");
    let kind = error
        .provider_error()
        .map(claviger::error::ProviderError::kind);
    assert_eq!(kind, Some(ProviderErrorKind::NotFound), "{error}");
}
