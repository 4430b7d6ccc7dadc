//! Log lines of a service whose collector is down, hangs, or accepts one signal only. The service
//! is a process of its own.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test fails by panicking; the service responds on stdout"
)]

use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use opentelemetry::global;

/// Variable that marks the process of the service.
const SERVICE: &str = "CLAVIGER_TEST_IS_THE_SERVICE";

/// Variable with which the service ends at once, and exports nothing before its end.
const END_AT_ONCE: &str = "CLAVIGER_TEST_AT_ONCE";

/// Returns an unused address.
fn unused_address() -> SocketAddr {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    let process = std::process::id().to_be_bytes();
    let host = Ipv4Addr::new(
        127,
        process[2].max(1),
        process[3],
        u8::try_from(NEXT.fetch_add(1, Ordering::Relaxed)).expect("few"),
    );
    let listener = TcpListener::bind((host, 0)).expect("a free port");
    listener.local_addr().expect("it is bound")
}

/// Starts a collector that responds to each request with the status of its path. Returns the number
/// of requests so far.
fn start_collector(at: SocketAddr, status: fn(&str) -> &'static str) -> Arc<AtomicUsize> {
    let (listener, requests) = (
        TcpListener::bind(at).expect("the port is still free"),
        Arc::new(AtomicUsize::new(0)),
    );
    let count = Arc::clone(&requests);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, count) = (stream.expect("a client"), Arc::clone(&count));
            std::thread::spawn(move || respond(stream, status, &count));
        }
    });
    requests
}

fn respond(stream: TcpStream, status: fn(&str) -> &'static str, count: &AtomicUsize) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut path, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(rest) = line.strip_prefix("post ") {
                path = rest.split(' ').next().unwrap_or_default().to_owned();
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().expect("a number");
            }
            if line.is_empty() {
                break;
            }
        }
        reader.read_exact(&mut vec![0; length]).expect("the body");
        count.fetch_add(1, Ordering::SeqCst);
        let response = format!("HTTP/1.1 {}\r\nContent-Length: 0\r\n\r\n", status(&path));
        if reader.get_mut().write_all(response.as_bytes()).is_err() {
            return;
        }
    }
}

/// A service that exports on request.
struct Service {
    process: Child,
    output: Lines<BufReader<ChildStdout>>,
    log: ChildStderr,
}

impl Service {
    fn start(collector: &str, variables: &[(&str, &str)]) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("a path"))
            .args(["--exact", "the_service", "--nocapture", "--test-threads=1"])
            .env_clear()
            .env(SERVICE, "")
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector)
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let (output, log) = (
            process.stdout.take().expect("piped"),
            process.stderr.take().expect("piped"),
        );
        Self {
            process,
            output: BufReader::new(output).lines(),
            log,
        }
    }

    /// Exports a span and a metric at once, and returns whether both were accepted.
    fn export(&mut self) -> bool {
        self.process
            .stdin
            .as_mut()
            .expect("it is open")
            .write_all(b"export\n")
            .expect("it reads");
        let result = |line: String| {
            line.split_once("exported: ")
                .map(|(_, accepted)| accepted == "true")
        };
        self.output
            .find_map(|line| result(line.expect("text")))
            .expect("it responds")
    }

    /// Ends the service and returns its log, all of stderr.
    fn end(mut self) -> Vec<String> {
        drop(self.process.stdin.take());
        let mut log = String::new();
        self.log.read_to_string(&mut log).expect("text");
        assert!(self.process.wait().expect("it ends").success(), "{log}");
        log.lines().map(str::to_owned).collect()
    }
}

/// Runs the service in the process that the other tests start. It is no test by itself.
#[test]
fn the_service() {
    if std::env::var_os(SERVICE).is_none() {
        return;
    }
    let telemetry = claviger_otel::init("orders").expect("the variables are valid");
    let counter = global::meter("orders").u64_counter("orders").build();
    let order = || tracing::info_span!("order").in_scope(|| counter.add(1, &[]));
    if std::env::var_os(END_AT_ONCE).is_some() {
        order();
    }
    for line in std::io::stdin().lines() {
        line.expect("text");
        order();
        println!("exported: {}", telemetry.flush().is_ok());
    }
    telemetry.shutdown();
}

fn lines_of_level(log: &[String], level: &str) -> Vec<String> {
    log.iter()
        .filter(|line| line.split_whitespace().nth(1) == Some(level))
        .cloned()
        .collect()
}

#[test]
fn an_outage_of_the_collector_is_one_warn_line_and_its_end_one_info_line() {
    let at = unused_address();
    let address = format!("http://user:s3cret@{at}");
    let mut service = Service::start(&address, &[]);
    for _ in 0..3 {
        assert!(!service.export(), "nothing listens");
    }
    let requests = start_collector(at, |_| "200 OK");
    assert!(service.export(), "the collector has started");
    assert!(requests.load(Ordering::SeqCst) >= 2, "both signals");
    let log = service.end();
    assert_eq!(log.len(), 2, "{log:#?}");
    let (warned, informed) = (lines_of_level(&log, "WARN"), lines_of_level(&log, "INFO"));
    assert_eq!((warned.len(), informed.len()), (1, 1), "{log:#?}");
    assert!(
        warned[0].contains("telemetry cannot be exported")
            && informed[0].contains("telemetry is exported again"),
        "{log:#?}"
    );
    for part in [
        &format!("http://{at}/v1/"),
        "network error",
        "OTEL_SDK_DISABLED=true",
    ] {
        assert!(warned[0].contains(part), "{part} in {log:#?}");
    }
    assert!(!log.concat().contains("s3cret"), "{log:#?}");
}

#[test]
fn a_collector_without_metrics_is_one_warn_line_with_advice() {
    let at = unused_address();
    let _requests = start_collector(at, |path| {
        if path == "/v1/traces" {
            "200 OK"
        } else {
            "404 Not Found"
        }
    });
    let mut service = Service::start(&format!("http://{at}"), &[]);
    for _ in 0..3 {
        assert!(!service.export(), "metrics are rejected");
    }
    let log = service.end();
    assert_eq!(log.len(), 1, "{log:#?}");
    for part in [
        "WARN",
        &format!("http://{at}/v1/metrics"),
        "404",
        "OTEL_METRICS_EXPORTER=none",
    ] {
        assert!(log[0].contains(part), "{part} in {log:#?}");
    }
}

/// The service ends at once, before anything was exported.
#[test]
fn a_collector_that_hangs_at_shutdown_is_one_warn_line() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let at = listener.local_addr().expect("it is bound");
    let service = Service::start(
        &format!("http://{at}"),
        &[
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "30000"),
            ("OTEL_BSP_SCHEDULE_DELAY", "600000"),
            (END_AT_ONCE, ""),
        ],
    );
    let log = service.end();
    assert_eq!(log.len(), 1, "{log:#?}");
    for part in [
        "WARN",
        "telemetry cannot be exported",
        &format!("http://{at}/v1/traces"),
        "Timeout(5s)",
        "OTEL_SDK_DISABLED=true",
    ] {
        assert!(log[0].contains(part), "{part} in {log:#?}");
    }
}

#[test]
fn disabled_signals_are_neither_exported_nor_logged() {
    let at = unused_address();
    for variables in [
        &[("OTEL_SDK_DISABLED", "true")][..],
        &[
            ("OTEL_TRACES_EXPORTER", "none"),
            ("OTEL_METRICS_EXPORTER", "none"),
        ],
    ] {
        let mut service = Service::start(&format!("http://{at}"), variables);
        assert!(service.export());
        assert_eq!(service.end(), Vec::<String>::new());
    }
}

#[test]
fn lines_of_the_sdk_are_logged_if_rust_log_names_it() {
    let mut service = Service::start(
        &format!("http://{}", unused_address()),
        &[("RUST_LOG", "info,opentelemetry=debug")],
    );
    assert!(!service.export());
    let log = service.end();
    // The line has the cause, which the SDK does not include in the error.
    assert!(
        log.iter()
            .any(|line| line.contains("HttpClient.NetworkError")
                || line.contains("tcp connect error")),
        "{log:#?}"
    );
    assert!(
        lines_of_level(&log, "ERROR")
            .iter()
            .any(|line| line.contains("opentelemetry_sdk")),
        "{log:#?}"
    );
}
