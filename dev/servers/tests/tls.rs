//! needs: postgresql
//!
//! Clients verify PostgreSQL's certificate by its own authority.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

#[path = "support/client.rs"]
mod client;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use claviger_servers::Postgres;
use client::{log_in, login_result, psql};

fn tls_options(host: &str, ca: &Path) -> String {
    format!(
        "host={host} hostaddr=127.0.0.1 sslmode=verify-full sslrootcert='{}'",
        ca.display()
    )
}

#[test]
fn only_the_servers_own_authority_verifies_it() {
    let server = Postgres::builder().tls().start().unwrap();
    server.create_role("app", "right").unwrap();
    let (ca, unrelated) = (
        server.ca_file().unwrap(),
        server.unrelated_ca_file().unwrap(),
    );

    for host in ["localhost", "127.0.0.1"] {
        let output = log_in(&server, "app", "right", &tls_options(host, ca));
        assert_eq!(login_result(&output), Ok("app".to_owned()), "{host}");
    }
    assert_eq!(
        server.log().count("SSL enabled (protocol=TLSv1.3").unwrap(),
        2
    );

    let rejection = login_result(&log_in(
        &server,
        "app",
        "right",
        &tls_options("localhost", unrelated),
    ))
    .unwrap_err();
    assert!(
        rejection.contains("certificate verify failed"),
        "{rejection}"
    );
    let rejection = login_result(&log_in(
        &server,
        "app",
        "right",
        &tls_options("example.org", ca),
    ))
    .unwrap_err();
    assert!(
        rejection.contains("does not match host name"),
        "{rejection}"
    );
    assert_eq!(server.log().authenticated_logins().unwrap(), 2);

    // libpq reads the same settings from the environment.
    let output = psql(&server)
        .env("PGPASSWORD", "right")
        .env("PGSSLMODE", "verify-full")
        .env("PGSSLROOTCERT", ca)
        .args([
            "-h",
            server.host(),
            "-p",
            &server.port().to_string(),
            "-U",
            "app",
            "-d",
            "postgres",
        ])
        .args(["-c", "SELECT 1"])
        .output()
        .unwrap();
    assert_eq!(login_result(&output), Ok("1".to_owned()));
}

#[test]
fn tls_is_optional_for_clients() {
    let server = Postgres::builder().tls().start().unwrap();
    server.create_role("app", "right").unwrap();
    login_result(&log_in(&server, "app", "right", "sslmode=disable")).unwrap();
    assert_eq!(server.log().count("SSL enabled").unwrap(), 0);

    let plain = Postgres::start().unwrap();
    assert_eq!((plain.ca_file(), plain.unrelated_ca_file()), (None, None));
    plain.create_role("app", "right").unwrap();
    let rejection = login_result(&log_in(&plain, "app", "right", "sslmode=require")).unwrap_err();
    assert!(rejection.contains("does not support SSL"), "{rejection}");
}

#[test]
fn only_the_server_can_read_the_key() {
    let server = Postgres::builder().tls().start().unwrap();
    let mode = |file: &str| {
        fs::metadata(server.socket_dir().join(file))
            .unwrap()
            .permissions()
            .mode()
    };
    assert_eq!(mode("server.key") & 0o777, 0o600);
    assert_eq!(mode(".") & 0o777, 0o700);
}
