//! needs: postgresql, openbao
//!
//! The example while users are created and dropped.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use claviger_servers::Postgres;
use claviger_vault_fixtures::{Admin, ENGINE_PASSWORD, ENGINE_USER, Kind, Revocation};
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
fn the_service_continues_while_users_change_and_leaves_none() {
    let server = Postgres::builder().tls().start().expect("a server starts");
    server
        .create_role("app", "password-1")
        .expect("a role is made");
    server
        .create_database("orders", "app")
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
        .role(Kind::PostgreSql, "orders", 8, 12, Revocation::Terminating)
        .expect("a role is made");
    let role_id = admin
        .app_role(json!({ "token_ttl": "1m", "token_max_ttl": "1h" }))
        .expect("an AppRole is made");
    let folder = tempfile::tempdir().expect("a folder is made");
    let secret_id = folder.path().join("secret-id");
    std::fs::write(&secret_id, admin.secret_id().expect("a secret id")).expect("it is written");
    let tokens = admin.tokens().expect("they are counted").len();

    let mut command = Command::new(env!("CARGO_BIN_EXE_vault_dynamic"));
    command
        .arg(admin.vault.address())
        .arg(role_id)
        .arg(&secret_id);
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
    let first = lines.next().expect("a first line");
    assert!(
        first.starts_with("generation 1: logged in as v-approle-orders-"),
        "{first}"
    );
    let user = first.rsplit(' ').next().expect("a user").to_owned();
    let second = lines
        .find(|line| line.starts_with("generation 2: "))
        .expect("it continues");
    assert!(!second.contains(&user), "another user: {second}");

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
    assert_eq!(
        admin.leases("orders").expect("they are counted"),
        Vec::<String>::new()
    );
    assert_eq!(admin.tokens().expect("they are counted").len(), tokens);
    assert_eq!(
        server
            .sql("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'v-%'")
            .expect("they are counted")
            .trim(),
        "0"
    );
}
