//! A server that demands excessive SCRAM iterations blocks only the verification.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use claviger::PgPools;
use claviger::events::Event;
use claviger_testkit::{Lab, ScriptedProvider};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};

/// Builds a message: type, length, body.
fn message(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [b"R".as_slice(), &length.to_be_bytes(), body].concat()
}

fn read_block(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    client.read_exact(&mut length)?;
    let mut body = vec![0; (u32::from_be_bytes(length) as usize).saturating_sub(4)];
    client.read_exact(&mut body)?;
    Ok(body)
}

/// Demands four billion iterations from a client that logs in.
fn demand(client: &mut TcpStream) -> io::Result<()> {
    read_block(client)?;
    client.write_all(&message(b"\0\0\0\x0aSCRAM-SHA-256\0\0"))?;
    client.read_exact(&mut [0])?;
    let first = read_block(client)?;
    let first = String::from_utf8_lossy(&first).into_owned();
    let nonce = first.rsplit("r=").next().unwrap_or_default();
    let demand = format!("r={nonce}x,s=c2FsdHNhbHRzYWx0,i={}", u32::MAX);
    client.write_all(&message(&[b"\0\0\0\x0b", demand.as_bytes()].concat()))
}

fn hostile_server() -> (u16, mpsc::Receiver<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (demanded, clients) = mpsc::channel();
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            if demand(&mut client).is_ok() && demanded.send(client).is_err() {
                return;
            }
        }
    });
    (port, clients)
}

/// On one thread, 40 ticks of 50 ms pass after the server's demand, and the verification ends at
/// its deadline.
async fn run_ticks(port: u16, clients: mpsc::Receiver<TcpStream>) {
    let lab = Lab::with_builder(
        claviger::Supervisor::builder().with_verify_deadline(Duration::from_secs(1)),
    )
    .expect("the durations are right");
    let credentials = lab.add_provider("login", ScriptedProvider::new()).await;
    let mut events = lab.supervisor.events();
    let connect = PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(port)
        .database("orders")
        .ssl_mode(PgSslMode::Disable);
    let pool = {
        let (supervisor, credentials) = (lab.supervisor.clone(), credentials.clone());
        tokio::spawn(async move {
            supervisor
                .add_pool(
                    "orders",
                    &credentials,
                    PgPools::new(connect, PgPoolOptions::new()),
                )
                .await
                .map(drop)
        })
    };
    let mut demanded = Vec::new();
    while demanded.is_empty() {
        demanded.extend(clients.try_iter());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    for _ in 0..40 {
        ticks.tick().await;
    }
    let failed = loop {
        if let Some(Event::VerificationFailed { error, .. }) = events.next().await {
            break error;
        }
    };
    assert!(failed.message().contains("within 1s"), "{failed}");
    pool.abort();
}

#[test]
fn a_hostile_server_s_scram_iterations_do_not_block_the_runtime() {
    let (port, clients) = hostile_server();
    let (done, over) = mpsc::channel();
    // Dropping a blocked runtime would hang.
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(run_ticks(port, clients));
        runtime.shutdown_background();
        let _ = done.send(());
    });
    over.recv_timeout(Duration::from_secs(30))
        .expect("the runtime is not frozen");
}
