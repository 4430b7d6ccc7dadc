//! MariaDB and Redis.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;

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

/// A Redis without `AUTH` repeats the arguments that it received. The fixture cannot be such a
/// server, because its users need `AUTH`.
#[test]
fn a_server_that_repeats_the_password_does_not_get_it_printed() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let response =
        format!("-ERR unknown command 'AUTH', with args beginning with: 'app' '{SECRET}' \r\n");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4_096]);
            let _ = stream.write_all(response.as_bytes());
        }
    });
    let setup = Setup::new();
    let config = pool(&setup, port, "kind = \"redis\"");
    let diagnosis = setup.doctor(&config, &[]);
    diagnosis.assert_cause("login", "auth_unavailable");
    let detail = diagnosis.finding("login")["detail"].to_string();
    assert!(detail.contains("'app' '***'"), "{detail}");
    assert_eq!(setup.run(&config, &["doctor"]).code, Some(1));
}
