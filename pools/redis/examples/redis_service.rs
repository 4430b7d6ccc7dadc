//! A service that counts visits in Redis, while the password of its user changes. Run it with
//! `cargo run -p claviger-redis --example redis_service`; needs `redis-server`, or
//! `cargo xtask install redis`.
//!
//! It responds to HTTP at a port of 127.0.0.1. Eight clients request pages, the password changes
//! five times, and the server closes the connection once. At the end it prints how many requests
//! failed, and how many connections it took.

#![expect(clippy::print_stdout, reason = "an example prints its results")]

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use claviger::error::ProviderError;
use claviger::lease::OldConnections;
use claviger::{Credentials, Handle, Lease, Revision, Supervisor, provider_fn};
use claviger_redis::RedisPools;
use claviger_redis::redis::{AsyncCommands, RedisError};
use claviger_servers::Redis;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

const USER: &str = "visits";
const ROTATIONS: u32 = 5;

/// Counts one visit. The library does not repeat a command that was sent when its connection ended.
/// This function does, because a visit may count twice.
async fn visit(cache: &Handle<RedisPools>) -> Result<u64, RedisError> {
    let mut connection = cache.get().await?;
    match connection.incr("visits", 1).await {
        Err(error) if error.is_io_error() => cache.get().await?.incr("visits", 1).await,
        result => result,
    }
}

/// Responds to one request.
async fn respond(stream: TcpStream, cache: &Handle<RedisPools>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 2 {
        line.clear();
    }
    let (status, body) = match visit(cache).await {
        Ok(count) => ("200 OK", format!("visit {count}\n")),
        Err(error) => ("503 Service Unavailable", format!("{error}\n")),
    };
    let length = body.len();
    let response =
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
    stream.get_mut().write_all(response.as_bytes()).await
}

async fn serve(listener: TcpListener, cache: Handle<RedisPools>) {
    while let Ok((stream, _)) = listener.accept().await {
        let cache = cache.clone();
        // A client that left early is no error of the service.
        tokio::spawn(async move { drop(respond(stream, &cache).await) });
    }
}

/// Requests a page. Returns whether the service responded with it.
async fn request(port: u16) -> io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    Ok(response.starts_with("HTTP/1.1 200"))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let server = tokio::task::spawn_blocking(Redis::start).await??;
    server.set_user(USER, "password-0")?;

    // The backend, which stores the password and counts its versions.
    let (backend, current) = watch::channel((0, "password-0".to_owned()));
    let provider = provider_fn(move |_| {
        let (version, password): (u32, String) = current.borrow().clone();
        async move {
            let revision = Revision::new(version.to_string());
            let lease = Lease::new(Credentials::new(USER, password), revision)
                .with_old_connections(OldConnections::Reauthenticate);
            Ok::<_, ProviderError>(lease)
        }
    });
    let supervisor = Supervisor::start();
    let credentials = supervisor
        .add_provider("visits-credentials", provider)
        .await?;
    let pools = RedisPools::new(format!("redis://{}:{}", server.host(), server.port()))?;
    let cache = supervisor.add_pool("visits", &credentials, pools).await?;

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    println!("serving at http://127.0.0.1:{port}");
    let service = tokio::spawn(serve(listener, cache.clone()));

    let (requests, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        let (requests, failed) = (Arc::clone(&requests), Arc::clone(&failed));
        let stop = Arc::clone(&stop);
        clients.spawn(async move {
            while !stop.load(Ordering::Acquire) {
                if !request(port).await.unwrap_or(false) {
                    failed.fetch_add(1, Ordering::Relaxed);
                }
                requests.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    for rotation in 1..=ROTATIONS {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let password = format!("password-{rotation}");
        server.set_password(USER, &password)?;
        if rotation == ROTATIONS {
            // The service detects the change by a rejection. The backend has the password by then.
            backend.send_replace((rotation, password));
            server.kill_connections(USER)?;
            while cache.generation() <= u64::from(ROTATIONS) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        } else {
            backend.send_replace((rotation, password));
            supervisor.rotate_now("visits-credentials").await?;
        }
        let id = server.connections_of(USER)?.first().map(|one| one.id);
        println!("generation {}, connection {id:?}", cache.generation());
    }
    stop.store(true, Ordering::Release);
    while clients.join_next().await.is_some() {}
    println!(
        "{} requests, {} failed; {} rejected logins",
        requests.load(Ordering::Relaxed),
        failed.load(Ordering::Relaxed),
        server.rejected_logins_of(USER)?
    );
    service.abort();
    let report = supervisor.shutdown(Duration::from_secs(5)).await;
    println!("shut down, nothing remains: {}", report.clean);
    Ok(())
}
