//! needs: postgresql, prometheus
//!
//! The program as users run it. Prometheus scrapes it, it is stopped under load, and it starts
//! while its database is down.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/http.rs"]
mod http;
#[path = "support/prometheus.rs"]
mod prometheus;

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use claviger_fixtures::{Server, eventually_within};
use claviger_servers::{Postgres, Prometheus};
use http::get;
use prometheus::values;

const TIMEOUT: Duration = Duration::from_secs(60);

/// The program, killed at the end of the test.
struct Program {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    customers: SocketAddr,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Program {
    fn start(server: &Postgres, folder: &Path) -> Self {
        fs::write(folder.join("username"), "app").expect("it is written");
        fs::write(folder.join("password"), "password-1").expect("it is written");
        let url = format!("postgres://{}:{}/orders", server.host(), server.port());
        let mut command = Command::new(env!("CARGO_BIN_EXE_axum_service"));
        command
            .args(["127.0.0.1:0", "127.0.0.1:0", &url])
            .arg(folder)
            .env_clear();
        let mut process = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let line = lines
            .next()
            .expect("the first line has the address")
            .expect("text");
        let customers = line
            .strip_prefix("customers at http://")
            .and_then(|rest| rest.split(',').next())
            .expect("an address");
        let customers = customers.parse().expect("an address");
        Self {
            process,
            lines,
            customers,
        }
    }

    fn terminate(&self) {
        assert!(
            Command::new("kill")
                .args(["-TERM", &self.process.id().to_string()])
                .status()
                .expect("there is a kill")
                .success()
        );
    }

    fn is_ready(&self) -> bool {
        get(self.customers, "/readyz").is_ok_and(|(status, _)| status == 200)
    }

    fn assert_clean_exit(&mut self) {
        assert_eq!(
            self.lines
                .next()
                .expect("the last line has the outcome")
                .expect("text"),
            "shut down, nothing remains: true"
        );
        assert_eq!(self.process.wait().expect("it ends").code(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_under_load_completes_during_a_rotation_and_a_shutdown() {
    let server = Postgres::start_with_app();
    let folder = tempfile::tempdir().expect("a folder");
    let mut program = Program::start(&server, folder.path());
    eventually_within(TIMEOUT, "it is ready", || program.is_ready()).await;
    let prometheus = Prometheus::start(&[&program.customers.to_string()], None).expect("it starts");
    eventually_within(TIMEOUT, "it is scraped", || {
        values(&prometheus, "supervisor_ready") == ["1"]
    })
    .await;
    assert_eq!(
        values(&prometheus, "target_info{service_name=\"orders\"}"),
        ["1"]
    );

    // A rotation: the files change, and the metrics report it.
    server.set_password("app", "password-2").expect("it is set");
    fs::write(folder.path().join("password"), "password-2").expect("it is written");
    eventually_within(TIMEOUT, "it is rotated", || {
        values(&prometheus, "credential_generation{pool=\"orders\"}") == ["2"]
    })
    .await;
    let metrics = get(program.customers, "/metrics").expect("it responds").1;
    assert!(
        metrics.contains("credential_refresh_duration_seconds_count")
            && !metrics.contains("password-"),
        "{metrics}"
    );

    let customers = program.customers;
    let (not_ready, succeeded, succeeded_while_ready) = (
        AtomicBool::new(false),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    thread::scope(|scope| {
        let load: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    // Requests are sent until the load balancer stops sending them.
                    while !not_ready.load(Ordering::Acquire) {
                        let response = get(customers, "/orders").expect("it responds");
                        assert_eq!(response, (200, "0 orders\n".to_owned()));
                        succeeded.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        // The load balancer polls `/readyz`.
        let balancer = scope.spawn(|| {
            while get(customers, "/readyz").expect("it responds").0 == 200 {
                succeeded_while_ready.store(succeeded.load(Ordering::Relaxed), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(10));
            }
            // The load balancer stops sending requests with a delay.
            thread::sleep(Duration::from_millis(300));
            not_ready.store(true, Ordering::Release);
        });
        while succeeded.load(Ordering::Relaxed) < 50 {
            thread::yield_now();
        }
        let report = scope.spawn(move || get(customers, "/report/6"));
        while server
            .sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
            .expect("it responds")
            != "1"
        {
            thread::yield_now();
        }
        program.terminate();
        balancer.join().expect("it was not ready");
        for customer in load {
            customer.join().expect("every request got a response");
        }
        assert!(
            succeeded.load(Ordering::Relaxed) > succeeded_while_ready.load(Ordering::Relaxed),
            "requests succeeded while it was not ready"
        );
        assert!(!report.is_finished(), "the slow query is in progress");
        let report = report.join().expect("no panic").expect("it responds");
        assert_eq!(report, (200, "0 orders, counted in 6 s\n".to_owned()));
    });
    program.assert_clean_exit();
    assert_eq!(server.connection_count("app").expect("it responds"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_becomes_ready_after_a_start_without_the_database() {
    let server = Postgres::start_with_app();
    server.stop().expect("it stops");
    let folder = tempfile::tempdir().expect("a folder");
    let mut program = Program::start(&server, folder.path());
    let (status, reasons) = get(program.customers, "/readyz").expect("it responds");
    assert!(
        status == 503 && reasons.contains("has verified no lease"),
        "{status} {reasons}"
    );
    assert_eq!(
        get(program.customers, "/livez").expect("it responds").0,
        200
    );
    server.start_again().expect("it starts");
    eventually_within(TIMEOUT, "it is ready", || program.is_ready()).await;
    assert_eq!(
        get(program.customers, "/orders").expect("it responds").0,
        200
    );
    program.terminate();
    program.assert_clean_exit();
}
