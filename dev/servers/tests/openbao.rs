//! needs: openbao
//!
//! OpenBao keeps its storage, can be sealed, and leaves nothing behind.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

#[path = "support/processes.rs"]
mod processes;

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use claviger_servers::{OpenBao, Programs, Server, StartError};
use processes::{children_of, is_gone, kill, parent_and_state};

fn start_with_secret() -> OpenBao {
    let vault = OpenBao::start().unwrap();
    let mounted = vault
        .request(
            "POST",
            "sys/mounts/kv",
            Some(r#"{"type": "kv", "options": {"version": "2"}}"#),
        )
        .unwrap();
    assert!(mounted.is_success(), "{mounted:?}");
    // A new KV engine rejects writes until it has been upgraded.
    let write = || {
        vault
            .request(
                "POST",
                "kv/data/db",
                Some(r#"{"data": {"password": "kept"}}"#),
            )
            .unwrap()
    };
    let written = (0..100).any(|_| {
        write().is_success() || {
            std::thread::sleep(Duration::from_millis(20));
            false
        }
    });
    assert!(written, "{:?}", write());
    vault
}

fn read_status(vault: &OpenBao) -> u16 {
    vault.request("GET", "kv/data/db", None).unwrap().status
}

#[test]
fn a_sealed_server_is_unavailable_until_it_is_unsealed() {
    let vault = start_with_secret();
    assert_eq!(read_status(&vault), 200);
    vault.seal().unwrap();
    assert_eq!(read_status(&vault), 503);
    vault.unseal().unwrap();
    assert_eq!(read_status(&vault), 200);
    assert_eq!(
        vault
            .request_as("unknown", "GET", "kv/data/db", None)
            .unwrap()
            .status,
        403
    );
}

#[test]
fn a_stopped_server_refuses_connections_and_keeps_its_storage() {
    let vault = start_with_secret();
    let address = vault.address();
    vault.stop().unwrap();
    assert_eq!(
        vault.request("GET", "kv/data/db", None).unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
    vault.start_again().unwrap();
    assert_eq!(vault.address(), address);
    assert!(
        vault
            .request("GET", "kv/data/db", None)
            .unwrap()
            .body
            .contains("kept")
    );
}

#[test]
fn a_stalled_server_responds_after_resuming() {
    let vault = start_with_secret();
    vault.stall().unwrap();
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        let vault = &vault;
        scope.spawn(move || sender.send(read_status(vault)).unwrap());
        assert!(receiver.recv_timeout(Duration::from_millis(300)).is_err());
        vault.resume().unwrap();
        assert_eq!(receiver.recv_timeout(Duration::from_secs(20)), Ok(200));
    });
}

#[test]
fn nothing_is_left_behind() {
    let vault = start_with_secret();
    let server = vault.pid().unwrap();
    let (guardian, _) = parent_and_state(server).unwrap();
    assert!(children_of(guardian).contains(&server));
    let debug = format!("{vault:?}");
    assert!(!debug.contains(vault.root_token()), "{debug}");
    drop(vault);
    assert!(is_gone(server) && is_gone(guardian));

    let vault = OpenBao::start().unwrap();
    let server = vault.pid().unwrap();
    kill(server);
    drop(vault);
    assert!(is_gone(server));
}

#[test]
fn a_missing_openbao_is_an_error_with_the_command_that_installs_it() {
    let error = OpenBao::start_from(&Programs::nowhere()).unwrap_err();
    assert!(matches!(error, StartError::NotInstalled(_)), "{error:?}");
    assert!(
        error.to_string().contains("cargo xtask install openbao"),
        "{error:?}"
    );
}

#[test]
fn a_vault_program_is_used_only_if_it_is_chosen() {
    let folder = tempfile::TempDir::new().unwrap();
    let root = fs::canonicalize(folder.path()).unwrap();
    let create_program = |name: &str| {
        let file: PathBuf = root.join(name);
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        file
    };
    let vault = create_program("vault");
    assert!(
        Programs::nowhere()
            .path([root.clone()])
            .find(Server::OpenBao)
            .is_err()
    );
    for chosen in [&vault, &root] {
        assert_eq!(
            Programs::nowhere()
                .chosen(Server::OpenBao, chosen)
                .find(Server::OpenBao)
                .as_ref(),
            Ok(&vault)
        );
    }
    let error = Programs::nowhere()
        .chosen(Server::OpenBao, root.join("missing"))
        .find(Server::OpenBao)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("CLAVIGER_VAULT_BIN") && error.contains("bao or vault"),
        "{error}"
    );
    let bao = create_program("bao");
    assert_eq!(
        Programs::nowhere().path([root]).find(Server::OpenBao),
        Ok(bao)
    );
}
