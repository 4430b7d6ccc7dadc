//! MariaDB and Redis.

use claviger_servers::{MariaDb, Redis};

use crate::common::{SECRET, Setup, WRONG, pool};

#[test]
fn causes_on_mariadb_are_named() {
    let server = MariaDb::builder().tls().start().expect("a server");
    server.create_role("app", SECRET).expect("a user");
    server.create_database("orders", "app").expect("a database");
    let setup = Setup::new();
    let own = server.ca_file().expect("it has TLS").display().to_string();
    let unrelated = server.unrelated_ca_file().expect("it has TLS");
    let unrelated = unrelated.display().to_string();
    let config = |database: &str, ca: &str| {
        let more = format!("kind = \"mysql\"\ndatabase = \"{database}\"\nca_file = \"{ca}\"");
        pool(&setup, server.port(), &more)
    };
    let fine = setup.doctor(&config("orders", &own), &[]);
    fine.assert_fine();
    assert_eq!(fine.finding("tls")["outcome"], "ok");
    assert_eq!(fine.finding("capacity")["outcome"], "ok");
    let other = setup.doctor(&config("orders", &unrelated), &[]);
    other.assert_cause("tls", "unknown_authority");
    let denied = setup.doctor(&config("mysql", &own), &[]);
    denied.assert_cause("login", "connect_not_granted");
    setup.write("password", WRONG);
    let wrong = setup.doctor(&config("orders", &own), &[]);
    wrong.assert_cause("login", "password_rejected");
    assert_eq!(wrong.logins(), (1, 1));
}

#[test]
fn causes_on_redis_are_named() {
    let server = Redis::builder().tls().start().expect("a server");
    server.set_user("app", SECRET).expect("a user");
    let setup = Setup::new();
    let own = server.ca_file().expect("it has TLS").display().to_string();
    let more = format!("kind = \"redis\"\nca_file = \"{own}\"");
    let config = pool(&setup, server.port(), &more);
    let fine = setup.doctor(&config, &[]);
    fine.assert_fine();
    assert_eq!(fine.finding("tls")["outcome"], "ok");
    setup.write("password", WRONG);
    let wrong = setup.doctor(&config, &[]);
    wrong.assert_cause("login", "password_rejected");
    assert_eq!(server.rejected_logins_of("app").expect("counted"), 1);
}
