//! Redis: users, databases, TLS, and servers of another kind than the pool's.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;

use claviger_servers::Redis;

use crate::common::{SECRET, Setup, WRONG, pool};

#[test]
fn causes_on_redis_are_named() {
    let server = Redis::builder().tls().start().expect("a server");
    server.set_user("app", SECRET).expect("a user");
    let setup = Setup::new();
    let own = server.ca_file().expect("it has TLS").display().to_string();
    let more = format!("kind = \"redis\"\nca_file = \"{own}\"");
    let config = pool(&setup, server.port(), &more);
    let client = format!("redis-cli -u \"$REDIS_URL\" --cacert {own} ACL WHOAMI 2>&1");
    let ours = setup.run(&config, &["exec", "--", "sh", "-c", &client]);
    assert!(ours.stdout.contains("app"), "{}", ours.stdout);
    assert!(!ours.stdout.contains("AUTH failed"), "{}", ours.stdout);
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
            // The response to the command before the login, then that to the login.
            for response in ["-NOAUTH Authentication required.\r\n", &response] {
                let _ = stream.read(&mut [0; 4_096]);
                let _ = stream.write_all(response.as_bytes());
            }
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

#[test]
fn wrong_databases_permissions_and_users_are_named() {
    let server = Redis::start().expect("a server");
    server.set_user("app", SECRET).expect("a user");
    let setup = Setup::new();
    let config = |more: &str| pool(&setup, server.port(), &format!("kind = \"redis\"\n{more}"));
    let fine = setup.doctor(&config("database = \"3\""), &[]);
    fine.assert_fine();
    assert_eq!(fine.finding("clock")["outcome"], "ok", "{:#}", fine.report);
    let out_of_range = setup.doctor(&config("database = \"99\""), &[]);
    out_of_range.assert_cause("login", "unknown_database");
    let standalone = config("").replace("\"redis\"", "\"redis-cluster\"");
    let standalone = setup.doctor(&standalone, &[]);
    standalone.assert_cause("role", "not_a_cluster");
    let missing = setup.doctor(&config("user = \"missing\""), &[]);
    missing.assert_cause("login", "password_rejected");

    server.set_rules("app", &["-ping"]).expect("set");
    let denied = setup.doctor(&config(""), &[]);
    denied.assert_cause("login", "connect_not_granted");
    let next = denied.finding("login")["next"][0].to_string();
    assert!(next.contains("ping"), "{next}");
    server.set_rules("app", &["+ping"]).expect("set");

    // Everybody is `default`, who has no password.
    let open = ["on", "nopass", "+@all", "~*"];
    server.set_rules("default", &open).expect("set");
    let open = setup.doctor(&config(""), &[]);
    open.assert_fine();
    let notes = open.report.to_string();
    assert!(notes.contains("login_not_required"), "{notes}");
}

#[test]
fn a_server_with_and_without_tls_is_not_mistaken_for_the_other() {
    let setup = Setup::new();
    let encrypted = Redis::builder().tls().start().expect("a server");
    encrypted.set_user("app", SECRET).expect("a user");
    let config = pool(&setup, encrypted.port(), "kind = \"redis\"");
    let plain = setup.doctor(&config, &[]);
    plain.assert_cause("tls", "server_expects_tls");
    assert_eq!(encrypted.rejected_logins_of("app").expect("counted"), 0);

    let unencrypted = Redis::start().expect("a server");
    unencrypted.set_user("app", SECRET).expect("a user");
    let more = "kind = \"redis\"\nssl_mode = \"verify-full\"";
    let tls = setup.doctor(&pool(&setup, unencrypted.port(), more), &[]);
    tls.assert_cause("tls", "server_without_tls");
}

#[test]
fn a_cluster_that_is_addressed_as_one_node_is_named() {
    let cluster = Redis::builder().start_cluster(3).expect("a cluster");
    cluster.set_user("app", SECRET).expect("a user");
    let setup = Setup::new();
    let port = cluster.nodes()[0].port();
    let config = pool(&setup, port, "kind = \"redis\"");
    let one_node = setup.doctor(&config, &[]);
    one_node.assert_cause("role", "cluster_addressed_as_one_node");
    let database = setup.doctor(&(config.clone() + "database = \"2\"\n"), &[]);
    database.assert_cause("login", "database_of_cluster");
    let right = config.replace("\"redis\"", "\"redis-cluster\"");
    setup.doctor(&right, &[]).assert_fine();
    // One node that serves all keys works as a single server does.
    let single = Redis::builder().cluster().start().expect("a cluster");
    single.set_user("app", SECRET).expect("a user");
    let single = pool(&setup, single.port(), "kind = \"redis\"");
    setup.doctor(&single, &[]).assert_fine();
}
