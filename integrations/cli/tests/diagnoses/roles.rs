//! Roles, databases, passwords and limits of PostgreSQL.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use claviger_servers::Postgres;

use crate::common::{SECRET, Setup, WRONG, admin_url, pool};

fn server() -> Postgres {
    let server = Postgres::start().expect("a server");
    server.create_role("app", SECRET).expect("a role");
    server.create_database("orders", "app").expect("a database");
    server
}

#[test]
fn a_right_set_up_is_fine_and_costs_one_login() {
    let (server, setup) = (server(), Setup::new());
    let diagnosis = setup.doctor(&pool(&setup, server.port(), "database = \"orders\""), &[]);
    diagnosis.assert_fine();
    assert_eq!(diagnosis.logins(), (1, 0));
    assert_eq!(diagnosis.finding("capacity")["outcome"], "ok");
    let table = setup.run(
        &pool(&setup, server.port(), "database = \"orders\""),
        &["doctor"],
    );
    let longest = table.stdout.lines().map(|line| line.chars().count()).max();
    assert!(longest <= Some(80), "{}", table.stdout);
    assert!(table.stdout.contains("login      ok"), "{}", table.stdout);
}

#[test]
fn a_rejected_login_is_not_repeated_by_pools_with_the_same_credentials() {
    let (server, setup) = (server(), Setup::new());
    setup.write("password", WRONG);
    let config = pool(&setup, server.port(), "database = \"orders\"")
        + &pool(&setup, server.port(), "database = \"postgres\"")
            .replace("pools.orders", "pools.reports");
    let diagnosis = setup.doctor(&config, &[]);
    diagnosis.assert_cause("login", "password_rejected");
    assert_eq!(diagnosis.logins(), (1, 1), "{:#}", diagnosis.report);
    assert_eq!(server.log().rejected_logins_of("app").expect("the log"), 1);
    let table = setup.run(&config, &["doctor"]).stdout;
    assert!(
        table.contains("2 connections, 2 with a problem; 1 login, 1 failed"),
        "{table}"
    );
    assert_eq!(server.log().rejected_logins_of("app").expect("the log"), 2);
}

#[test]
fn each_wrong_password_role_or_database_is_named() {
    let (server, setup) = (server(), Setup::new());
    let sql = |sql: &str| drop(server.sql(sql).expect("it runs"));
    sql(&format!("CREATE ROLE sleeper NOLOGIN PASSWORD '{SECRET}'"));
    sql(&format!(
        "CREATE ROLE full_up LOGIN CONNECTION LIMIT 0 PASSWORD '{SECRET}'"
    ));
    sql(&format!(
        "CREATE ROLE few LOGIN CONNECTION LIMIT 3 PASSWORD '{SECRET}'"
    ));
    sql(&format!(
        "CREATE ROLE old LOGIN PASSWORD '{SECRET}' VALID UNTIL '2020-01-01'"
    ));
    sql(&format!(
        "CREATE ROLE other LOGIN PASSWORD '{SECRET}-other'"
    ));
    sql("CREATE DATABASE closed");
    sql("REVOKE CONNECT ON DATABASE closed FROM public");
    let admin = admin_url(&server);
    // What the login shows, and what the catalog adds.
    for (more, step, cause, by_admin) in [
        (
            "user = \"missing\"",
            "login",
            "password_rejected",
            "no_such_role",
        ),
        (
            "user = \"other\"",
            "login",
            "password_rejected",
            "password_rejected",
        ),
        (
            "user = \"old\"",
            "login",
            "password_rejected",
            "role_expired",
        ),
        (
            "user = \"sleeper\"",
            "login",
            "role_may_not_log_in",
            "role_may_not_log_in",
        ),
        (
            "user = \"full_up\"",
            "login",
            "too_many_connections",
            "too_many_connections",
        ),
        (
            "user = \"few\"",
            "capacity",
            "pool_over_limit",
            "pool_over_limit",
        ),
        (
            "database = \"absent\"",
            "login",
            "unknown_database",
            "unknown_database",
        ),
        (
            "database = \"closed\"",
            "login",
            "connect_not_granted",
            "connect_not_granted",
        ),
        (
            "max_connections = 500",
            "capacity",
            "pool_over_limit",
            "pool_over_limit",
        ),
        (
            "ssl_mode = \"require\"",
            "tls",
            "server_without_tls",
            "server_without_tls",
        ),
    ] {
        let database = if more.contains("database") {
            ""
        } else {
            "\ndatabase = \"postgres\""
        };
        let config = pool(&setup, server.port(), &format!("{more}{database}"));
        let alone = setup.doctor(&config, &[]);
        alone.assert_cause(step, cause);
        assert!(alone.logins().1 <= 1, "{:#}", alone.report);
        let with_admin = setup.doctor(&config, &["--admin-url", &admin]);
        assert_eq!(
            with_admin.cause().1,
            by_admin,
            "{more}: {:#}",
            with_admin.report
        );
    }
    // A role of the catalog that is right leaves the password.
    let config = pool(
        &setup,
        server.port(),
        "user = \"other\"\ndatabase = \"postgres\"",
    );
    let diagnosis = setup.doctor(&config, &["--admin-url", &admin]);
    assert_eq!(diagnosis.finding("role")["cause"], "role_is_right");
    // The administrator's own failure is reported, without the URL.
    let wrong = admin.replace("auditor:", "auditor:not-");
    let diagnosis = setup.doctor(&config, &["--admin-url", &wrong]);
    assert_eq!(diagnosis.finding("role")["cause"], "catalog_not_read");
}

#[test]
fn white_space_of_a_rejected_password_is_the_first_cause() {
    let (server, setup) = (server(), Setup::new());
    setup.write("password", &format!("{SECRET} "));
    let config = pool(&setup, server.port(), "database = \"orders\"");
    let alone = setup.doctor(&config, &[]);
    let order = ["white space at an end", "is not the role's"];
    alone.assert_next("login", "password_rejected", &order);
    let admin = setup.doctor(&config, &["--admin-url", &admin_url(&server)]);
    let next = admin.next("role");
    assert!(next[0].contains("white space at an end"), "{next:?}");
    // Without it, there is nothing to compare with.
    setup.write("password", WRONG);
    let wrong = setup.doctor(&config, &[]);
    wrong.assert_next("login", "password_rejected", &["is not the role's"]);
}

#[test]
fn a_server_without_a_free_connection_is_named() {
    let server = Postgres::builder()
        .setting("max_connections", "11")
        .setting("superuser_reserved_connections", "10")
        .setting("max_wal_senders", "0")
        .start()
        .expect("a server");
    server.create_role("app", SECRET).expect("a role");
    let setup = Setup::new();
    let config = pool(&setup, server.port(), "database = \"postgres\"");
    // A waiting statement takes the only connection that ordinary users may open.
    let statements = ["-c", "SELECT 'taken'", "-c", "SELECT pg_sleep(600)"];
    let mut arguments = vec!["exec", "--", "psql", "-At"];
    arguments.extend(statements);
    let mut command = setup.command(&config, &arguments);
    let mut taken = command.stdout(Stdio::piped()).spawn().expect("psql runs");
    let output = taken.stdout.take().expect("its output");
    let mut line = String::new();
    let mut output = BufReader::new(output);
    output.read_line(&mut line).expect("a line");
    assert_eq!(line, "taken\n");
    setup
        .doctor(&config, &[])
        .assert_cause("login", "too_many_connections");
    server.terminate_connections("app").expect("terminated");
    taken.wait().expect("it ends");
}

#[test]
fn the_catalog_of_another_server_is_not_consulted() {
    let (one, other, setup) = (server(), Postgres::start(), Setup::new());
    let other = other.expect("a server");
    other.create_role("elsewhere", SECRET).expect("a role");
    let more = "user = \"elsewhere\"\ndatabase = \"postgres\"";
    let config = pool(&setup, other.port(), more);
    let admin = admin_url(&one);
    let fine = setup.doctor(&config, &["--admin-url", &admin]);
    fine.assert_fine();
    assert_eq!(fine.finding("role")["cause"], "catalog_of_another_server");
    // By another name, it is the same server.
    let named = admin_url(&other).replace("127.0.0.1", "localhost");
    let named = setup.doctor(&config, &["--admin-url", &named]);
    assert_eq!(named.finding("role")["outcome"], "ok", "{:#}", named.report);
}

#[test]
fn pools_that_together_exceed_the_server_are_named() {
    let (server, setup) = (server(), Setup::new());
    let config = |name: &str, size: u32| {
        let more = format!("database = \"orders\"\nmax_connections = {size}");
        pool(&setup, server.port(), &more).replace("pools.orders", &format!("pools.{name}"))
    };
    let fine = setup.doctor(&(config("a", 30) + &config("b", 30)), &[]);
    fine.assert_fine();
    let over = setup.doctor(&(config("a", 120) + &config("b", 120)), &[]);
    assert_eq!(over.run.code, Some(1), "{:#}", over.report);
    let findings = over.report["connections"][1]["findings"].to_string();
    for part in ["pools_over_limit", "the pools a, b together need 240"] {
        assert!(findings.contains(part), "{findings}");
    }
}

#[test]
fn a_password_that_is_the_name_of_the_user_is_a_note_and_is_not_shown() {
    let (server, setup) = (server(), Setup::new());
    let name = "kestrel_and_sparrow";
    server.create_role(name, name).expect("a role");
    server.create_database(name, name).expect("a database");
    setup.write("password", name);
    let config = pool(&setup, server.port(), &format!("user = \"{name}\""));
    let fine = setup.doctor(&config, &[]);
    fine.assert_fine();
    let target = format!("***@127.0.0.1:{}", server.port());
    assert_eq!(fine.report["connections"][0]["target"], target);
    assert!(fine.report.to_string().contains("user_is_password"));
    // No text has it, neither the server's nor one of the catalog.
    server.set_password(name, "changed").expect("changed");
    let admin = admin_url(&server);
    let rejected = setup.doctor(&config, &["--admin-url", &admin]);
    rejected.assert_cause("login", "password_rejected");
    server
        .sql(&format!("ALTER ROLE {name} NOLOGIN PASSWORD '{name}'"))
        .expect("changed");
    setup
        .doctor(&config, &["--admin-url", &admin])
        .assert_cause("role", "role_may_not_log_in");
}

#[test]
fn a_password_file_that_is_missing_or_empty_is_named() {
    let (server, setup) = (server(), Setup::new());
    let config = pool(&setup, server.port(), "");
    setup.write("password", "\n");
    setup
        .doctor(&config, &[])
        .assert_cause("secret", "malformed_secret");
    let by_provider = format!(
        "[pools.orders]\nhost = \"127.0.0.1\"\nport = {}\nprovider = \"a\"\n[providers.a]\n\
         kind = \"static\"\nuser = \"app\"\npassword = \"file:{}\"\n",
        server.port(),
        setup.path("password").display()
    );
    let empty = setup.doctor(&by_provider, &[]);
    empty.assert_cause("settings", "invalid_settings");
    let detail = empty.finding("settings")["detail"].to_string();
    assert!(
        detail.contains("providers.a.password") && detail.contains("is empty"),
        "{detail}"
    );
    for config in [&config, &by_provider] {
        let check = setup.run(config, &["check"]);
        assert_eq!(check.code, Some(1), "{}", check.stdout);
        assert!(check.stderr.contains("is empty; check"), "{}", check.stderr);
    }
    std::fs::remove_file(setup.path("password")).expect("removed");
    let missing = setup.doctor(&config, &[]);
    assert_eq!(missing.run.code, Some(1), "{:#}", missing.report);
    assert!(
        missing.report.to_string().contains("password"),
        "{:#}",
        missing.report
    );
    // A directory cannot be read, not even by root.
    std::fs::create_dir(setup.path("password")).expect("a directory");
    let unreadable = setup.doctor(&config, &[]);
    assert_eq!(unreadable.run.code, Some(1), "{:#}", unreadable.report);
    assert_eq!(server.log().rejected_logins_of("app").expect("the log"), 0);
}
