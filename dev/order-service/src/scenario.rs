//! The test of the example services. Each takes orders while its password changes, and then shuts
//! down cleanly.

#![expect(clippy::expect_used, reason = "a failing service fails its test")]

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;

use claviger::report::ShutdownReport;
use claviger_servers::Postgres;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::block_in_place;

use crate::{Problem, Stop};

/// Takes an order. Returns the body of the response.
async fn order(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).await.expect("it accepts");
    let sent = stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await;
    sent.expect("sent");
    let mut response = String::new();
    let read = stream.read_to_string(&mut response).await;
    read.expect("a response");
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    let (_, body) = response.split_once("\r\n\r\n").expect("a body");
    body.trim().to_owned()
}

/// Runs a service as [`run`](crate::run) does. Needs PostgreSQL.
pub async fn orders_succeed_while_the_password_changes<S>(
    serve: impl FnOnce(String, PathBuf, TcpListener, Stop) -> S,
) where
    S: Future<Output = Result<ShutdownReport, Problem>> + Send + 'static,
{
    let server = Postgres::start().expect("a server");
    server.create_role("app", "password-1").expect("a role");
    server.create_database("orders", "app").expect("a database");
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("written");
    };
    write("username", "app");
    write("password", "password-1");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (stop, stopped) = oneshot::channel::<()>();
    let config = format!(
        "host={} port={} dbname=orders",
        server.host(),
        server.port()
    );
    let stopped = Box::pin(async { drop(stopped.await) });
    let running = tokio::spawn(serve(config, folder.path().to_owned(), listener, stopped));
    let until_closed =
        || block_in_place(|| while server.connection_count("app").expect("a count") > 0 {});

    assert_eq!(order(address).await, "order 1, generation 1");
    server.set_password("app", "password-2").expect("changed");
    write("password", "password-2");
    let mut orders = 1;
    // Every order succeeds until the service has adopted the password, and afterwards.
    while !order(address).await.ends_with("generation 2") {
        orders += 1;
        assert!(orders < 100_000, "the new password is not adopted");
    }
    let terminated = server.terminate_connections("app").expect("terminated");
    assert!(terminated > 0, "the hazard: its connections are killed");
    until_closed();
    order(address).await;

    stop.send(()).expect("it runs");
    let report = running.await.expect("no panic").expect("it ends");
    assert!(report.clean, "{report:?}");
    until_closed();
}
