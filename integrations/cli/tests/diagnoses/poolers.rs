//! PgBouncer in front of the database.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use claviger_servers::pgbouncer::Users;
use claviger_servers::{PgBouncer, Postgres};

use crate::common::{SECRET, Setup, WRONG, pool};

#[test]
fn pgbouncer_is_named_and_its_list_of_users_is_distinguished_from_the_database() {
    let server = Postgres::start().expect("a server");
    server.create_role("app", SECRET).expect("a role");
    let setup = Setup::new();
    let diagnose = |users: &[(&str, &str)]| {
        let users = users
            .iter()
            .map(|(user, password)| ((*user).to_owned(), (*password).to_owned()))
            .collect();
        let pooler = PgBouncer::builder(Users::File(users)).start(&server);
        let pooler = pooler.expect("a pooler");
        let config = pool(&setup, pooler.port(), "database = \"postgres\"");
        setup.doctor(&config, &[])
    };
    let fine = diagnose(&[("app", SECRET)]);
    fine.assert_fine();
    assert_eq!(fine.finding("pooler")["cause"], "pgbouncer");

    let other = diagnose(&[("app", WRONG)]);
    other.assert_cause("login", "rejected_by_pgbouncer");
    let missing = diagnose(&[("someone", SECRET)]);
    missing.assert_cause("login", "rejected_by_pgbouncer");
    assert!(
        missing.finding("login")["next"][0]
            .to_string()
            .contains("auth_file")
    );

    // The database rejects what PgBouncer accepts.
    let users = Users::File(vec![("app".to_owned(), SECRET.to_owned())]);
    let pooler = PgBouncer::builder(users).start(&server).expect("a pooler");
    let absent = pool(&setup, pooler.port(), "database = \"absent\"");
    let absent = setup.doctor(&absent, &[]);
    absent.assert_cause("login", "unknown_database");

    // PgBouncer accepts the password, and the database rejects PgBouncer's.
    server.set_password("app", "changed").expect("changed");
    let behind = diagnose(&[("app", SECRET)]);
    assert_eq!(behind.run.code, Some(1), "{:#}", behind.report);
    assert_eq!(behind.finding("pooler")["cause"], "pgbouncer");
    let login = behind.finding("login");
    assert_eq!(login["cause"], "pgbouncer_login_failed", "{login:#}");
}

#[test]
fn a_rejection_by_pgbouncer_is_not_carried_to_another_database() {
    let server = Postgres::start().expect("a server");
    let setup = Setup::new();
    let users = Users::File(vec![("someone".to_owned(), SECRET.to_owned())]);
    let pooler = PgBouncer::builder(users).start(&server).expect("a pooler");
    let config = |name: &str, database: &str| {
        let config = pool(&setup, pooler.port(), &format!("database = \"{database}\""));
        config.replace("pools.orders", &format!("pools.{name}"))
    };
    let pools = config("one", "a") + &config("two", "b") + &config("three", "b");
    let diagnosis = setup.doctor(&pools, &[]);
    diagnosis.assert_cause("login", "rejected_by_pgbouncer");
    assert_eq!(diagnosis.logins(), (2, 2), "{:#}", diagnosis.report);
}

#[test]
fn settings_of_pgbouncer_that_end_a_login_are_named() {
    let server = Postgres::start().expect("a server");
    server.create_role("app", SECRET).expect("a role");
    let setup = Setup::new();
    let start = |name: &str, value: &str| {
        let users = Users::File(vec![("app".to_owned(), SECRET.to_owned())]);
        let pooler = PgBouncer::builder(users).setting(name, value);
        pooler.start(&server).expect("a pooler")
    };
    let config = |pooler: &PgBouncer| pool(&setup, pooler.port(), "database = \"postgres\"");
    let pooler = start("ignore_startup_parameters", "");
    let parameter = setup.doctor(&config(&pooler), &[]);
    parameter.assert_cause("login", "startup_parameter_rejected");

    let pooler = start("max_client_conn", "1");
    let statements = ["-c", "SELECT 'taken'", "-c", "SELECT pg_sleep(600)"];
    let arguments = [&["exec", "--", "psql", "-At"][..], &statements].concat();
    let mut command = setup.command(&config(&pooler), &arguments);
    let mut taken = command.stdout(Stdio::piped()).spawn().expect("psql runs");
    let mut output = BufReader::new(taken.stdout.take().expect("its output"));
    let mut line = String::new();
    output.read_line(&mut line).expect("a line");
    assert_eq!(line, "taken\n");
    let full = setup.doctor(&config(&pooler), &[]);
    full.assert_cause("login", "too_many_connections");
    let next = full.finding("login")["next"][0].to_string();
    assert!(next.contains("max_client_conn"), "{next}");
    server.terminate_connections("app").expect("terminated");
    taken.wait().expect("it ends");
}

#[test]
fn a_database_that_is_down_behind_pgbouncer_is_named() {
    let server = Postgres::start().expect("a server");
    server.create_role("app", SECRET).expect("a role");
    let setup = Setup::new();
    let users = Users::File(vec![("app".to_owned(), SECRET.to_owned())]);
    let pooler = PgBouncer::builder(users).start(&server).expect("a pooler");
    server.stop().expect("stopped");
    let config = pool(&setup, pooler.port(), "database = \"postgres\"");
    let down = setup.doctor(&config, &[]);
    down.assert_cause("login", "pgbouncer_cannot_connect");
}
