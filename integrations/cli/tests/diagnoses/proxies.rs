//! A proxy in the environment: it receives no request to this machine, and no secret.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use serde_json::json;

use crate::common::Setup;
use crate::vaults::Vault;

/// The operator's token.
const TOKEN: &str = "6f0c4e1b0d5a4f2e9c3b7a8d1e2f3a4b";

/// A server that records the beginning of each request.
struct Recorder {
    port: u16,
    received: Receiver<String>,
}

impl Recorder {
    /// Starts a server that sends this response.
    fn start(response: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (sender, received) = channel();
        thread::spawn(move || {
            for mut connection in listener.incoming().flatten() {
                // Before the response, so that the client cannot end earlier.
                if sender.send(head(&mut connection)).is_err() {
                    return;
                }
                drop(connection.write_all(response.as_bytes()));
            }
        });
        Self { port, received }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Returns what was received until now.
    fn requests(&self) -> Vec<String> {
        self.received.try_iter().collect()
    }
}

/// Reads the head of a request.
fn head(connection: &mut TcpStream) -> String {
    let (mut text, mut buffer) = (String::new(), [0; 4_096]);
    while !text.contains("\r\n\r\n") {
        let Ok(read @ 1..) = connection.read(&mut buffer) else {
            break;
        };
        text += &String::from_utf8_lossy(&buffer[..read]);
    }
    text
}

/// Adds the variables of the proxy.
fn with_proxy(mut command: Command, proxy: &Recorder) -> Command {
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env(name, proxy.url());
        command.env(name.to_ascii_lowercase(), proxy.url());
    }
    command.env_remove("NO_PROXY").env_remove("no_proxy");
    // It marks a program that a web server runs, which has no HTTP_PROXY.
    command.env_remove("REQUEST_METHOD");
    command
}

fn bad_gateway() -> String {
    "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned()
}

#[test]
fn the_operators_token_is_sent_to_no_proxy() {
    let proxy = Recorder::start(bad_gateway());
    let body = json!({ "operation": "rotate", "result": { "outcome": "adopted" } }).to_string();
    let length = body.len();
    let service = Recorder::start(format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    ));
    let setup = Setup::new();
    let run = |url: &str| {
        let arguments = ["rotate", "app", "--token", TOKEN, "--url", url];
        let mut command = with_proxy(setup.command("", &arguments), &proxy);
        let output = command.output().expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code(),
            text(&output.stdout) + &text(&output.stderr),
        )
    };
    for host in ["127.0.0.1", "localhost"] {
        let (code, shown) = run(&format!("http://{host}:{}", service.port));
        assert_eq!(proxy.requests(), [""; 0], "{host}");
        assert_eq!(code, Some(0), "{host}: {shown}");
        let requests = service.requests();
        assert!(requests.iter().any(|text| text.contains(TOKEN)), "{host}");
    }
    // No name ends in `invalid`, so nothing but a proxy could receive it.
    let (code, shown) = run("http://service.invalid:8081");
    assert_eq!(proxy.requests(), [""; 0]);
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("cannot be reached"), "{shown}");
    // It tunnels TLS, and receives host and port alone.
    let (code, shown) = run("https://service.invalid:8081");
    assert_eq!(code, Some(1), "{shown}");
    let requests = proxy.requests();
    let is_tunnel = |text: &String| text.starts_with("CONNECT service.invalid:8081");
    assert!(requests.iter().any(is_tunnel), "{requests:?}");
    assert!(!requests.iter().any(|text| text.contains(TOKEN)));
}

#[test]
fn a_vault_of_this_machine_is_reached_without_the_proxy() {
    let proxy = Recorder::start(bad_gateway());
    let vault = Vault::start();
    vault.write_token("orders");
    let config = vault.config("orders");
    let select = "SELECT 'user ' || current_user";
    let exec = ["exec", "--", "psql", "-Atc", select];
    for (arguments, shown) in [
        (&exec[..], "user v-"),
        (&["doctor"], "clock      ok"),
        (&["rehearse"], "clock      ok"),
    ] {
        let mut command = with_proxy(vault.setup.command(&config, arguments), &proxy);
        let output = command.output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{text}{error}");
        assert!(text.contains(shown), "{text}");
        assert_eq!(proxy.requests(), [""; 0], "{arguments:?}");
        assert_eq!(vault.leases(), 0);
    }
    // The command has the variables, too.
    let arguments = ["exec", "--", "sh", "-c", "echo \"$HTTP_PROXY\""];
    let mut command = with_proxy(vault.setup.command(&config, &arguments), &proxy);
    let output = command.output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(text.trim(), proxy.url());
}
