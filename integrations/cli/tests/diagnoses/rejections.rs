//! Rejections by PostgreSQL before it verifies a password, and errors in another language.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use claviger_servers::Postgres;
use rustix::process::{Pid, Signal, kill_process};

use crate::common::{SECRET, Setup, admin_url, pool};

fn server(access: &str) -> Postgres {
    let server = Postgres::builder()
        .hba(access)
        .setting("log_connections", "on")
        .start()
        .expect("a server");
    server.create_role("app", SECRET).expect("a role");
    server
}

#[test]
fn a_rejection_before_the_password_costs_one_attempt() {
    let server = server("host all app 127.0.0.1/32 reject");
    let setup = Setup::new();
    let config = pool(&setup, server.port(), "database = \"postgres\"");
    let diagnosis = setup.doctor(&config, &[]);
    diagnosis.assert_cause("login", "no_hba_entry");
    assert_eq!(diagnosis.logins(), (1, 1));
    let rejected = "pg_hba.conf rejects connection";
    assert_eq!(server.log().count(rejected).expect("the log"), 1);
    // The role is right, so that it is not a cause; neither is its password.
    let admin = setup.doctor(&config, &["--admin-url", &admin_url(&server)]);
    admin.assert_cause("login", "no_hba_entry");
    assert!(admin.finding("role").is_null(), "{:#}", admin.report);
    let next = admin.finding("login")["next"].to_string();
    assert!(next.contains("pg_hba.conf"), "{next}");
}

#[test]
fn a_login_without_a_password_is_counted_and_noted() {
    let server = server("host all app 127.0.0.1/32 trust");
    let setup = Setup::new();
    let config = |database: &str| {
        let more = format!("database = \"{database}\"");
        pool(&setup, server.port(), &more)
    };
    let authorized = || {
        let line = "connection authorized: user=app";
        server.log().count(line).expect("the log")
    };
    let fine = setup.doctor(&config("postgres"), &[]);
    fine.assert_fine();
    assert!(fine.report.to_string().contains("password_not_requested"));
    assert_eq!(fine.logins(), (2, 0));
    assert_eq!(authorized(), 2);
    let absent = setup.doctor(&config("absent"), &[]);
    absent.assert_cause("login", "unknown_database");
    assert_eq!(absent.logins(), (1, 1));
    let line = "database \"absent\" does not exist";
    assert_eq!(server.log().count(line).expect("the log"), 1);
}

#[test]
fn a_standby_that_accepts_no_connections_is_named() {
    let server = Postgres::builder()
        .setting("hot_standby", "off")
        .start()
        .expect("a server");
    server.shut_down().expect("shut down");
    let data = server.socket_dir().join("data");
    std::fs::write(data.join("standby.signal"), "").expect("written");
    server.start_again().expect("a standby");
    let setup = Setup::new();
    let config = pool(&setup, server.port(), "database = \"postgres\"");
    let standby = setup.doctor(&config, &[]);
    standby.assert_cause("login", "hot_standby_off");
    let next = standby.finding("login")["next"][0].to_string();
    assert!(next.contains("primary"), "{next}");
}

#[test]
fn a_server_that_shuts_down_is_named() {
    let server = server("host all nobody 127.0.0.1/32 reject");
    let setup = Setup::new();
    let config = pool(&setup, server.port(), "database = \"postgres\"");
    // It waits for the end of this connection.
    let statements = ["-c", "SELECT 'taken'", "-c", "SELECT pg_sleep(600)"];
    let arguments = [&["exec", "--", "psql", "-At"][..], &statements].concat();
    let mut command = setup.command(&config, &arguments);
    let mut taken = command.stdout(Stdio::piped()).spawn().expect("psql runs");
    let mut output = BufReader::new(taken.stdout.take().expect("its output"));
    let mut line = String::new();
    output.read_line(&mut line).expect("a line");
    assert_eq!(line, "taken\n");
    let id = server.pid().and_then(|id| i32::try_from(id).ok());
    let id = id.and_then(Pid::from_raw).expect("its id");
    kill_process(id, Signal::TERM).expect("sent");
    let request = "received smart shutdown request";
    while server.log().count(request).expect("the log") == 0 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let diagnosis = setup.doctor(&config, &[]);
    diagnosis.assert_cause("login", "server_not_ready");
    assert_eq!(diagnosis.logins(), (1, 1));
    let rejected = "the database system is shutting down";
    assert_eq!(server.log().count(rejected).expect("the log"), 1);
    drop(server);
    taken.wait().expect("it ends");
}

#[test]
fn messages_in_another_language_have_the_same_causes() {
    let server = Postgres::builder()
        .language("de")
        .hba("host all outsider 127.0.0.1/32 reject")
        .start()
        .expect("a server");
    server.create_role("app", SECRET).expect("a role");
    for sql in [
        format!("CREATE ROLE sleeper NOLOGIN PASSWORD '{SECRET}'"),
        format!("CREATE ROLE full_up LOGIN CONNECTION LIMIT 0 PASSWORD '{SECRET}'"),
        "CREATE DATABASE closed ALLOW_CONNECTIONS false".to_owned(),
    ] {
        server.sql(&sql).expect("it runs");
    }
    let setup = Setup::new();
    let diagnose = |more: &str| setup.doctor(&pool(&setup, server.port(), more), &[]);
    let postgres = "database = \"postgres\"\n";
    for (more, cause, german, english) in [
        (
            format!("{postgres}user = \"outsider\""),
            "no_hba_entry",
            "lehnt Verbindung",
            "rejects connection",
        ),
        (
            format!("{postgres}user = \"missing\""),
            "password_rejected",
            "Passwort-Authentifizierung",
            "password authentication",
        ),
        (
            format!("{postgres}user = \"sleeper\""),
            "role_may_not_log_in",
            "Rolle",
            "not permitted",
        ),
        (
            format!("{postgres}user = \"full_up\""),
            "too_many_connections",
            "zu viele Verbindungen",
            "too many",
        ),
        (
            "database = \"absent\"".to_owned(),
            "unknown_database",
            "Datenbank",
            "does not exist",
        ),
        (
            "database = \"closed\"".to_owned(),
            "database_closed",
            "Datenbank",
            "currently accepting",
        ),
    ] {
        let diagnosis = diagnose(&more);
        diagnosis.assert_cause("login", cause);
        let detail = diagnosis.finding("login")["detail"].to_string();
        assert!(
            detail.contains(german) && !detail.contains(english),
            "the server has no German messages: {detail}"
        );
    }
    let limit = diagnose(&format!("{postgres}user = \"full_up\""));
    let statement = limit.finding("login")["statements"][0].to_string();
    assert!(statement.contains("rolconnlimit"), "{statement}");
}

/// SCRAM permits no control characters: the driver sends no such password.
#[test]
fn a_password_with_a_line_break_is_named_before_the_server() {
    let server = server("host all nobody 127.0.0.1/32 reject");
    let setup = Setup::new();
    setup.write("password", &format!("{SECRET}\n\n"));
    let config = pool(&setup, server.port(), "database = \"postgres\"");
    let diagnosis = setup.doctor(&config, &[]);
    diagnosis.assert_next("login", "password_not_permitted", &["line break"]);
}
