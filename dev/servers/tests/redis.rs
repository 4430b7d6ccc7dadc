//! needs: redis
//!
//! A Redis counts logins and connections, fails as a test requests, and keeps its users.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use claviger_servers::Redis;

/// Opens a connection and sends `AUTH`. Returns it with the response.
fn log_in(server: &Redis, user: &str, password: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect((server.host(), server.port())).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let response = send(&mut stream, &format!("AUTH {user} {password}"));
    (stream, response)
}

fn send(stream: &mut TcpStream, command: &str) -> String {
    stream
        .write_all(format!("{command}\r\n").as_bytes())
        .unwrap();
    let mut buffer = [0; 512];
    let length = stream.read(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
}

#[test]
fn logins_and_connections_are_counted() {
    let server = Redis::start().unwrap();
    server.set_user("app", "first").unwrap();
    let (mut open, response) = log_in(&server, "app", "first");
    assert_eq!(response, "+OK");
    let before = server.connections_of("app").unwrap();
    assert_eq!(before.len(), 1);
    assert_eq!(before[0].last_command, "auth");
    assert_eq!(server.login_commands().unwrap(), 1);

    server.set_password("app", "second").unwrap();
    assert!(log_in(&server, "app", "first").1.starts_with("-WRONGPASS"));
    assert!(log_in(&server, "other", "x").1.starts_with("-WRONGPASS"));
    assert_eq!(server.rejected_logins_of("app").unwrap(), 1);
    assert_eq!(server.rejected_logins().unwrap(), 2);
    assert_eq!(server.login_commands().unwrap(), 3);

    assert_eq!(send(&mut open, "AUTH app second"), "+OK");
    assert_eq!(server.connections_of("app").unwrap()[0].id, before[0].id);
    assert_eq!(server.kill_connections("app").unwrap(), 1);
    assert_eq!(server.connections_of("app").unwrap(), []);
}

#[test]
fn users_outlive_a_restart_and_data_does_not() {
    let server = Redis::start().unwrap();
    server.set_user("app", "first").unwrap();
    server.set_rules("app", &[">second", "-ping"]).unwrap();
    let (mut open, _) = log_in(&server, "app", "first");
    assert_eq!(send(&mut open, "SET key value"), "+OK");
    server.stop().unwrap();
    assert_eq!(server.pid(), None);
    TcpStream::connect((server.host(), server.port())).unwrap_err();
    server.start_again().unwrap();
    let (mut open, response) = log_in(&server, "app", "second");
    assert_eq!(response, "+OK");
    assert!(send(&mut open, "PING").starts_with("-NOPERM"));
    assert_eq!(send(&mut open, "GET key"), "$-1");
    assert_eq!(server.login_commands().unwrap(), 1);
    server.drop_user("app").unwrap();
    assert!(log_in(&server, "app", "second").1.starts_with("-WRONGPASS"));
}

#[test]
fn an_invalid_command_is_an_error_with_the_message() {
    let server = Redis::start().unwrap();
    let error = server.set_rules("app", &["+nonsense"]).unwrap_err();
    assert!(error.to_string().contains("+nonsense"), "{error}");
    let error = Redis::builder().setting("no-such-setting", "1").start();
    assert!(error.unwrap_err().to_string().contains("no-such-setting"));
}

#[test]
fn a_cluster_of_one_node_serves_all_slots() {
    let server = Redis::builder().cluster().start().unwrap();
    server.set_user("app", "first").unwrap();
    let (mut open, _) = log_in(&server, "app", "first");
    assert_eq!(send(&mut open, "SET key value"), "+OK");
    let slots = server.command(&["CLUSTER", "SLOTS"]).unwrap();
    assert!(slots.starts_with("0\n16383"), "{slots}");
}

#[cfg(feature = "tls")]
#[test]
fn with_tls_connections_without_it_are_rejected() {
    let server = Redis::builder().tls().start().unwrap();
    server.set_user("app", "first").unwrap();
    assert!(server.ca_file().is_some_and(|file| file.is_file()));
    let mut stream = TcpStream::connect((server.host(), server.port())).unwrap();
    stream.write_all(b"PING\r\n").unwrap();
    let mut response = Vec::new();
    let _ = stream.read_to_end(&mut response);
    assert!(!response.starts_with(b"+PONG"), "{response:?}");
}
