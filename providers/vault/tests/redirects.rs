//! The token and the secret id are sent only to the configured server, whatever it returns.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use claviger::error::ProviderErrorKind;
use claviger::provider::FetchRequest;
use claviger_testkit::FetchLease;
use claviger_vault::{Auth, SecretId, VaultKv, VaultSession};
use parking_lot::Mutex;

/// A server that records requests, and returns a scripted response.
struct Server {
    port: u16,
    received: Arc<Mutex<String>>,
}

impl Server {
    fn start(response: impl Fn(u16, &str) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let received = Arc::new(Mutex::new(String::new()));
        let recorded = Arc::clone(&received);
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                drop(serve(connection, &recorded, |request| {
                    response(port, request)
                }));
            }
        });
        Self { port, received }
    }

    fn received(&self) -> String {
        self.received.lock().clone()
    }
}

fn serve(
    mut connection: TcpStream,
    recorded: &Mutex<String>,
    response: impl Fn(&str) -> String,
) -> std::io::Result<()> {
    connection.set_read_timeout(Some(Duration::from_millis(200)))?;
    let mut request = Vec::new();
    let mut part = [0; 4_096];
    while let Ok(read) = connection.read(&mut part) {
        if read == 0 {
            break;
        }
        request.extend_from_slice(&part[..read]);
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    recorded.lock().push_str(&request);
    connection.write_all(response(&request).as_bytes())
}

fn redirect(to: &str) -> String {
    format!(
        "HTTP/1.1 307 Temporary Redirect\r\nlocation: {to}\r\ncontent-length: 0\r\n\
         connection: close\r\n\r\n"
    )
}

fn body(text: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{text}",
        text.len()
    )
}

async fn fetch(address: &str, auth: Auth) -> Result<String, claviger::error::ProviderError> {
    let session = VaultSession::builder(address, auth)
        .with_timeout(Duration::from_secs(5))
        .build()
        .expect("the settings are valid");
    let lease = VaultKv::new(&session, "kv", "orders")
        .expect("a path")
        .fetch_lease(FetchRequest::first())
        .await?;
    Ok(lease.secret().user().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_token_nor_secret_id_follows_a_redirect_to_another_server() {
    for auth in [
        Auth::token("s.CANARY"),
        Auth::app_role("role", SecretId::given("CANARY-secret-id")),
    ] {
        let other = Server::start(|_, _| body("{}"));
        let elsewhere = format!("http://127.0.0.1:{}/v1/anything", other.port);
        let vault = Server::start(move |_, _| redirect(&elsewhere));
        let error = fetch(&format!("http://127.0.0.1:{}", vault.port), auth)
            .await
            .expect_err("it leads elsewhere");
        assert!(
            vault.received().contains("CANARY"),
            "the hazard: the first server received it"
        );
        assert_eq!(other.received(), "", "and the other one nothing");
        assert_eq!(error.kind(), ProviderErrorKind::Misconfigured, "{error}");
        assert!(
            error.to_string().contains("redirects to another address"),
            "{error}"
        );
        assert!(!error.to_string().contains("CANARY"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_within_the_server_is_followed() {
    let secret = r#"{"data":{"data":{"username":"app","password":"password-1"},"metadata":{"version":1,"created_time":"2026-01-01T00:00:00Z","deletion_time":"","destroyed":false}}}"#;
    let vault = Server::start(move |port, request| {
        if request.contains("moved") {
            body(secret)
        } else {
            redirect(&format!("http://127.0.0.1:{port}/v1/kv/data/moved"))
        }
    });
    let user = fetch(
        &format!("http://127.0.0.1:{}", vault.port),
        Auth::token("s.token"),
    )
    .await;
    // The token lookup gets the same response and fails. The test is that the redirect was
    // followed.
    assert!(vault.received().matches("moved").count() >= 1, "{user:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_is_read_up_to_its_bound() {
    let vault = Server::start(|_, _| body(&format!("{{\"data\":\"{}\"}}", "x".repeat(8 << 20))));
    let error = fetch(
        &format!("http://127.0.0.1:{}", vault.port),
        Auth::token("s.token"),
    )
    .await
    .expect_err("it is too large");
    assert_eq!(error.kind(), ProviderErrorKind::Unavailable, "{error}");
}

#[test]
fn plain_http_to_another_machine_needs_a_permission() {
    let builder = || VaultSession::builder("http://vault.internal:8200", Auth::token("s.token"));
    let error = builder().build().expect_err("unencrypted over the network");
    assert_eq!(error.kind(), ProviderErrorKind::Misconfigured);
    assert!(error.to_string().contains("danger_plain_http"), "{error}");
    builder()
        .with_danger_plain_http()
        .build()
        .expect("it was permitted");
    VaultSession::builder("http://127.0.0.1:8200", Auth::token("s.token"))
        .build()
        .expect("this machine");
}
