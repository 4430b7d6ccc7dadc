//! A proxy counts requests and injects faults. The service behind it is part of this test.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

#[path = "support/http.rs"]
mod http;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use claviger_servers::{InjectedFault, Proxy};
use http::Client;

const SHORT_DELAY: Duration = Duration::from_millis(200);

/// A service that returns the body of the first request on each connection, unless it is `hang`.
struct Echo {
    endpoint: String,
    requests: Arc<AtomicUsize>,
}

impl Echo {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let counter = Arc::clone(&counter);
                thread::spawn(move || respond(stream.unwrap(), &counter));
            }
        });
        Self { endpoint, requests }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn respond(stream: TcpStream, requests: &AtomicUsize) {
    let mut stream = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        let line_start = head.len();
        stream.read_line(&mut head).unwrap();
        if let Some(value) = head[line_start..]
            .to_ascii_lowercase()
            .strip_prefix("content-length:")
        {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    requests.fetch_add(1, Ordering::SeqCst);
    if body == b"hang" {
        // Waits until the proxy closes the connection.
        stream.read_to_end(&mut Vec::new()).unwrap();
        return;
    }
    let text = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nX-Kept: yes\r\nConnection: close\r\n\r\n"
    );
    stream
        .get_mut()
        .write_all(&[text.as_bytes(), &body].concat())
        .unwrap();
}

fn start_echo_and_proxy() -> (Echo, Proxy) {
    let echo = Echo::start();
    let proxy = Proxy::start(&echo.endpoint).unwrap();
    (echo, proxy)
}

/// Returns a client whose connection has been used.
fn connected_client(proxy: &Proxy) -> Client {
    let mut client = Client::connect(&proxy.endpoint()).unwrap();
    assert_eq!(client.call("Begin", "{}").unwrap().status, 200);
    client
}

/// Sends a request and returns everything received until the connection ends.
fn read_to_end(proxy: &Proxy, request: &str) -> String {
    let mut stream = TcpStream::connect(proxy.endpoint().strip_prefix("http://").unwrap()).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

/// Asserts that a connection was closed or reset.
fn assert_closed<T: std::fmt::Debug>(result: std::io::Result<T>) {
    let error = result.unwrap_err();
    let expected = [
        ErrorKind::UnexpectedEof,
        ErrorKind::ConnectionReset,
        ErrorKind::BrokenPipe,
    ];
    assert!(expected.contains(&error.kind()), "{error}");
}

#[test]
fn requests_are_forwarded_and_counted_by_operation() {
    let (echo, proxy) = start_echo_and_proxy();
    let mut client = Client::connect(&proxy.endpoint()).unwrap();
    let started = current_instant();
    for (operation, body) in [
        ("GetSecretValue", "one"),
        ("DescribeSecret", ""),
        ("GetSecretValue", "three"),
    ] {
        let response = client.call(operation, body).unwrap();
        assert_eq!((response.status, response.body.as_str()), (200, body));
    }
    assert_eq!(proxy.requests("GetSecretValue"), 2);
    assert_eq!(proxy.requests("DescribeSecret"), 1);
    assert_eq!(proxy.requests("PutSecretValue"), 0);
    // The service closes each connection; the proxy keeps the client's open.
    assert_eq!((proxy.connections(), echo.requests()), (1, 3));

    let log = proxy.log();
    let bodies: Vec<_> = log
        .iter()
        .map(|request| (request.operation.as_str(), request.body.as_str()))
        .collect();
    assert_eq!(
        bodies,
        [
            ("GetSecretValue", "one"),
            ("DescribeSecret", ""),
            ("GetSecretValue", "three")
        ]
    );
    assert!(
        started <= log[0].received_at
            && log[0].received_at <= log[1].received_at
            && log[2].received_at <= current_instant()
    );
    assert!(!format!("{log:?}").contains("three"));
    assert_eq!(proxy.responses(), ["one", "", "three"]);
}

#[test]
fn the_operation_is_read_from_the_form_or_the_path_without_a_header() {
    let (_echo, proxy) = start_echo_and_proxy();
    let body = "Version=2011-06-15&Action=AssumeRole";
    for request in [
        format!(
            "POST /sts HTTP/1.1\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ),
        "GET /moto-api/ HTTP/1.1\r\nConnection: close\r\n\r\n".to_owned(),
    ] {
        let response = read_to_end(&proxy, &request);
        assert!(
            response.starts_with("HTTP/1.1 200 OK\r\n") && response.contains("X-Kept: yes"),
            "{response}"
        );
        assert!(!response.contains("Connection"), "{response}");
    }
    assert_eq!(
        (proxy.requests("AssumeRole"), proxy.requests("/moto-api/")),
        (1, 1)
    );
}

#[test]
fn refusing_closes_open_and_new_connections() {
    let (echo, proxy) = start_echo_and_proxy();
    let (mut idle, mut waiting) = (connected_client(&proxy), connected_client(&proxy));
    waiting.send("GetSecretValue", "hang").unwrap();
    wait_until("the service has the request", || echo.requests() == 3);

    proxy.fault(InjectedFault::Refuse);
    assert_closed(waiting.receive());
    assert_closed(idle.call("GetSecretValue", "{}"));
    assert_closed(
        Client::connect(&proxy.endpoint()).and_then(|mut new| new.call("GetSecretValue", "{}")),
    );
    assert_eq!(
        (proxy.connections(), proxy.requests("GetSecretValue")),
        (3, 1)
    );

    proxy.heal();
    connected_client(&proxy);
    assert_eq!(echo.requests(), 4);
}

#[test]
fn a_fault_of_one_operation_overrides_the_general_one() {
    let (echo, proxy) = start_echo_and_proxy();
    let mut client = connected_client(&proxy);
    proxy.fault_on("GetSecretValue", InjectedFault::Refuse);
    assert_eq!(client.call("DescribeSecret", "{}").unwrap().status, 200);
    assert_closed(client.call("GetSecretValue", "{}"));
    assert_eq!((proxy.requests("GetSecretValue"), echo.requests()), (1, 2));

    proxy.fault(InjectedFault::reply(500, "general"));
    proxy.fault_on("GetSecretValue", InjectedFault::reply(400, "particular"));
    let mut client = Client::connect(&proxy.endpoint()).unwrap();
    assert_eq!(client.call("DescribeSecret", "{}").unwrap().body, "general");
    assert_eq!(
        client.call("GetSecretValue", "{}").unwrap().body,
        "particular"
    );
}

#[test]
fn a_stalled_request_gets_no_response_and_is_closed_by_healing() {
    let (echo, proxy) = start_echo_and_proxy();
    let mut open = connected_client(&proxy);
    proxy.fault(InjectedFault::Stall);
    let mut new = Client::connect(&proxy.endpoint()).unwrap();
    for client in [&mut open, &mut new] {
        client.send("GetSecretValue", "{}").unwrap();
        assert!(client.is_silent_for(SHORT_DELAY).unwrap());
    }
    assert_eq!((proxy.requests("GetSecretValue"), echo.requests()), (2, 1));
    proxy.heal();
    assert_closed(open.receive());
    assert_closed(new.receive());
    assert_eq!(echo.requests(), 1);
    connected_client(&proxy);
}

#[test]
fn a_cut_response_ends_in_the_middle_of_its_body() {
    let (echo, proxy) = start_echo_and_proxy();
    let mut client = connected_client(&proxy);
    proxy.fault(InjectedFault::Cut);
    assert_closed(client.call("GetSecretValue", "{}"));
    let response = read_to_end(
        &proxy,
        "POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\n0123456789",
    );
    assert!(
        response.starts_with("HTTP/1.1 200 OK\r\n") && response.contains("Content-Length: 10\r\n"),
        "{response}"
    );
    assert!(response.ends_with("\r\n\r\n01234"), "{response}");
    assert_eq!(echo.requests(), 3);
}

#[test]
fn a_reply_of_the_proxy_keeps_the_connection_and_does_not_reach_the_service() {
    let (echo, proxy) = start_echo_and_proxy();
    let mut client = connected_client(&proxy);
    let throttled = r#"{"__type": "ThrottlingException", "message": "Rate exceeded"}"#;
    proxy.fault_on("GetSecretValue", InjectedFault::reply(400, throttled));
    for _ in 0..3 {
        let response = client.call("GetSecretValue", "{}").unwrap();
        assert_eq!((response.status, response.body.as_str()), (400, throttled));
    }
    assert_eq!((proxy.requests("GetSecretValue"), echo.requests()), (3, 1));
    proxy.heal();
    assert_eq!(client.call("GetSecretValue", "{}").unwrap().status, 200);
    assert_eq!(proxy.connections(), 1);
}

#[test]
fn a_delayed_request_is_forwarded_after_the_delay() {
    let (_echo, proxy) = start_echo_and_proxy();
    let mut client = connected_client(&proxy);
    proxy.fault(InjectedFault::Delay(SHORT_DELAY));
    let started = current_instant();
    assert_eq!(client.call("GetSecretValue", "late").unwrap().body, "late");
    assert!(started.elapsed() >= SHORT_DELAY);
}

#[test]
fn an_unreachable_service_closes_the_clients_connection() {
    let proxy = Proxy::start("http://127.0.0.1:1/").unwrap();
    let mut client = Client::connect(&proxy.endpoint()).unwrap();
    assert_closed(client.call("GetSecretValue", "{}"));
    assert_eq!(proxy.requests("GetSecretValue"), 1);
}

#[test]
fn dropping_ends_all_threads() {
    let (echo, proxy) = start_echo_and_proxy();
    let mut idle = connected_client(&proxy);
    let mut hanging = connected_client(&proxy);
    hanging.send("GetSecretValue", "hang").unwrap();
    let mut stalled = connected_client(&proxy);
    proxy.fault_on("DescribeSecret", InjectedFault::Stall);
    stalled.send("DescribeSecret", "{}").unwrap();
    let mut delayed = connected_client(&proxy);
    proxy.fault_on(
        "ListSecrets",
        InjectedFault::Delay(Duration::from_secs(3600)),
    );
    delayed.send("ListSecrets", "{}").unwrap();
    let requests = |operation| proxy.requests(operation);
    wait_until("the requests have arrived", || {
        echo.requests() == 5 && requests("DescribeSecret") + requests("ListSecrets") == 2
    });

    let (sender, receiver) = mpsc::channel();
    // `drop` returns only after all threads of the proxy have ended.
    thread::spawn(move || {
        drop(proxy);
        sender.send(()).unwrap();
    });
    receiver.recv_timeout(Duration::from_secs(10)).unwrap();
    for client in [&mut idle, &mut hanging, &mut stalled, &mut delayed] {
        assert_closed(client.receive());
    }
}

#[test]
fn an_invalid_endpoint_is_an_error_with_an_example() {
    for endpoint in [
        "",
        "127.0.0.1:80",
        "https://127.0.0.1:80",
        "http://",
        "http://127.0.0.1",
        "http://127.0.0.1:80/path",
    ] {
        let error = Proxy::start(endpoint).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{endpoint}");
        assert!(
            error.to_string().contains("as http://127.0.0.1:5000"),
            "{error}"
        );
    }
}

fn current_instant() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "sockets work in real time")]
    Instant::now()
}

/// Waits up to 30 s until the condition holds.
fn wait_until(awaited: &str, mut condition: impl FnMut() -> bool) {
    let started = current_instant();
    while !condition() {
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "timed out waiting until {awaited}"
        );
        thread::sleep(Duration::from_millis(5));
    }
}
