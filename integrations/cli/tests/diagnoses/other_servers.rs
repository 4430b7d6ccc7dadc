//! MariaDB.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::process::Stdio;

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

#[test]
fn an_account_that_needs_more_than_a_password_is_named() {
    let server = MariaDb::builder().tls().start().expect("a server");
    let ca = server.ca_file().expect("it has TLS").display().to_string();
    for sql in [
        format!("CREATE USER encrypted@'%' IDENTIFIED BY '{SECRET}' REQUIRE SSL"),
        format!("CREATE USER certified@'%' IDENTIFIED BY '{SECRET}' REQUIRE X509"),
        "CREATE USER local@'%' IDENTIFIED VIA unix_socket".to_owned(),
        format!("CREATE USER app@'%' IDENTIFIED BY '{SECRET}'"),
        "CREATE USER old@'%' IDENTIFIED VIA mysql_old_password USING '0123456789abcdef'".to_owned(),
    ] {
        server.sql(&sql).expect("done");
    }
    let setup = Setup::new();
    let tls = format!("ca_file = \"{ca}\"\n");
    let diagnose = |user: &str, more: &str| {
        let more = format!("kind = \"mysql\"\nuser = \"{user}\"\n{more}");
        setup.doctor(&pool(&setup, server.port(), &more), &[])
    };
    let plain = diagnose("encrypted", "ssl_mode = \"disable\"");
    plain.assert_next(
        "login",
        "password_rejected",
        &["requires TLS", "the password"],
    );
    let certified = diagnose("certified", &tls);
    let order = ["the password", "no account", "client certificate"];
    certified.assert_next("login", "password_rejected", &order);
    let local = diagnose("local", &tls);
    local.assert_next("login", "account_rejected", &["unix_socket", "no account"]);
    let old = diagnose("old", &tls);
    old.assert_next("login", "authentication_not_supported", &["plugin"]);
    // MariaDB returns the same number for a database that does not exist.
    let absent = diagnose("app", &format!("{tls}database = \"absent\""));
    let order = ["no privileges", "does not exist"];
    absent.assert_next("login", "connect_not_granted", &order);
    let statement = &absent.finding("login")["statements"][1];
    assert!(statement.to_string().contains("QUOTE(host)"), "{statement}");
}

#[test]
fn an_open_transaction_without_a_statement_delays_the_drain() {
    let server = MariaDb::start().expect("a server");
    server.create_role("app", SECRET).expect("a user");
    server.create_database("orders", "app").expect("a database");
    server
        .sql("CREATE TABLE orders.lines (id INT) ENGINE = InnoDB")
        .expect("a table");
    let setup = Setup::new();
    let config = pool(
        &setup,
        server.port(),
        "kind = \"mysql\"\ndatabase = \"orders\"",
    );
    // It keeps its transaction open until its input is closed.
    let client = "mysql -u \"$MYSQL_USER\" \"$MYSQL_DATABASE\" -Nn";
    let mut command = setup.command(&config, &["exec", "--", "sh", "-c", client]);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut running = command.spawn().expect("it runs");
    let mut input = running.stdin.take().expect("its input");
    let sql = b"START TRANSACTION; INSERT INTO `lines` VALUES (1); SELECT 'open';\n";
    input.write_all(sql).expect("sent");
    let mut line = String::new();
    let mut output = BufReader::new(running.stdout.take().expect("its output"));
    output.read_line(&mut line).expect("a line");
    assert_eq!(line, "open\n");

    let drain = || setup.report(&config, &["rehearse", "--json"]);
    let hidden = drain();
    hidden.assert_fine();
    let finding = hidden.finding("drain");
    assert_eq!(finding["cause"], "transactions_not_visible", "{finding}");
    assert!(finding["next"].to_string().contains("PROCESS"), "{finding}");
    server
        .sql("GRANT PROCESS ON *.* TO app@'%'")
        .expect("granted");
    let visible = drain();
    visible.assert_fine();
    let detail = visible.finding("drain")["detail"].to_string();
    assert!(detail.contains("1 running now"), "{detail}");
    drop(input);
    assert!(running.wait().expect("it ends").success());
}
