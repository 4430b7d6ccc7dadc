//! needs: postgresql, pgbouncer
//!
//! A PgBouncer in front of a PostgreSQL authenticates by `auth_file` and by `auth_query`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::process::Command;

use claviger_servers::pgbouncer::{PoolMode, Users};
use claviger_servers::{PgBouncer, Postgres};

/// Runs `SELECT current_user` through the pooler. Returns the result or the error message.
fn select_user(server: &Postgres, pooler: &PgBouncer, password: &str) -> Result<String, String> {
    let target = format!(
        "host={} port={} user=app dbname=postgres connect_timeout=10",
        pooler.host(),
        pooler.port()
    );
    let mut psql = Command::new(server.programs().join("psql"));
    psql.args(["-X", "-q", "-t", "-A", "-c", "SELECT current_user", "-d"])
        .arg(target)
        .env("PGPASSWORD", password);
    let output = psql.output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    }
}

#[test]
fn a_password_in_the_auth_file_is_replaced() {
    let server = Postgres::start().unwrap();
    server.create_role("app", "first").unwrap();
    let users = Users::File(vec![("app".to_owned(), "first".to_owned())]);
    let pooler = PgBouncer::builder(users)
        .mode(PoolMode::Transaction)
        .start(&server)
        .unwrap();
    assert_eq!(select_user(&server, &pooler, "first"), Ok("app".to_owned()));
    server.set_password("app", "second").unwrap();
    pooler.set_password("app", "second").unwrap();
    assert!(
        select_user(&server, &pooler, "first")
            .unwrap_err()
            .contains("SASL authentication failed")
    );
    assert_eq!(
        select_user(&server, &pooler, "second"),
        Ok("app".to_owned())
    );
    pooler.stop().unwrap();
    assert!(select_user(&server, &pooler, "second").is_err());
    assert_eq!(pooler.pid(), None);
    pooler.start_again().unwrap();
    assert_eq!(
        select_user(&server, &pooler, "second"),
        Ok("app".to_owned())
    );
}

#[test]
fn an_auth_query_reads_the_password_from_the_server() {
    let server = Postgres::start().unwrap();
    server.create_role("app", "first").unwrap();
    let pooler = PgBouncer::builder(Users::Query).start(&server).unwrap();
    assert_eq!(select_user(&server, &pooler, "first"), Ok("app".to_owned()));
    server.set_password("app", "second").unwrap();
    assert!(
        select_user(&server, &pooler, "first")
            .unwrap_err()
            .contains("SASL authentication failed")
    );
    assert_eq!(
        select_user(&server, &pooler, "second"),
        Ok("app".to_owned())
    );
    assert!(
        pooler
            .console("SHOW CONFIG")
            .unwrap()
            .contains("pool_mode|session")
    );
}
