//! needs: mariadb
//!
//! MariaDB is stalled, stopped and started again, and its connections are terminated.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

#[path = "support/mariadb_client.rs"]
mod client;
#[path = "support/processes.rs"]
mod processes;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::Duration;

use claviger_servers::MariaDb;
use client::{client, log_in, login_result};
use processes::{children_of, is_gone, kill, parent_and_state};

fn start_server() -> MariaDb {
    let server = MariaDb::start().unwrap();
    server.create_role("app", "right").unwrap();
    server
}

/// Starts a client and waits until it is connected. It stays until its stdin is closed.
fn open_connection(server: &MariaDb, user: &str, password: &str) -> Child {
    let mut client = client(server, user, password)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    client
        .stdin
        .as_mut()
        .unwrap()
        .write_all(b"SELECT 'in';\n")
        .unwrap();
    let mut line = String::new();
    BufReader::new(client.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "in\n");
    client
}

/// Returns whether the server sends its greeting to a client within 300 ms.
fn sends_greeting(server: &MariaDb) -> bool {
    let mut stream = TcpStream::connect((server.host(), server.port())).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let timeouts = [ErrorKind::WouldBlock, ErrorKind::TimedOut];
    // `read_exact` retries if a signal, such as SIGCHLD, interrupts it.
    match stream.read_exact(&mut [0]) {
        Err(error) if timeouts.contains(&error.kind()) => false,
        read => read.map(|()| true).unwrap(),
    }
}

#[test]
fn a_stalled_server_accepts_connections_and_does_not_respond_until_it_resumes() {
    let server = start_server();
    server.create_role("other", "right").unwrap();
    let mut client = open_connection(&server, "app", "right");
    assert!(sends_greeting(&server));

    server.stall().unwrap();
    let pid = server.pid().unwrap();
    assert_eq!(children_of(pid), []);
    assert_eq!(parent_and_state(pid).unwrap().1, 'T');
    assert!(!sends_greeting(&server));

    server.resume().unwrap();
    assert!(sends_greeting(&server));
    assert_eq!(
        login_result(&log_in(&server, "other", "right", &[])),
        Ok("other".to_owned())
    );
    assert_eq!(server.connection_count("app").unwrap(), 1);
    assert_eq!(server.pid(), Some(pid));
    drop(client.stdin.take());
    assert!(client.wait().unwrap().success());
}

#[test]
fn a_stopped_server_refuses_connections_and_keeps_its_port_and_data() {
    let server = start_server();
    server.create_database("orders", "app").unwrap();
    server
        .sql_in("orders", "CREATE TABLE orders (id int)")
        .unwrap();
    let (port, first) = (server.port(), server.pid().unwrap());
    for stop in [MariaDb::stop, MariaDb::shut_down] {
        server
            .sql_in("orders", "INSERT INTO orders VALUES (1)")
            .unwrap();
        let pid = server.pid().unwrap();
        stop(&server).unwrap();
        assert_eq!(server.pid(), None);
        assert!(is_gone(pid));
        let error = TcpStream::connect((server.host(), port)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        server.stall().unwrap_err();
        stop(&server).unwrap();

        server.start_again().unwrap();
        assert_eq!(server.port(), port);
        assert_ne!(server.pid(), Some(first));
        assert_eq!(
            login_result(&log_in(&server, "app", "right", &[])),
            Ok("app".to_owned())
        );
    }
    assert_eq!(
        server
            .sql_in("orders", "SELECT count(*) FROM orders")
            .unwrap(),
        "2"
    );
    assert_eq!(server.log().authenticated_logins_of("app").unwrap(), 2);
}

#[test]
fn a_stalled_or_crashed_server_can_be_started_again() {
    let server = start_server();
    server.stall().unwrap();
    server.stop().unwrap();
    server.start_again().unwrap();
    server.stall().unwrap();
    server.shut_down().unwrap();
    server.start_again().unwrap();

    kill(server.pid().unwrap());
    server.start_again().unwrap();
    assert_eq!(server.sql("SELECT 1").unwrap(), "1");

    // Starting a running server restarts it.
    server.start_again().unwrap();
    assert_eq!(server.sql("SELECT 1").unwrap(), "1");
}

#[test]
fn only_the_connections_of_one_user_are_terminated_and_counted() {
    let server = start_server();
    for user in ["other", "App"] {
        server.create_role(user, "right").unwrap();
    }
    let mut terminated = [
        open_connection(&server, "app", "right"),
        open_connection(&server, "app", "right"),
    ];
    let mut unaffected = [
        open_connection(&server, "other", "right"),
        open_connection(&server, "App", "right"),
    ];
    assert_eq!(server.connection_count("app").unwrap(), 2);
    assert_eq!(server.terminate_connections("app").unwrap(), 2);
    assert_eq!(server.connection_count("app").unwrap(), 0);
    assert_eq!(server.terminate_connections("app").unwrap(), 0);
    assert_eq!(
        (
            server.connection_count("other").unwrap(),
            server.connection_count("App").unwrap()
        ),
        (1, 1)
    );
    for client in &mut terminated {
        client.kill().unwrap();
        client.wait().unwrap();
    }
    for client in &mut unaffected {
        drop(client.stdin.take());
        assert!(client.wait().unwrap().success());
    }
}

#[test]
fn servers_on_one_machine_are_independent() {
    let (one, two) = (start_server(), MariaDb::start().unwrap());
    assert_ne!(one.port(), two.port());
    login_result(&log_in(&one, "app", "right", &[])).unwrap();
    login_result(&log_in(&two, "app", "right", &[])).unwrap_err();
    assert_eq!(one.log().rejected_logins().unwrap(), 0);
    assert_eq!(two.log().rejected_logins().unwrap(), 1);
    one.stall().unwrap();
    assert_eq!(two.sql("SELECT 1").unwrap(), "1");
}
