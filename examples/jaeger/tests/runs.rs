//! needs: postgresql, jaeger
//!
//! The example as a user runs it. Standard variables configure it, its file rotates, and Ctrl-C
//! stops it. Its traces are in Jaeger.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use claviger_servers::{Jaeger, Postgres};
use serde_json::Value;

fn write_secret(folder: &Path, password: &str) {
    let file = folder.join("new.json");
    fs::write(
        &file,
        format!(r#"{{"username": "app", "password": "{password}"}}"#),
    )
    .expect("it is written");
    fs::rename(file, folder.join("secret.json")).expect("it is renamed");
}

/// The program, killed if the test fails.
struct Service(Child);

impl Service {
    fn start(server: &Postgres, folder: &Path, variables: &[(&str, &str)]) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_jaeger"))
            .arg(folder.join("secret.json"))
            .env("PGHOST", server.host())
            .env("PGPORT", server.port().to_string())
            .env("PGDATABASE", "postgres")
            .env("RUST_LOG", "warn")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .spawn()
            .expect("it starts");
        Self(child)
    }

    /// Stops the program with SIGINT and checks its exit.
    fn stop(&mut self) {
        let interrupted = Command::new("kill")
            .args(["-INT", &self.0.id().to_string()])
            .status()
            .expect("it runs");
        assert!(interrupted.success());
        let mut ended = None;
        eventually("it ends", || {
            ended = self.0.try_wait().expect("its status can be read");
            ended.is_some()
        });
        assert!(ended.is_some_and(|status| status.success()));
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let is_met = (0..600).any(|_| {
        condition() || {
            sleep(Duration::from_millis(50));
            false
        }
    });
    assert!(is_met, "not within 30 s: {what}");
}

#[test]
fn traces_of_a_rotation_are_in_jaeger() {
    let (server, jaeger) = (
        Postgres::start().expect("a server starts"),
        Jaeger::start().expect("Jaeger starts"),
    );
    server
        .create_role("app", "password-0")
        .expect("a role is made");
    let folder = tempfile::tempdir().expect("a folder");
    write_secret(folder.path(), "password-0");
    let mut service = Service::start(
        &server,
        folder.path(),
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &jaeger.otlp_endpoint()),
            ("OTEL_METRICS_EXPORTER", "none"),
            ("OTEL_SERVICE_NAME", "named-by-the-variable"),
        ],
    );
    let logins = || {
        server
            .log()
            .authenticated_logins_of("app")
            .expect("the log can be read")
    };
    eventually("it has logged in", || logins() >= 2);
    let before = logins();
    server
        .set_password("app", "password-1")
        .expect("the password is set");
    write_secret(folder.path(), "password-1");
    eventually("it has logged in with the next one", || {
        logins() >= before + 2
    });
    let traces = || {
        jaeger
            .get("/api/traces?service=named-by-the-variable&limit=1000")
            .expect("the API responds")
    };
    // Both logins verify the password. The publication follows later, and the SDK exports every
    // five seconds.
    eventually("both rotations have ended", || {
        traces().matches("adopted").count() >= 2
    });

    // The other spans are sent at the end.
    service.stop();

    let response = traces();
    for password in ["password-0", "password-1"] {
        assert!(!response.contains(password));
    }
    let response: Value = serde_json::from_str(&response).expect("it is JSON");
    let spans: Vec<_> = response["data"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|trace| trace["spans"].as_array())
        .flatten()
        .collect();
    let names: BTreeSet<_> = spans
        .iter()
        .filter_map(|span| span["operationName"].as_str())
        .collect();
    let expected = [
        "GET /databases",
        "credential.fetch",
        "credential.rotation",
        "pool.drain",
        "pool.handover",
        "pool.open",
        "pool.verify",
        "pool.publish",
    ];
    assert!(
        expected.iter().all(|name| names.contains(name)),
        "{names:?}"
    );
    // There is no lifetime span of an actor and no span of the exporter.
    assert!(
        names
            .iter()
            .all(|name| expected.contains(name) || *name == "pool.warm"),
        "{names:?}"
    );
    let tag = |span: &Value, name: &str, value: &str| {
        span["tags"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|tag| tag["key"] == name && tag["value"] == value)
    };
    let adopted = spans
        .iter()
        .filter(|span| {
            span["operationName"] == "credential.rotation" && tag(span, "outcome", "adopted")
        })
        .count();
    assert!(adopted >= 2, "the start, and the change");
}

/// The operating system accepts connections, but the collector never responds.
#[test]
fn a_collector_that_hangs_does_not_affect_the_service() {
    let server = Postgres::start().expect("a server starts");
    server
        .create_role("app", "password-0")
        .expect("a role is made");
    let folder = tempfile::tempdir().expect("a folder");
    write_secret(folder.path(), "password-0");
    let collector = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!(
        "http://{}",
        collector.local_addr().expect("it has an address")
    );
    let mut service = Service::start(
        &server,
        folder.path(),
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", &address)],
    );
    let logins = || {
        server
            .log()
            .authenticated_logins_of("app")
            .expect("the log can be read")
    };
    eventually("it has logged in", || logins() >= 2);
    service.stop();
    collector
        .set_nonblocking(true)
        .expect("it becomes non-blocking");
    assert!(collector.accept().is_ok(), "it got a connection");
}
