//! needs: postgresql, quiet
//!
//! Logins, TLS, verification and the kinds of errors on a real PostgreSQL.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use claviger::error::ConnectErrorKind;
use claviger::pool::Check;
use claviger::{Credentials, Endpoint, Lease, Revision};
use claviger_servers::Postgres;
use claviger_tokio_postgres::{
    CallError, OpenConnections, PgConnect, classify, classify_probe, find_postgres_error,
};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

const SECONDS: Duration = Duration::from_secs(10);

fn server() -> Postgres {
    let server = Postgres::builder().tls().start().expect("a server");
    server.create_role("app", "s3cret").expect("a role");
    server.create_database("orders", "app").expect("a database");
    server
}

fn config(server: &Postgres) -> Config {
    let mut config = Config::new();
    config
        .host(server.host())
        .port(server.port())
        .dbname("orders")
        .ssl_mode(SslMode::Require);
    config
}

fn connect(server: &Postgres) -> PgConnect {
    let roots = server.ca_file().expect("TLS");
    let connect = PgConnect::new(config(server)).with_root_certificates(roots);
    connect.expect("roots")
}

fn app() -> Credentials {
    Credentials::new("app", "s3cret")
}

fn lease(credentials: Credentials) -> Lease<Credentials> {
    Lease::new(credentials, Revision::new("1"))
}

#[tokio::test]
async fn a_login_uses_the_lease_and_tls() {
    let server = server();
    let connect = connect(&server);
    connect.check_lease(&lease(app())).expect("valid");
    connect.verify(&app()).await.expect("verified");
    let connections = OpenConnections::default();
    let opened = connect.connect_with(&app(), connections.begin()).await;
    let (client, _task) = opened.expect("a connection");
    let sql = "select current_user::text, ssl from pg_stat_ssl where pid = pg_backend_pid()";
    let row = client.query_one(sql, &[]).await.expect("a row");
    assert_eq!(row.get::<_, &str>(0), "app");
    assert!(row.get::<_, bool>(1), "TLS");
    for check in [Check::Ping, Check::Probe] {
        let checked = connect.check_connection(&client, check).await;
        checked.expect("it works");
    }
    assert_eq!(connections.count(), 1);
    drop(client);
    let closed = timeout(SECONDS, connections.all_closed()).await;
    closed.expect("closed");
}

#[tokio::test]
async fn a_server_without_tls_is_an_error_that_names_sslmode() {
    let server = Postgres::start().expect("a server");
    server.create_role("app", "s3cret").expect("a role");
    server.create_database("orders", "app").expect("a database");
    let error = PgConnect::new(config(&server)).verify(&app()).await;
    let error = error.expect_err("no TLS");
    assert_eq!(error.kind(), ConnectErrorKind::Misconfigured, "{error}");
    let text = error.to_string();
    for part in [
        "does not support TLS",
        "sslmode",
        "ssl = on",
        "SslMode::Prefer",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test]
async fn the_leases_endpoint_takes_precedence() {
    let server = server();
    let mut elsewhere = Config::new();
    elsewhere
        .host("nowhere.invalid")
        .host("elsewhere.invalid")
        .port(1)
        .dbname("none")
        .ssl_mode(SslMode::Require);
    let roots = server.ca_file().expect("TLS");
    let connect = PgConnect::new(elsewhere).with_root_certificates(roots);
    let connect = connect.expect("roots");
    let endpoint = Endpoint::new("localhost", server.port(), "orders");
    let credentials = app().with_endpoint(endpoint);
    connect.verify(&credentials).await.expect("verified");
    let name = format!("localhost:{}", server.port());
    assert_eq!(connect.server(&credentials), name);
    assert_eq!(connect.account(&credentials), format!("app@{name}"));
    assert_eq!(
        connect.server(&app()),
        "nowhere.invalid:1,elsewhere.invalid:1"
    );
}

#[tokio::test]
async fn a_rejected_login_is_not_repeated_at_the_next_address() {
    let server = server();
    let mut config = config(&server);
    // The same server twice, as a name with two addresses.
    config.host(server.host());
    let roots = server.ca_file().expect("TLS");
    let connect = PgConnect::new(config).with_root_certificates(roots);
    let connect = connect.expect("roots");
    let wrong = Credentials::new("app", "wrong");
    let error = connect.verify(&wrong).await.expect_err("wrong password");
    assert_eq!(error.kind(), ConnectErrorKind::Rejected);
    assert_eq!(error.code(), Some("28P01"));
    assert!(error.to_string().contains("user \"app\" at"), "{error}");
    assert!(find_postgres_error(&error).is_some(), "the original");
    let failed = server.log().rejected_logins_of("app").expect("a log");
    assert_eq!(failed, 1);
}

#[tokio::test]
async fn the_next_server_is_tried_if_one_is_unreachable() {
    let server = server();
    let mut config = Config::new();
    config
        .host("nowhere.invalid")
        .host(server.host())
        .port(server.port())
        .dbname("orders");
    let roots = server.ca_file().expect("TLS");
    let connect = PgConnect::new(config).with_root_certificates(roots);
    let verified = connect.expect("roots").verify(&app()).await;
    verified.expect("verified");
}

/// Returns a listener that ignores further connects, and the connections that fill its queue.
async fn ignoring_listener() -> (TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().expect("a socket");
    let any_port = "127.0.0.1:0".parse().expect("an address");
    socket.bind(any_port).expect("a port");
    let listener = socket.listen(1).expect("a listener");
    let address = listener.local_addr().expect("an address");
    let mut filling = Vec::new();
    let short = Duration::from_millis(500);
    while let Ok(connected) = timeout(short, TcpStream::connect(address)).await {
        filling.push(connected.expect("a connection"));
    }
    (listener, filling)
}

#[tokio::test]
async fn the_next_server_is_tried_if_one_ignores_connects() {
    let server = server();
    let (ignoring, _filling) = ignoring_listener().await;
    let mut config = Config::new();
    config
        .host("127.0.0.1")
        .host(server.host())
        .port(ignoring.local_addr().expect("an address").port())
        .port(server.port())
        .dbname("orders");
    let roots = server.ca_file().expect("TLS");
    let connect = PgConnect::new(config).with_root_certificates(roots);
    let connect = connect.expect("roots");
    // The supervisor's limit on a verification.
    let verified = timeout(Duration::from_secs(5), connect.verify(&app())).await;
    verified.expect("within the limit").expect("verified");
}

#[tokio::test]
async fn an_unverified_server_gets_no_password() {
    let server = server();
    let unrelated = server.unrelated_ca_file().expect("TLS");
    let pinned = PgConnect::new(config(&server)).with_root_certificates(unrelated);
    for connect in [pinned.expect("roots"), PgConnect::new(config(&server))] {
        let error = connect.verify(&app()).await.expect_err("untrusted");
        assert_eq!(error.kind(), ConnectErrorKind::Misconfigured, "{error}");
        assert!(error.to_string().contains("certificate"), "{error}");
    }
    let plain = Postgres::start().expect("a server");
    let connect = PgConnect::new(config(&plain));
    let error = connect.verify(&app()).await.expect_err("no TLS");
    assert_eq!(error.kind(), ConnectErrorKind::Misconfigured, "{error}");
}

#[tokio::test]
async fn errors_have_their_kind_and_sqlstate() {
    let server = server();
    let connect = connect(&server);
    let missing = Endpoint::of_host(server.host()).with_database("missing");
    let error = connect.verify(&app().with_endpoint(missing)).await;
    let error = error.expect_err("no database");
    assert_eq!(error.kind(), ConnectErrorKind::Misconfigured, "{error}");
    assert_eq!(error.code(), Some("3D000"));

    let probe = connect.clone().with_probe_sql("select 1 from pg_authid");
    let (client, _task) = probe.connect(&app()).await.expect("a connection");
    let error = probe.check_connection(&client, Check::Probe).await;
    let error = error.expect_err("no right");
    assert_eq!(classify(&error).kind(), ConnectErrorKind::Misconfigured);
    assert_eq!(classify_probe(&error).kind(), ConnectErrorKind::Rejected);
    let shared = CallError::from(error);
    assert_eq!(shared.code(), Some("42501"));
    assert!(shared.postgres_error().is_some());

    server.terminate_connections("app").expect("terminated");
    let ping = async {
        loop {
            if let Err(error) = client.batch_execute("").await {
                return error;
            }
        }
    };
    let error = timeout(SECONDS, ping).await.expect("it ends");
    assert_eq!(classify(&error).kind(), ConnectErrorKind::Unreachable);

    server.stop().expect("stopped");
    let error = connect.verify(&app()).await.expect_err("no server");
    assert_eq!(error.kind(), ConnectErrorKind::Unreachable, "{error}");
}

#[tokio::test]
async fn the_hook_runs_on_each_connection_and_in_verification() {
    let server = server();
    let connect = connect(&server).with_after_connect(|client| {
        Box::pin(async move { client.batch_execute("SET search_path = marked").await })
    });
    let (client, _task) = connect.connect(&app()).await.expect("a connection");
    let row = client.query_one("show search_path", &[]).await;
    assert_eq!(row.expect("a row").get::<_, &str>(0), "marked");
    let failing = connect.with_after_connect(|client| {
        Box::pin(async move { client.batch_execute("SET ROLE nobody").await })
    });
    let error = failing.verify(&app()).await.expect_err("the hook fails");
    assert_eq!(error.code(), Some("22023"), "{error}");
    assert!(failing.connect(&app()).await.is_err());
}

#[tokio::test]
async fn a_verification_finds_invalid_statements_of_the_settings() {
    let server = server();
    let connect = connect(&server);
    let hook = connect.clone().with_after_connect(|client| {
        Box::pin(async move { client.batch_execute("SELECT 1 FROM missing").await })
    });
    for (connect, setting, code) in [
        (
            connect.clone().with_check_sql("SELEC 1"),
            "check_sql",
            "42601",
        ),
        (
            connect.clone().with_probe_sql("SELECT f()"),
            "probe_sql",
            "42883",
        ),
        (hook, "after_connect", "42P01"),
    ] {
        let error = connect.verify(&app()).await.expect_err("invalid");
        assert_eq!(error.kind(), ConnectErrorKind::Misconfigured, "{error}");
        assert_eq!(error.code(), Some(code), "{error}");
        assert!(
            error.message().starts_with(&format!("{setting}: ")),
            "{error}"
        );
        assert!(error.to_string().contains("user \"app\""), "{error}");
    }
    let checked = connect.with_check_sql("DISCARD ALL");
    checked.verify(&app()).await.expect("a valid statement");
}

#[tokio::test]
async fn invalid_settings_are_errors_before_anything_connects() {
    let valid = || {
        let mut config = Config::new();
        config.host("db.internal").dbname("orders");
        config
    };
    let mut no_database = Config::new();
    no_database.host("db.internal");
    let mut no_host = Config::new();
    no_host.dbname("orders");
    let mut url = valid();
    url.host("postgres://u:p4ssword@h");
    let mut ports = valid();
    ports.port(1).port(2);
    let token = app().with_password_as_token();
    let in_socket = {
        let mut config = Config::new();
        config.host_path("/run/postgresql").dbname("orders");
        config
    };
    let elsewhere = app().with_endpoint(Endpoint::of_host("db.internal"));
    for (config, credentials, field) in [
        (no_database, app(), "database: "),
        (no_host, app(), "host: "),
        (url, app(), "host: "),
        (ports, app(), "port: "),
        (valid(), Credentials::new("", "p"), "user: "),
        (valid(), Credentials::new("app", ""), "password: "),
        (valid(), token.clone(), "ssl_mode: "),
        (in_socket, elsewhere, "socket: "),
    ] {
        let connect = PgConnect::new(config);
        let error = connect.check_lease(&lease(credentials));
        let error = error.expect_err(field);
        assert_eq!(error.kind(), ConnectErrorKind::Misconfigured);
        assert!(error.message().starts_with(field), "{field} {error}");
        assert!(!format!("{error} {connect:?}").contains("p4ssword"));
    }
    let in_clear = PgConnect::new(valid()).with_danger_tokens_without_verified_tls();
    in_clear.check_lease(&lease(token)).expect("allowed");
    for file in ["/nonexistent.pem", "/dev/null"] {
        let error = PgConnect::new(valid()).with_root_certificates(file);
        let error = error.expect_err(file);
        assert!(error.message().contains(file), "{error}");
    }
}

#[tokio::test]
async fn a_rejected_token_is_explained() {
    let server = server();
    let token = Credentials::new("app", "not-a-token").with_password_as_token();
    let connect = connect(&server);
    connect
        .check_lease(&lease(token.clone()))
        .expect("verified TLS");
    let error = connect.verify(&token).await.expect_err("rejected");
    let text = error.to_string();
    assert!(text.contains("check this machine's clock"), "{text}");
    assert!(!format!("{error:?} {text}").contains("not-a-token"));
}

/// Runs a server that requires `iterations` of SCRAM from each client.
async fn require_iterations(listener: TcpListener, iterations: u32) -> std::io::Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    loop {
        let (mut client, _) = listener.accept().await?;
        let length = client.read_u32().await?;
        let mut startup = vec![0; length as usize - 4];
        client.read_exact(&mut startup).await?;
        let mechanism = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0";
        client.write_all(mechanism).await?;
        client.read_u8().await?;
        let length = client.read_u32().await?;
        let mut first = vec![0; length as usize - 4];
        client.read_exact(&mut first).await?;
        let first = String::from_utf8_lossy(&first).into_owned();
        let nonce = first.rsplit("r=").next().unwrap_or_default();
        let challenge = format!("r={nonce}x,s=c2FsdHNhbHRzYWx0,i={iterations}");
        client.write_u8(b'R').await?;
        client.write_u32(8 + challenge.len() as u32).await?;
        client.write_u32(11).await?;
        client.write_all(challenge.as_bytes()).await?;
        // Ends when the client closes the connection.
        let _ = client.read_to_end(&mut Vec::new()).await;
    }
}

#[tokio::test]
async fn a_hostile_server_blocks_no_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let mut config = Config::new();
    config.host("127.0.0.1").port(port).dbname("orders");
    config.ssl_mode(SslMode::Disable);
    tokio::spawn(require_iterations(listener, u32::MAX));
    let connect = PgConnect::new(config);
    let verified = timeout(SECONDS, connect.verify(&app())).await;
    let error = verified.expect("an error at once").expect_err("hostile");
    assert!(error.to_string().contains("iteration count"), "{error}");
    assert!(
        !matches!(error.kind(), ConnectErrorKind::Rejected),
        "{error}"
    );
}
