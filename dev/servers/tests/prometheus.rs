//! needs: prometheus
//!
//! Prometheus scrapes, fires alerts, and leaves nothing behind.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

#[path = "support/processes.rs"]
mod processes;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use claviger_servers::{Programs, Prometheus, Server, StartError};
use processes::{children_of, is_gone, kill, parent_and_state};

const RULES: &str = "
groups:
  - name: test
    rules:
      - alert: QueueTooLong
        expr: queue_length > 40
";

/// Starts a service with one metric, which the test sets. Returns its address.
fn start_service(queue_length: &Arc<AtomicUsize>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let queue_length = Arc::clone(queue_length);
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            // The content of the request does not matter.
            let _ = client.read(&mut [0; 4096]);
            let body = format!(
                "# TYPE queue_length gauge\nqueue_length {}\n",
                queue_length.load(Ordering::Relaxed)
            );
            let head = "HTTP/1.1 200 OK\r\n\
                        Content-Type: text/plain; version=0.0.4\r\n\
                        Connection: close\r\n";
            let _ = write!(client, "{head}Content-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    address
}

fn wait_until(awaited: &str, mut condition: impl FnMut() -> bool) {
    let is_met = (0..500).any(|_| {
        condition() || {
            thread::sleep(Duration::from_millis(20));
            false
        }
    });
    assert!(is_met, "timed out waiting until {awaited}");
}

#[test]
fn targets_are_scraped_and_alerts_fire() {
    let folder = tempfile::TempDir::new().unwrap();
    let rules = folder.path().join("rules.yml");
    fs::write(&rules, RULES).unwrap();
    let queue_length = Arc::new(AtomicUsize::new(7));
    let target = start_service(&queue_length);
    let prometheus = Prometheus::start(&[&target], Some(&rules)).unwrap();
    wait_until("the target is scraped", || {
        prometheus
            .query("queue_length{job=\"service\"} + 0")
            .unwrap()
            .contains(r#""7"]"#)
    });
    assert!(!prometheus.alerts().unwrap().contains("QueueTooLong"));

    queue_length.store(41, Ordering::Relaxed);
    wait_until("the alert fires", || {
        prometheus.alerts().unwrap().contains(r#""state":"firing""#)
    });
    assert!(prometheus.alerts().unwrap().contains("QueueTooLong"));
    assert!(
        prometheus
            .query("queue_length{")
            .unwrap_err()
            .to_string()
            .contains("parse error")
    );
}

#[test]
fn invalid_rules_are_an_error_with_the_log() {
    let folder = tempfile::TempDir::new().unwrap();
    let rules = folder.path().join("rules.yml");
    fs::write(&rules, RULES.replace("queue_length > 40", "queue_length >")).unwrap();
    let error = Prometheus::start(&[], Some(&rules)).unwrap_err();
    assert!(matches!(error, StartError::Ended { .. }), "{error:?}");
    assert!(error.to_string().contains("rules.yml"), "{error}");
}

#[test]
fn nothing_is_left_behind() {
    type EnterState = fn(&Prometheus);
    let states: [(&str, EnterState); 2] = [
        ("running", |_| {}),
        ("crashed", |prometheus| kill(prometheus.pid().unwrap())),
    ];
    for (name, enter_state) in states {
        let prometheus = Prometheus::start(&[], None).unwrap();
        let server = prometheus.pid().unwrap();
        let (guardian, _) = parent_and_state(server).unwrap();
        assert!(children_of(guardian).contains(&server));
        enter_state(&prometheus);
        drop(prometheus);
        assert!(is_gone(server) && is_gone(guardian), "{name}");
    }
}

#[test]
fn promtool_is_in_the_same_folder() {
    let promtool = Server::Prometheus.find().unwrap().join("promtool");
    assert!(
        Command::new(promtool)
            .arg("--version")
            .output()
            .unwrap()
            .status
            .success()
    );
}

#[test]
fn a_missing_prometheus_is_an_error_with_the_command_that_installs_it() {
    let error = Prometheus::start_from(&Programs::nowhere(), &[], None).unwrap_err();
    assert!(matches!(error, StartError::NotInstalled(_)), "{error:?}");
    assert!(
        error.to_string().contains("cargo xtask install prometheus"),
        "{error:?}"
    );
}
