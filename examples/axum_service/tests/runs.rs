//! needs: postgresql, prometheus
//!
//! The program as it is: scraped by a Prometheus, told to end under load, and started while its
//! database is down.

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

const PATIENCE: Duration = Duration::from_secs(60);

/// It ends with the test, whatever becomes of that.
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
        let line = lines.next().expect("it says where it is").expect("text");
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

    fn ends_well(&mut self) {
        assert_eq!(
            self.lines
                .next()
                .expect("it says how it ended")
                .expect("text"),
            "shut down, nothing left behind: true"
        );
        assert_eq!(self.process.wait().expect("it ends").code(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_scraped_and_told_to_end_under_load_it_answers_everything() {
    let server = Postgres::start_with_app();
    let folder = tempfile::tempdir().expect("a folder");
    let mut program = Program::start(&server, folder.path());
    eventually_within(PATIENCE, "it is ready", || program.is_ready()).await;
    let prometheus = Prometheus::start(&[&program.customers.to_string()], None).expect("it starts");
    eventually_within(PATIENCE, "it is scraped", || {
        values(&prometheus, "supervisor_ready") == ["1"]
    })
    .await;
    assert_eq!(
        values(&prometheus, "target_info{service_name=\"orders\"}"),
        ["1"]
    );

    // A rotation: the files change, and the metrics tell of it.
    server.set_password("app", "password-2").expect("it is set");
    fs::write(folder.path().join("password"), "password-2").expect("it is written");
    eventually_within(PATIENCE, "it is rotated", || {
        values(&prometheus, "credential_generation{pool=\"orders\"}") == ["2"]
    })
    .await;
    let metrics = get(program.customers, "/metrics").expect("it answers").1;
    assert!(
        metrics.contains("credential_refresh_duration_seconds_count")
            && !metrics.contains("password-"),
        "{metrics}"
    );

    let customers = program.customers;
    let (leaving, answered, after) = (
        AtomicBool::new(false),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    thread::scope(|scope| {
        let load: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    // Until whoever sends them here has heard that they should go elsewhere.
                    while !leaving.load(Ordering::Acquire) {
                        let answer = get(customers, "/orders").expect("it is answered");
                        assert_eq!(answer, (200, "0 orders\n".to_owned()));
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        // A load balancer.
        let balancer = scope.spawn(|| {
            while get(customers, "/readyz").expect("it is answered").0 == 200 {
                after.store(answered.load(Ordering::Relaxed), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(10));
            }
            // It takes a moment for that to get about.
            thread::sleep(Duration::from_millis(300));
            leaving.store(true, Ordering::Release);
        });
        while answered.load(Ordering::Relaxed) < 50 {
            thread::yield_now();
        }
        let report = scope.spawn(move || get(customers, "/report/6"));
        while server
            .sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
            .expect("it answers")
            != "1"
        {
            thread::yield_now();
        }
        program.terminate();
        balancer.join().expect("it saw the end come");
        for customer in load {
            customer.join().expect("every request was answered");
        }
        assert!(
            answered.load(Ordering::Relaxed) > after.load(Ordering::Relaxed),
            "requests came while it was leaving"
        );
        assert!(!report.is_finished(), "the slow query is under way");
        let report = report.join().expect("no panic").expect("it is answered");
        assert_eq!(report, (200, "0 orders, counted in 6 s\n".to_owned()));
    });
    program.ends_well();
    assert_eq!(server.connection_count("app").expect("it answers"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_starts_while_the_database_is_down_and_becomes_ready_by_itself() {
    let server = Postgres::start_with_app();
    server.stop().expect("it stops");
    let folder = tempfile::tempdir().expect("a folder");
    let mut program = Program::start(&server, folder.path());
    let (status, reasons) = get(program.customers, "/readyz").expect("it answers");
    assert!(
        status == 503 && reasons.contains("has verified no lease"),
        "{status} {reasons}"
    );
    assert_eq!(get(program.customers, "/livez").expect("it answers").0, 200);
    server.start_again().expect("it starts");
    eventually_within(PATIENCE, "it is ready", || program.is_ready()).await;
    assert_eq!(
        get(program.customers, "/orders").expect("it answers").0,
        200
    );
    program.terminate();
    program.ends_well();
}
