//! needs: mariadb
//!
//! Users, passwords, and the counts of accepted and rejected logins, on MariaDB.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

#[path = "support/mariadb_client.rs"]
mod client;

use claviger_servers::mariadb::quote_literal;
use claviger_servers::{MariaDb, SqlError};
use client::{log_in, login_result};

#[test]
fn accepted_and_rejected_logins_are_counted() {
    let server = MariaDb::start().unwrap();
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
            login_result(&log_in(&server, "app", "right", &[])),
            Ok("app".to_owned())
        );
    }
    for _ in 0..2 {
        let rejection = login_result(&log_in(&server, "app", "wrong", &[])).unwrap_err();
        assert!(
            rejection.contains("ERROR 1045 (28000): Access denied for user 'app'"),
            "{rejection}"
        );
    }
    login_result(&log_in(&server, "nobody there", "right", &[])).unwrap_err();
    login_result(&log_in(&server, "other", "right", &[])).unwrap();

    assert_eq!(log.rejected_logins_of("app").unwrap(), 2);
    assert_eq!(log.rejected_logins_of("other").unwrap(), 0);
    assert_eq!(log.rejected_logins().unwrap(), 3);
    assert_eq!(log.authenticated_logins_of("app").unwrap(), 3);
    assert_eq!(log.authenticated_logins_of("other").unwrap(), 1);
    assert_eq!(log.authenticated_logins().unwrap(), 4);
    assert_eq!(log.count("Access denied").unwrap(), 3);
    assert_eq!(log.tail(3).lines().count(), 3);
}

#[test]
fn there_are_no_anonymous_users_and_the_superuser_needs_the_socket() {
    let server = MariaDb::start().unwrap();
    assert_eq!(
        server
            .sql("SELECT User FROM user WHERE Host <> 'localhost'")
            .unwrap(),
        "bystander"
    );
    login_result(&log_in(&server, "bystander", "", &[])).unwrap_err();
    assert_eq!(
        server.sql("SELECT CURRENT_USER()").unwrap(),
        "root@localhost"
    );
    let rejection = login_result(&log_in(&server, server.superuser(), "", &[])).unwrap_err();
    assert!(rejection.contains("1045"), "{rejection}");
    login_result(&log_in(&server, "", "", &[])).unwrap_err();
}

#[test]
fn only_a_changed_password_is_accepted() {
    let server = MariaDb::start().unwrap();
    server.create_role("app", "first").unwrap();
    login_result(&log_in(&server, "app", "first", &[])).unwrap();

    server.set_password("app", "second").unwrap();
    let new_entries = server.log().from_now().unwrap();
    login_result(&log_in(&server, "app", "first", &[])).unwrap_err();
    login_result(&log_in(&server, "app", "second", &[])).unwrap();
    assert_eq!(new_entries.rejected_logins_of("app").unwrap(), 1);
    assert_eq!(new_entries.authenticated_logins_of("app").unwrap(), 1);
    assert_eq!(server.log().authenticated_logins_of("app").unwrap(), 2);
}

#[test]
fn a_locked_user_is_rejected_and_an_expired_password_is_accepted() {
    let server = MariaDb::start().unwrap();
    let log = server.log();
    server.create_role("app", "right").unwrap();
    server.lock_account("app").unwrap();
    let rejection = login_result(&log_in(&server, "app", "right", &[])).unwrap_err();
    assert!(rejection.contains("ERROR 4151 (HY000)"), "{rejection}");
    assert_eq!(
        (
            log.rejected_logins_of("app").unwrap(),
            log.authenticated_logins_of("app").unwrap()
        ),
        (1, 0)
    );
    server.unlock_account("app").unwrap();
    login_result(&log_in(&server, "app", "right", &[])).unwrap();

    server.expire_password("app").unwrap();
    let rejection = login_result(&log_in(&server, "app", "right", &[])).unwrap_err();
    assert!(rejection.contains("ERROR 1820 (HY000)"), "{rejection}");
    assert_eq!(
        (
            log.rejected_logins_of("app").unwrap(),
            log.authenticated_logins_of("app").unwrap()
        ),
        (1, 2)
    );
    server.set_password("app", "next").unwrap();
    login_result(&log_in(&server, "app", "next", &[])).unwrap();
}

#[test]
fn names_and_passwords_may_contain_any_characters() {
    let server = MariaDb::start().unwrap();
    for name in [
        "Robert'); DROP USER x; --",
        "a `b` \"c\"",
        r"back\slash\'",
        "new\nline",
        ":x $1 =é",
        "a,b",
        "under_score%",
    ] {
        let password = format!("{name}{name}");
        server.create_role(name, &password).unwrap();
        server.create_database(name, name).unwrap();
        assert_eq!(
            login_result(&log_in(&server, name, &password, &[])).as_deref(),
            Ok(name)
        );
        login_result(&log_in(&server, name, name, &[])).unwrap_err();
        server.set_password(name, name).unwrap();
        login_result(&log_in(
            &server,
            name,
            name,
            &[&format!("--database={name}")],
        ))
        .unwrap();
        assert_eq!(server.log().rejected_logins_of(name).unwrap(), 1, "{name}");
        assert_eq!(
            server.log().authenticated_logins_of(name).unwrap(),
            2,
            "{name}"
        );
        assert_eq!(server.sql_in(name, "SELECT DATABASE()").unwrap(), name);
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
fn a_database_name_is_no_pattern_in_its_grant() {
    let server = MariaDb::start().unwrap();
    server.create_role("app", "right").unwrap();
    server.create_database("my_db", "app").unwrap();
    server.create_database("myxdb", "root").unwrap_err();
    let log_in_to =
        |database| login_result(&log_in(&server, "app", "right", &["--database", database]));
    log_in_to("my_db").unwrap();
    let rejection = log_in_to("myxdb").unwrap_err();
    assert!(rejection.contains("1044"), "{rejection}");
    // The database is rejected, not the password.
    assert_eq!(server.log().rejected_logins().unwrap(), 0);
    assert_eq!(server.log().authenticated_logins_of("app").unwrap(), 1);
}

#[test]
fn a_failing_statement_is_an_error_that_does_not_contain_it() {
    let server = MariaDb::start().unwrap();
    let error = server
        .sql("SELECT * FROM no_such_table WHERE a = 'secret'; CREATE TABLE never (a int)")
        .unwrap_err();
    assert!(
        matches!(&error, SqlError::Failed(message) if message.starts_with("ERROR 1146")),
        "{error}"
    );
    assert!(!error.to_string().contains("secret"), "{error}");
    assert_eq!(server.sql("SHOW TABLES LIKE 'never'").unwrap(), "");
    let large = format!("SELECT LENGTH({})", quote_literal(&"x".repeat(1 << 20)));
    assert_eq!(server.sql(&large).unwrap(), (1 << 20).to_string());
    server.sql("SELECT 1\0").unwrap_err();
}

#[test]
fn settings_override_the_defaults() {
    let server = MariaDb::builder()
        .setting("max-connections", "17")
        .setting("init-connect", "SET @a = 'it''s \\ 1'")
        .start()
        .unwrap();
    assert_eq!(server.sql("SELECT @@max_connections").unwrap(), "17");
    assert_eq!(
        server.sql("SELECT @@init_connect").unwrap(),
        r"SET @a = 'it''s \ 1'"
    );
}

#[test]
fn a_failed_start_is_an_error_with_the_log() {
    let error = MariaDb::builder()
        .setting("no-such-setting", "1")
        .start()
        .unwrap_err();
    assert!(error.to_string().contains("no-such-setting"), "{error}");
}
