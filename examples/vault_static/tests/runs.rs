//! needs: postgresql, openbao
//!
//! The example during a manual rotation.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use claviger_servers::Postgres;
use claviger_vault_fixtures::{Admin, ENGINE_PASSWORD, ENGINE_USER, Kind};
use serde_json::json;

/// The program, killed at the end of the test.
struct Example(Child);

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_service_continues_through_a_manual_rotation() {
    let server = Postgres::builder().tls().start().expect("a server starts");
    server
        .create_role("orders", "password-1")
        .expect("a role is made");
    server
        .create_database("orders", "orders")
        .expect("a database is made");
    server
        .sql(&format!(
            "CREATE ROLE {ENGINE_USER} LOGIN SUPERUSER PASSWORD '{ENGINE_PASSWORD}'"
        ))
        .expect("the engine's user is created");
    let admin = Admin::start().expect("a Vault starts");
    admin
        .connect(Kind::PostgreSql, server.port())
        .expect("the engine is connected");
    admin.policy().expect("a policy is written");
    admin
        .static_role("orders", 3_600)
        .expect("a static role is made");
    let folder = tempfile::tempdir().expect("a folder is made");
    let token = folder.path().join("token");
    std::fs::write(
        &token,
        admin.token(json!({ "ttl": "1h" })).expect("a token"),
    )
    .expect("it is written");

    let mut command = Command::new(env!("CARGO_BIN_EXE_vault_static"));
    command.arg(admin.vault.address()).arg(&token).arg("orders");
    command
        .arg(server.host())
        .arg(server.port().to_string())
        .arg("orders")
        .arg(server.ca_file().expect("it speaks TLS"));
    // The example has no environment variables.
    let mut example = Example(
        command
            .env_clear()
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts"),
    );
    let mut lines = BufReader::new(example.0.stdout.take().expect("it is piped"))
        .lines()
        .map_while(Result::ok);
    assert_eq!(
        lines.next().as_deref(),
        Some("generation 1: logged in as orders")
    );

    // The connection continues after the rotation. A new connection needs the new password.
    admin.rotate_role("orders").expect("it is rotated");
    server
        .terminate_connections("orders")
        .expect("its connection is terminated");
    assert!(
        lines.any(|line| line == "generation 2: logged in as orders"),
        "it continues"
    );

    let interrupted = Command::new("kill")
        .args(["-INT", &example.0.id().to_string()])
        .status()
        .expect("there is a kill");
    assert!(interrupted.success());
    assert_eq!(
        lines.last().as_deref(),
        Some("shut down, nothing remains: true")
    );
    assert!(example.0.wait().expect("it ends").success());
}
