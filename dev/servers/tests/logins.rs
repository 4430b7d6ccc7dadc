//! needs: postgresql
//!
//! Roles, passwords, and the counts of accepted and rejected logins.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

#[path = "support/client.rs"]
mod client;

use claviger_servers::{Postgres, SqlError, postgres::quote_literal};
use client::{log_in, login_result};

#[test]
fn accepted_and_rejected_logins_are_counted() {
    let server = Postgres::start().unwrap();
    let log = server.log();
    server.create_role("app", "right").unwrap();
    server.create_role("other", "right").unwrap();
    assert_eq!(
        (
            log.rejected_logins().unwrap(),
            log.authenticated_logins().unwrap()
        ),
        (0, 0)
    );

    for _ in 0..3 {
        assert_eq!(
            login_result(&log_in(&server, "app", "right", "")),
            Ok("app".to_owned())
        );
    }
    for _ in 0..2 {
        let rejection = login_result(&log_in(&server, "app", "wrong", "")).unwrap_err();
        assert!(
            rejection.contains("password authentication failed for user \"app\""),
            "{rejection}"
        );
    }
    login_result(&log_in(&server, "nobody there", "right", "")).unwrap_err();
    login_result(&log_in(&server, "other", "right", "")).unwrap();

    assert_eq!(log.rejected_logins_of("app").unwrap(), 2);
    assert_eq!(log.rejected_logins_of("other").unwrap(), 0);
    assert_eq!(log.rejected_logins().unwrap(), 3);
    assert_eq!(log.authenticated_logins_of("app").unwrap(), 3);
    assert_eq!(log.authenticated_logins_of("other").unwrap(), 1);
    assert_eq!(log.authenticated_logins().unwrap(), 4);
    assert_eq!(log.count("method=scram-sha-256").unwrap(), 4);
    assert!(log.tail(3).lines().count() == 3);
}

#[test]
fn only_a_changed_password_is_accepted() {
    let server = Postgres::start().unwrap();
    server.create_role("app", "first").unwrap();
    login_result(&log_in(&server, "app", "first", "")).unwrap();

    server.set_password("app", "second").unwrap();
    let new_entries = server.log().from_now().unwrap();
    login_result(&log_in(&server, "app", "first", "")).unwrap_err();
    login_result(&log_in(&server, "app", "second", "")).unwrap();
    assert_eq!(new_entries.rejected_logins_of("app").unwrap(), 1);
    assert_eq!(new_entries.authenticated_logins_of("app").unwrap(), 1);
    assert_eq!(server.log().authenticated_logins_of("app").unwrap(), 2);
}

#[test]
fn names_and_passwords_may_contain_any_characters() {
    let server = Postgres::start().unwrap();
    for name in [
        "Robert'); DROP ROLE x; --",
        r#"a "b" c"#,
        r"back\slash\'",
        "new\nline",
        ":x $1 =é",
    ] {
        let password = format!("{name}{name}");
        server.create_role(name, &password).unwrap();
        server.create_database(name, name).unwrap();
        assert_eq!(
            login_result(&log_in(&server, name, &password, "")).as_deref(),
            Ok(name)
        );
        login_result(&log_in(&server, name, name, "")).unwrap_err();
        server.set_password(name, name).unwrap();
        login_result(&log_in(&server, name, name, "")).unwrap();
        assert_eq!(server.log().rejected_logins_of(name).unwrap(), 1, "{name}");
        assert_eq!(
            server.log().authenticated_logins_of(name).unwrap(),
            2,
            "{name}"
        );
        assert_eq!(
            server.sql_in(name, "SELECT current_database()").unwrap(),
            name
        );
        assert_eq!(
            server
                .sql(&format!("SELECT {}", quote_literal(name)))
                .unwrap(),
            name
        );
        // A connection that its client has just closed may still be counted.
        assert!(server.connection_count(name).unwrap() < 2);
    }
}

#[test]
fn a_failing_statement_is_an_error_and_later_ones_do_not_run() {
    let server = Postgres::start().unwrap();
    let error = server.sql("SELECT 1/0; CREATE TABLE never ()").unwrap_err();
    assert!(matches!(&error, SqlError::Failed(message) if message.contains("division by zero")));
    assert_eq!(
        server.sql("SELECT to_regclass('never') IS NULL").unwrap(),
        "t"
    );
    let large = format!("SELECT length({})", quote_literal(&"x".repeat(1 << 20)));
    assert_eq!(server.sql(&large).unwrap(), (1 << 20).to_string());
    server.sql("SELECT 1\0").unwrap_err();
}

#[test]
fn settings_and_access_lines_override_the_defaults() {
    let server = Postgres::builder()
        .setting("max_connections", "17")
        .setting("cluster_name", r"it's a \ backslash")
        .hba("host all eve 127.0.0.1/32 reject")
        .start()
        .unwrap();
    assert_eq!(server.sql("SHOW max_connections").unwrap(), "17");
    assert_eq!(
        server.sql("SHOW cluster_name").unwrap(),
        r"it's a \ backslash"
    );
    server.create_role("eve", "right").unwrap();
    let rejection = login_result(&log_in(&server, "eve", "right", "")).unwrap_err();
    assert!(rejection.contains("pg_hba.conf rejects"), "{rejection}");
    assert_eq!(server.log().rejected_logins().unwrap(), 0);
}

#[test]
fn a_failed_start_is_an_error_with_the_log() {
    let error = Postgres::builder()
        .setting("no_such_setting", "1")
        .start()
        .unwrap_err();
    assert!(error.to_string().contains("no_such_setting"), "{error}");
}
