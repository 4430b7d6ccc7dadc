//! A token for a Vault on this machine is sent to no proxy, whatever the environment configures.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::mpsc::{Sender, channel};

use claviger::error::ProviderErrorKind;
use claviger::provider::FetchRequest;
use claviger_testkit::FetchLease;
use claviger_vault::{Auth, VaultKv, VaultSession};

const CANARY: &str = "s.CANARY";

/// Records the first bytes of each connection and closes it.
fn record(listener: &TcpListener, name: &'static str, received: &Sender<(&'static str, String)>) {
    for mut connection in listener.incoming().flatten() {
        let mut buffer = [0; 4_096];
        let read = connection.read(&mut buffer).unwrap_or_default();
        let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
        if received.send((name, text)).is_err() {
            return;
        }
        drop(connection.write_all(
            b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        ));
    }
}

/// The environment of a running process cannot be changed safely, so the client runs in a process
/// of its own.
#[test]
fn a_token_for_this_machine_is_sent_to_no_proxy() {
    let (sender, received) = channel();
    let [proxy, vault] = ["proxy", "vault"].map(|name| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let sender = sender.clone();
        std::thread::spawn(move || record(&listener, name, &sender));
        port
    });
    let run_client = |address: &str| {
        let mut client = Command::new(std::env::current_exe().expect("this test"));
        client
            .args(["--exact", "client", "--ignored"])
            .env("VAULT_ADDRESS", address);
        for name in [
            "HTTP_PROXY",
            "http_proxy",
            "HTTPS_PROXY",
            "https_proxy",
            "ALL_PROXY",
            "all_proxy",
        ] {
            client.env(name, format!("http://127.0.0.1:{proxy}"));
        }
        client
            .env_remove("NO_PROXY")
            .env_remove("no_proxy")
            .env_remove("REQUEST_METHOD");
        let output = client.output().expect("the client runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
        received.try_iter().collect::<Vec<_>>()
    };
    for address in [
        format!("http://127.0.0.1:{vault}"),
        format!("http://localhost:{vault}"),
        format!("https://127.0.0.1:{vault}"),
    ] {
        let received = run_client(&address);
        assert!(
            !received.is_empty() && received.iter().all(|(name, _)| *name == "vault"),
            "{address}: {received:?}"
        );
    }
    // The proxy receives host and port of a Vault on another machine, but no token.
    let received = run_client("https://vault.invalid:8200");
    assert!(
        received
            .iter()
            .any(|(name, text)| *name == "proxy" && text.starts_with("CONNECT vault.invalid:8200")),
        "{received:?}"
    );
    assert!(
        !received.iter().any(|(_, text)| text.contains(CANARY)),
        "{received:?}"
    );
}

#[tokio::test]
#[ignore = "a part of another test, which runs it with an environment of its own"]
async fn client() {
    let address = std::env::var("VAULT_ADDRESS").expect("it is set");
    let session = VaultSession::new(address, Auth::token(CANARY)).expect("the settings are valid");
    let error = VaultKv::new(&session, "kv", "orders")
        .expect("a path")
        .fetch_lease(FetchRequest::first())
        .await
        .expect_err("no Vault");
    let without_tls = ProviderErrorKind::Misconfigured;
    assert!(
        [ProviderErrorKind::Unavailable, without_tls].contains(&error.kind())
            && !error.to_string().contains(CANARY),
        "{error}"
    );
}
