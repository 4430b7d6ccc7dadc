//! needs: postgresql
//!
//! PostgreSQL is stalled, stopped and started again, and its connections are terminated.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

#[path = "support/client.rs"]
mod client;
#[path = "support/processes.rs"]
mod processes;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::Duration;

use claviger_servers::Postgres;
use client::{log_in, login_result, psql};
use processes::{children_of, is_gone, kill, parent_and_state};

/// Starts a client and waits until it is connected.
fn open_connection(server: &Postgres, user: &str) -> Child {
    let mut psql = psql(server)
        .args([
            "-h",
            server.host(),
            "-p",
            &server.port().to_string(),
            "-U",
            user,
            "-d",
            "postgres",
        ])
        .env("PGPASSWORD", "right")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    psql.stdin
        .as_mut()
        .unwrap()
        .write_all(b"SELECT 'in';\n")
        .unwrap();
    let mut line = String::new();
    BufReader::new(psql.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "in\n");
    psql
}

/// Returns whether the server responds to a request for TLS within 300 ms.
fn responds_to_tls_request(server: &Postgres) -> bool {
    let mut stream = TcpStream::connect((server.host(), server.port())).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).unwrap();
    let timeouts = [ErrorKind::WouldBlock, ErrorKind::TimedOut];
    // `read_exact` retries if a signal, such as SIGCHLD, interrupts it.
    match stream.read_exact(&mut [0]) {
        Err(error) if timeouts.contains(&error.kind()) => false,
        read => read.map(|()| true).unwrap(),
    }
}

#[test]
fn a_stalled_server_accepts_connections_and_does_not_respond_until_it_resumes() {
    let server = Postgres::start().unwrap();
    server.create_role("app", "right").unwrap();
    server.create_role("other", "right").unwrap();
    let mut client = open_connection(&server, "app");
    assert!(responds_to_tls_request(&server));

    server.stall().unwrap();
    let pid = server.pid().unwrap();
    for process in [children_of(pid), vec![pid]].concat() {
        let (_, state) = parent_and_state(process).unwrap();
        // A child that has just ended stays a zombie until its parent resumes.
        assert!(matches!(state, 'T' | 'Z'), "{process}: {state}");
    }
    assert!(!responds_to_tls_request(&server));

    server.resume().unwrap();
    assert!(responds_to_tls_request(&server));
    assert_eq!(
        login_result(&log_in(&server, "other", "right", "")),
        Ok("other".to_owned())
    );
    assert_eq!(server.connection_count("app").unwrap(), 1);
    assert_eq!(server.pid(), Some(pid));
    drop(client.stdin.take());
    assert!(client.wait().unwrap().success());
}

#[test]
fn a_stopped_server_refuses_connections_and_keeps_its_port_and_data() {
    let server = Postgres::start().unwrap();
    server.create_role("app", "right").unwrap();
    let (port, first) = (server.port(), server.pid().unwrap());
    for stop in [Postgres::stop, Postgres::shut_down] {
        let pid = server.pid().unwrap();
        let processes = [children_of(pid), vec![pid]].concat();
        stop(&server).unwrap();
        assert_eq!(server.pid(), None);
        for process in processes {
            assert!(is_gone(process), "{process}");
        }
        let error = TcpStream::connect((server.host(), port)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        server.stall().unwrap_err();
        stop(&server).unwrap();

        server.start_again().unwrap();
        assert_eq!(server.port(), port);
        assert_ne!(server.pid(), Some(first));
        assert_eq!(
            login_result(&log_in(&server, "app", "right", "")),
            Ok("app".to_owned())
        );
    }
    assert_eq!(server.log().authenticated_logins_of("app").unwrap(), 2);
}

#[test]
fn a_stalled_or_crashed_server_can_be_started_again() {
    let server = Postgres::start().unwrap();
    server.stall().unwrap();
    server.stop().unwrap();
    server.start_again().unwrap();

    let pid = server.pid().unwrap();
    kill(pid);
    server.start_again().unwrap();
    assert_eq!(server.sql("SELECT 1").unwrap(), "1");

    // Starting a running server restarts it.
    server.start_again().unwrap();
    assert_eq!(server.sql("SELECT 1").unwrap(), "1");
}

#[test]
fn only_the_connections_of_one_role_are_terminated_and_counted() {
    let server = Postgres::start().unwrap();
    for user in ["app", "other"] {
        server.create_role(user, "right").unwrap();
    }
    let mut terminated = [
        open_connection(&server, "app"),
        open_connection(&server, "app"),
    ];
    let mut unaffected = open_connection(&server, "other");
    assert_eq!(server.connection_count("app").unwrap(), 2);
    assert_eq!(server.terminate_connections("app").unwrap(), 2);
    assert_eq!(server.connection_count("app").unwrap(), 0);
    assert_eq!(server.terminate_connections("app").unwrap(), 0);
    assert_eq!(server.connection_count("other").unwrap(), 1);
    for client in &mut terminated {
        client.kill().unwrap();
        client.wait().unwrap();
    }
    drop(unaffected.stdin.take());
    assert!(unaffected.wait().unwrap().success());
}

#[test]
fn servers_on_one_machine_are_independent() {
    let (one, two) = (Postgres::start().unwrap(), Postgres::start().unwrap());
    assert_ne!(one.port(), two.port());
    assert_ne!(one.socket_dir(), two.socket_dir());
    one.create_role("app", "right").unwrap();
    login_result(&log_in(&one, "app", "right", "")).unwrap();
    login_result(&log_in(&two, "app", "right", "")).unwrap_err();
    assert_eq!(one.log().rejected_logins().unwrap(), 0);
    assert_eq!(two.log().rejected_logins().unwrap(), 1);
    one.stall().unwrap();
    assert_eq!(two.sql("SELECT 1").unwrap(), "1");
}
