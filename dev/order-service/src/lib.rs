//! Parts of the example services that do not depend on the kind of pool: arguments, HTTP and
//! shutdown. The test of the services is [`orders_succeed_while_the_password_changes`].

#![cfg(unix)]
#![expect(clippy::print_stdout, reason = "an example prints its results")]

mod scenario;

use std::error::Error;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

use claviger::report::ShutdownReport;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

pub use scenario::orders_succeed_while_the_password_changes;

const USAGE: &str = "usage: service CONFIG CREDENTIALS_FOLDER LISTEN";

/// Error of an example.
pub type Problem = Box<dyn Error + Send + Sync>;

/// Future that resolves when the service must stop.
pub type Stop = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An order that was taken.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// Number of the order.
    pub id: i64,
    /// Generation of the pool that took it.
    pub generation: u64,
}

/// Runs a service until SIGTERM or Ctrl-C. The arguments of this process are the configuration of
/// tokio-postgres, the folder of the credentials, and the address to listen on.
///
/// # Errors
/// The arguments are invalid, or the service failed.
pub async fn run<S>(
    serve: impl FnOnce(String, PathBuf, TcpListener, Stop) -> S,
) -> Result<(), Problem>
where
    S: Future<Output = Result<ShutdownReport, Problem>>,
{
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [config, folder, listen] = arguments.as_slice() else {
        return Err(USAGE.into());
    };
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let stop = Box::pin(async move {
        tokio::select! { _ = terminated.recv() => {}, _ = interrupted.recv() => {} }
    });
    let listener = TcpListener::bind(listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let report = serve(config.clone(), folder.into(), listener, stop).await?;
    println!("shut down, nothing remains: {}", report.clean);
    Ok(())
}

/// Takes an order for each HTTP request until `stop` resolves. Requests in progress are completed.
///
/// # Errors
/// The listener failed.
pub async fn take_orders<O>(
    listener: TcpListener,
    stop: Stop,
    take_order: impl Fn() -> O,
) -> Result<(), Problem>
where
    O: Future<Output = Result<Order, Problem>> + Send + 'static,
{
    let mut requests = JoinSet::new();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                requests.spawn(respond(stream, take_order()));
            }
            // Removes requests that have ended.
            Some(_) = requests.join_next() => {}
            () = &mut stop => break,
        }
    }
    while requests.join_next().await.is_some() {}
    Ok(())
}

/// Responds to one HTTP request.
async fn respond(
    mut stream: TcpStream,
    order: impl Future<Output = Result<Order, Problem>>,
) -> Result<(), Problem> {
    let mut lines = BufReader::new(&mut stream).lines();
    while lines
        .next_line()
        .await?
        .is_some_and(|line| !line.is_empty())
    {}
    let (status, body) = match order.await {
        Ok(Order { id, generation }) => {
            ("200 OK", format!("order {id}, generation {generation}\n"))
        }
        Err(error) => ("503 Service Unavailable", format!("{error}\n")),
    };
    let length = body.len();
    let response =
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
    stream.write_all(response.as_bytes()).await?;
    Ok(stream.shutdown().await?)
}
