//! PgBouncer in front of the database.

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

    // PgBouncer accepts the password, and the database rejects PgBouncer's.
    server.set_password("app", "changed").expect("changed");
    let behind = diagnose(&[("app", SECRET)]);
    assert_eq!(behind.run.code, Some(1), "{:#}", behind.report);
    assert_eq!(behind.finding("pooler")["cause"], "pgbouncer");
    let login = behind.finding("login");
    assert!(login.to_string().contains("password"), "{login:#}");
}
