//! needs: postgresql, quiet
//!
//! Connections of callers that are cancelled inside a transaction, whose role is dropped, or whose
//! login is terminated.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod kind;

use std::future::pending;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use claviger::Credentials;
use claviger::error::ConnectErrorKind;
use claviger::lease::OldConnections;
use claviger::pool::{Check, PoolFactory};
use claviger::testing::ObservedPermits;
use claviger_diesel_async::diesel_async::{AsyncConnection, RunQueryDsl};
use claviger_diesel_async::tokio_postgres::Config;
use claviger_diesel_async::tokio_postgres::config::SslMode;
use claviger_diesel_async::{PgConnect, diesel};
use claviger_pool_laws::{Fixture, ONE, PATIENCE, PgKind, Settings};
use tokio::time::{sleep, timeout};

use kind::Diesel;

/// No call follows, which would find the transaction.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_transaction_closes_its_connection() {
    let fixture = Fixture::<Diesel>::new(OldConnections::Drain, Settings::of(2)).await;
    let open = "select count(*) from pg_stat_activity where usename = 'app' \
                and state like 'idle in transaction%'";
    let until_open = async |expected: &str| {
        let counted = async {
            while fixture.sql(open) != expected {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, counted).await.expect(expected);
    };
    let mut connection = fixture.pool.get().await.expect("a connection");
    let call = async move {
        let outcome = connection.transaction(async |connection| {
            diesel::sql_query("select 1").execute(connection).await?;
            pending::<Result<(), diesel::result::Error>>().await
        });
        outcome.await
    };
    tokio::select! {
        outcome = call => outcome.expect("it never ends"),
        () = until_open("1") => {}
    }
    until_open("0").await;
    let mut connection = fixture.pool.get().await.expect("a connection");
    assert_eq!(Diesel::value(&mut connection, ONE).await, Ok(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_finds_that_the_role_was_dropped() {
    let settings = Settings::of(1);
    let fixture = Fixture::<Diesel>::new(OldConnections::Drain, settings).await;
    let pools = Diesel::factory(fixture.connect(), settings);
    let mut connection = fixture.pool.get().await.expect("a connection");
    let pid = Diesel::value(&mut connection, "select pg_backend_pid()::bigint as value").await;
    let pid = pid.expect("a process");
    let working = pools.check_connection(&mut connection, Check::Probe).await;
    working.expect("the role exists");
    for sql in [
        "alter database orders owner to current_user",
        "drop role app",
    ] {
        fixture.sql(sql);
    }
    let pinged = pools.check_connection(&mut connection, Check::Ping).await;
    pinged.expect("the hazard: a ping does not find it");
    let probed = pools.check_connection(&mut connection, Check::Probe).await;
    let error = probed.expect_err("no such role");
    let kind = pools.classify_probe(&error).kind();
    assert_eq!(kind, ConnectErrorKind::Rejected, "{error:?}");
    // Waits until the process has ended.
    let terminate = format!("select pg_terminate_backend({pid}, 10000)");
    assert_eq!(fixture.sql(&terminate), "t");
    let probed = pools.check_connection(&mut connection, Check::Probe).await;
    let kind = pools.classify_probe(&probed.expect_err("closed")).kind();
    assert_eq!(kind, ConnectErrorKind::Unreachable);
}

/// Forwards one connection to the server. Instead of diesel's first statement, the server gets the
/// command to terminate the connection.
fn relay(fixture: Arc<Fixture<Diesel>>) -> u16 {
    const SET_UP: &[u8] = b"SET TIME ZONE";
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        let server = (fixture.server.host(), fixture.server.port());
        let mut server = TcpStream::connect(server).expect("a server");
        let mut from = server.try_clone().expect("its responses");
        let mut to = client.try_clone().expect("the client");
        thread::spawn(move || io::copy(&mut from, &mut to));
        let mut buffer = [0; 4_096];
        while let Ok(length @ 1..) = client.read(&mut buffer) {
            let request = buffer.get(..length).expect("what was read");
            if request.windows(SET_UP.len()).any(|text| text == SET_UP) {
                let terminate = "select pg_terminate_backend(pid, 10000) from pg_stat_activity \
                                 where usename = 'app'";
                assert_eq!(fixture.sql(terminate), "t", "the hazard");
            } else {
                server.write_all(request).expect("the server reads");
            }
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_terminated_while_diesel_sets_it_up_is_unreachable() {
    let settings = Settings::of(1);
    let fixture = Fixture::<Diesel>::new(OldConnections::Drain, settings).await;
    let mut config = Config::new();
    config
        .host("127.0.0.1")
        .port(relay(Arc::new(fixture)))
        .dbname("orders")
        .ssl_mode(SslMode::Disable);
    let pools = Diesel::factory(PgConnect::new(config), settings);
    let permits = ObservedPermits::new(|_| {});
    let credentials = Credentials::new("app", "password-1");
    let pool = pools.open(&credentials, permits.login_permits());
    let got = pools.get(&pool.expect("a pool")).await;
    let error = got.expect_err("the login is terminated");
    let kind = pools.classify(&error).kind();
    assert_eq!(kind, ConnectErrorKind::Unreachable, "{error:?}");
    assert!(
        error.to_string().contains("terminating connection"),
        "{error}"
    );
}
