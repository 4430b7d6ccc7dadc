//! MariaDB.

use std::net::TcpStream;

use claviger_servers::MariaDb;

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
    // Its client has no variable for the user.
    let client = "mysql -u \"$MYSQL_USER\" --ssl \"$MYSQL_DATABASE\" -Ne 'SELECT current_user()'";
    let ours = config("orders", &own).replace("127.0.0.1", "localhost");
    let ours = setup.run(&ours, &["exec", "--", "sh", "-c", client]);
    assert!(
        ours.stdout.starts_with("app@"),
        "{}{}",
        ours.stdout,
        ours.stderr
    );
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
fn errors_before_a_login_are_named_by_their_numbers() {
    let server = MariaDb::builder()
        .tls()
        .setting("max_connections", "10")
        .setting("connect_timeout", "600")
        .start()
        .expect("a server");
    let setup = Setup::new();
    let ca = server.ca_file().expect("it has TLS").display().to_string();
    let tls = format!("kind = \"mysql\"\nca_file = \"{ca}\"");
    let plain = "kind = \"mysql\"\nssl_mode = \"disable\"".to_owned();
    let assert_cause = |cause: &str, word: &str| {
        for more in [&tls, &plain] {
            let diagnosis = setup.doctor(&pool(&setup, server.port(), more), &[]);
            diagnosis.assert_cause("login", cause);
            let finding = diagnosis.finding("login").to_string();
            assert!(finding.contains(word), "{finding}");
            assert_eq!(diagnosis.logins(), (0, 0), "{finding}");
        }
    };
    // No account may connect from this machine.
    server
        .sql("DELETE FROM mysql.global_priv WHERE Host NOT IN ('localhost'); FLUSH PRIVILEGES")
        .expect("deleted");
    assert_cause("host_not_allowed", "1130");
    server.create_role("app", SECRET).expect("a user");
    // Connections count before their login. One more is reserved for administrators.
    let held: Vec<_> = (0..11)
        .map(|_| TcpStream::connect(("127.0.0.1", server.port())).expect("connected"))
        .collect();
    assert_cause("too_many_connections", "1040");
    drop(held);
}

#[test]
fn an_expired_password_is_named_although_the_login_works() {
    let server = MariaDb::start().expect("a server");
    server.create_role("app", SECRET).expect("a user");
    server.expire_password("app").expect("expired");
    let setup = Setup::new();
    let diagnosis = setup.doctor(&pool(&setup, server.port(), "kind = \"mysql\""), &[]);
    diagnosis.assert_cause("login", "password_expired");
}
