//! Hosts and ports that cannot be reached, and a clock that differs.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::thread;
use std::time::Duration;

use claviger::lease::Timestamp;
use claviger_servers::Postgres;

use crate::common::{SECRET, Setup, pool};

/// Time after which a connection to a full backlog counts as dropped.
const DROPPED: Duration = Duration::from_millis(300);

/// Fills the backlog of a listener: the kernel then drops packets to it, as a firewall does.
fn fill(address: SocketAddr) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, DROPPED) {
        streams.push(stream);
    }
    streams
}

#[test]
fn a_dropping_firewall_a_closed_port_and_an_unknown_host_are_distinguished() {
    let setup = Setup::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let streams = fill(address);
    let config = pool(&setup, address.port(), "");
    setup
        .doctor(&config, &[])
        .assert_cause("tcp", "connect_timed_out");
    drop((streams, listener));
    setup
        .doctor(&config, &[])
        .assert_cause("tcp", "connection_refused");
    let unknown = config.replace("127.0.0.1", "absent.invalid");
    setup
        .doctor(&unknown, &[])
        .assert_cause("dns", "unknown_host");
}

/// The pools' drivers differ: sqlx waits for the first address, Redis' client tries all at once.
#[test]
fn an_address_that_drops_is_named_although_another_one_accepts() {
    let setup = Setup::new().with_resolver();
    let server = Postgres::start().expect("a server");
    server.create_role("app", SECRET).expect("a role");
    let config = |kind: &str| {
        let more = format!("kind = \"{kind}\"\ndatabase = \"postgres\"");
        pool(&setup, server.port(), &more).replace("127.0.0.1", "several.test")
    };
    // Nothing listens on the first address.
    let closed = setup.doctor(&config("postgres"), &[]);
    closed.assert_fine();
    let notes = closed.report.to_string();
    assert!(notes.contains("address_unreachable"), "{notes}");

    let listener = TcpListener::bind(("127.0.0.2", server.port())).expect("a port");
    let streams = fill(listener.local_addr().expect("an address"));
    let dropped = setup.doctor(&config("postgres"), &[]);
    dropped.assert_cause("tcp", "address_timed_out");
    let detail = dropped.finding("tcp")["detail"].to_string();
    assert!(detail.contains("127.0.0.2"), "{detail}");
    assert_eq!(dropped.logins(), (0, 0));
    // It tries the next address by itself, after 2 s.
    let next = setup.doctor(&config("deadpool-postgres"), &[]);
    next.assert_fine();
    let notes = next.report.to_string();
    assert!(notes.contains("address_timed_out"), "{notes}");
    drop(streams);
}

#[test]
fn a_socket_that_is_missing_or_without_a_server_is_named() {
    let setup = Setup::new();
    let server = Postgres::builder()
        .hba("local all app scram-sha-256")
        .start()
        .expect("a server");
    server.create_role("app", SECRET).expect("a role");
    let folder = server.socket_dir().display().to_string();
    let diagnose_with = |port: u16, more: &str| {
        let config = pool(&setup, port, &format!("database = \"postgres\"\n{more}"));
        setup.doctor(&config.replace("127.0.0.1", &folder), &[])
    };
    let diagnose = |port: u16| diagnose_with(port, "");
    for more in ["", "ssl_mode = \"prefer\"", "ssl_mode = \"disable\""] {
        let fine = diagnose_with(server.port(), more);
        fine.assert_fine();
        assert_eq!(fine.finding("tls")["detail"], "none over a Unix socket");
    }
    // The drivers request TLS, which PostgreSQL has at no socket.
    let tls = "kind = \"deadpool-postgres\"\nssl_mode = \"verify-full\"";
    for more in ["ssl_mode = \"require\"", tls] {
        let demanded = diagnose_with(server.port(), more);
        let message = demanded.report["problems"][0]["message"].to_string();
        assert!(message.contains("a Unix socket does not have"), "{message}");
    }
    let missing = diagnose(1);
    missing.assert_cause("tcp", "socket_missing");
    let detail = missing.finding("tcp")["detail"].to_string();
    assert!(detail.contains(".s.PGSQL.1 "), "{detail}");
    // A server that crashes leaves its socket.
    server.stop().expect("stopped");
    let socket = server
        .socket_dir()
        .join(format!(".s.PGSQL.{}", server.port()));
    drop(UnixListener::bind(socket).expect("a socket"));
    let ended = diagnose(server.port());
    ended.assert_cause("tcp", "connection_refused");
    let detail = ended.finding("tcp")["detail"].to_string();
    assert!(detail.contains(".s.PGSQL."), "{detail}");
}

#[test]
fn a_server_that_was_not_reached_is_not_tried_again_by_other_pools() {
    let setup = Setup::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let streams = fill(address);
    let pools: Vec<_> = (0..30)
        .map(|number| {
            let name = format!("pools.orders{number}");
            pool(&setup, address.port(), "").replace("pools.orders", &name)
        })
        .collect();
    let diagnosis = setup.doctor(&pools.concat(), &[]);
    diagnosis.assert_cause("tcp", "connect_timed_out");
    let connections = diagnosis.report["connections"].as_array().expect("a list");
    assert_eq!(connections.len(), 30);
    for later in &connections[1..] {
        let last = later["findings"].as_array().and_then(|all| all.last());
        let last = last.expect("a finding");
        assert_eq!(last["cause"], "connect_timed_out", "{later:#}");
        let detail = last["detail"].to_string();
        assert!(detail.contains("not tried again"), "{detail}");
    }
    drop(streams);
}

#[test]
fn a_resolver_that_does_not_respond_is_no_unknown_host() {
    let setup = Setup::new().with_resolver();
    let config = pool(&setup, 5432, "").replace("127.0.0.1", "unresolved.test");
    setup
        .doctor(&config, &[])
        .assert_cause("dns", "resolver_failed");
}

/// A balancer without a healthy target accepts connections, and closes them at once.
#[test]
fn a_balancer_without_a_server_is_named() {
    let setup = Setup::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || listener.incoming().for_each(drop));
    for (more, step) in [
        ("ssl_mode = \"prefer\"", "tls"),
        ("ssl_mode = \"disable\"", "login"),
        ("kind = \"mysql\"", "tls"),
        ("kind = \"redis\"", "login"),
    ] {
        let diagnosis = setup.doctor(&pool(&setup, port, more), &[]);
        diagnosis.assert_cause(step, "closed_at_once");
        let next = diagnosis.finding(step)["next"][0].to_string();
        assert!(next.contains("balancer"), "{more}: {next}");
    }
}

/// Returns the first message of a MySQL server, with these flags.
fn mysql_greeting(flags: u16) -> Vec<u8> {
    let mut body = b"\x0a8.0.0\0\x01\0\0\0abcdefgh\0".to_vec();
    body.extend((flags | 0x8200).to_le_bytes());
    // Character set, status, flags for plug-ins, length of the nonce.
    body.extend([45, 2, 0, 8, 0, 21]);
    body.extend([0; 10]);
    body.extend(b"abcdefghijkl\0mysql_native_password\0");
    let length = u8::try_from(body.len()).expect("short");
    [&[length, 0, 0, 0], &body[..]].concat()
}

/// Starts a server that responds and closes: with `is_first` on each connection, before its client
/// sends, otherwise once. Returns its port. It ends with the process.
fn closing_server(is_first: bool, response: Vec<u8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for (number, mut stream) in listener.incoming().flatten().enumerate() {
            let response = response.clone();
            // A connection may stay open while the next one logs in.
            thread::spawn(move || {
                if is_first {
                    let _ = stream.write_all(&response);
                }
                let _ = stream.read(&mut [0; 4_096]);
                if !is_first && number == 0 {
                    let _ = stream.write_all(&response);
                }
            });
        }
    });
    port
}

/// No server of the fixtures can be made to close so.
#[test]
fn a_server_that_responds_and_then_closes_is_no_balancer() {
    let setup = Setup::new();
    let postgres = ("ssl_mode = \"disable\"", "login", "login_closed");
    let parameter = b"SFATAL\0C0A000\0Mno option claviger.probe\0\0";
    let other_pooler = [b"E\0\0\0\x2d", &parameter[..]].concat();
    let begun = b"R\0\0\0\x08\0\0\0\0".to_vec();
    let mysql = "kind = \"mysql\"\nssl_mode = \"disable\"";
    let mysql_with_tls = "kind = \"mysql\"\nssl_mode = \"require\"";
    let redis = b"-NOAUTH Authentication required.\r\n".to_vec();
    for ((more, step, cause), is_first, response) in [
        (postgres, false, other_pooler),
        (postgres, false, begun),
        (
            ("ssl_mode = \"require\"", "tls", "handshake_failed"),
            false,
            b"S".to_vec(),
        ),
        ((mysql, "login", "login_closed"), true, mysql_greeting(0)),
        (
            (mysql_with_tls, "tls", "handshake_failed"),
            true,
            mysql_greeting(0x800),
        ),
        (("kind = \"redis\"", "login", "login_closed"), false, redis),
    ] {
        let port = closing_server(is_first, response);
        let diagnosis = setup.doctor(&pool(&setup, port, more), &[]);
        diagnosis.assert_cause(step, cause);
    }
}

/// The kernel accepts connections for a listener, which then sends nothing: as a server that hangs,
/// or a firewall that drops what follows.
#[test]
fn a_server_that_sends_nothing_is_named() {
    let setup = Setup::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    for (more, step) in [
        ("ssl_mode = \"require\"", "tls"),
        ("ssl_mode = \"disable\"", "login"),
        ("kind = \"mysql\"", "tls"),
    ] {
        let diagnosis = setup.doctor(&pool(&setup, port, more), &[]);
        diagnosis.assert_cause(step, "no_response");
        let next = diagnosis.finding(step)["next"].to_string();
        assert!(next.contains("firewall"), "{more}: {next}");
    }
}

#[test]
fn a_server_of_another_protocol_is_named() {
    let setup = Setup::new();
    let (address, _) = backend(Duration::ZERO);
    let config = pool(&setup, address.port(), "ssl_mode = \"require\"");
    setup
        .doctor(&config, &[])
        .assert_cause("tls", "other_protocol");
}

/// Starts an HTTP server whose clock is ahead by this time. It ends with the process.
fn backend(ahead: Duration) -> (SocketAddr, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let thread = thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            respond(stream, ahead);
        }
    });
    (address, thread)
}

fn respond(mut stream: TcpStream, ahead: Duration) {
    let _ = stream.read(&mut [0; 4_096]);
    let date = httpdate::fmt_http_date(Timestamp::now().wall() + ahead);
    let response = format!(
        "HTTP/1.1 404 Not Found\r\nDate: {date}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    let _ = stream.write_all(response.as_bytes());
}

#[test]
fn a_clock_that_is_off_by_20_minutes_is_named() {
    let setup = Setup::new();
    let database = Postgres::start().expect("a server");
    let (address, _) = backend(Duration::from_secs(20 * 60));
    for backend in [
        format!(
            "[aws]\nregion = \"eu-west-1\"\nendpoint_url = \"http://{address}\"\n\
             [providers.orders]\nkind = \"secrets-manager\"\nsecret = \"orders\"\n"
        ),
        format!(
            "[providers.orders]\nkind = \"vault-dynamic\"\nrole = \"orders\"\n[vaults.main]\n\
             address = \"http://{address}\"\n\
             auth = {{ kind = \"token\", token = \"file:{}\" }}\n",
            setup.path("password").display()
        ),
    ] {
        let config = format!(
            "[pools.orders]\nhost = \"127.0.0.1\"\nport = {}\nprovider = \"orders\"\n{backend}",
            database.port()
        );
        let diagnosis = setup.doctor(&config, &[]);
        diagnosis.assert_cause("clock", "clock_skew");
        let detail = diagnosis.finding("clock")["detail"].to_string();
        assert!(detail.contains("behind 127.0.0.1"), "{detail}");
        assert!(
            detail.contains("20m") || detail.contains("19m 5"),
            "{detail}"
        );
    }
}

#[test]
fn a_clock_that_differs_from_the_database_s_is_noted_without_any_backend() {
    let server = Postgres::start().expect("a server");
    server.create_role("app", SECRET).expect("a role");
    let setup = Setup::new().with_clock(-20 * 60);
    let config = pool(&setup, server.port(), "database = \"postgres\"");
    let diagnosis = setup.doctor(&config, &[]);
    diagnosis.assert_fine();
    let clock = diagnosis.finding("clock");
    assert_eq!(clock["cause"], "clock_skew", "{:#}", diagnosis.report);
    let detail = clock["detail"].to_string();
    assert!(detail.contains("behind the database"), "{detail}");
}
