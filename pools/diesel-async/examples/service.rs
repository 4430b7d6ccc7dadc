//! A service on diesel-async that takes orders while its credentials rotate. Try it with
//!
//! ```text
//! cargo run -p claviger-diesel-async --example service -- \
//!     "host=127.0.0.1 dbname=orders" /etc/orders-db 127.0.0.1:8080
//! ```
//!
//! The arguments are the configuration of tokio-postgres without user and password, a folder, and
//! an address to listen on. The folder has the files `username` and `password`, as Kubernetes
//! mounts a secret. When they change, the pool is handed over. Each request (`curl
//! http://127.0.0.1:8080`) takes one order. After SIGTERM or Ctrl-C, requests in progress are
//! completed, and every connection is closed.

#![expect(clippy::print_stdout, reason = "an example prints its results")]

use std::error::Error;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use claviger::report::ShutdownReport;
use claviger::{Handle, Supervisor};
use claviger_diesel_async::deadpool::managed::PoolConfig;
use claviger_diesel_async::tokio_postgres::Config;
use claviger_diesel_async::{DieselPools, PgConnect};
use claviger_file::FileProvider;
use diesel::insert_into;
use diesel_async::{AsyncConnection, RunQueryDsl, SimpleAsyncConnection};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

const USAGE: &str = "usage: service CONFIG CREDENTIALS_FOLDER LISTEN";

diesel::table! {
    /// The orders that were taken.
    orders {
        /// Number of the order.
        id -> BigInt,
    }
}

type Problem = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Problem> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [config, folder, listen] = arguments.as_slice() else {
        return Err(USAGE.into());
    };
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let stop = async move {
        tokio::select! { _ = terminated.recv() => {}, _ = interrupted.recv() => {} }
    };
    let listener = TcpListener::bind(listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let report = serve_until(config, folder, listener, stop).await?;
    println!("shut down, nothing remains: {}", report.clean);
    Ok(())
}

/// Serves requests until `stop` resolves, and shuts down.
pub(crate) async fn serve_until(
    config: &str,
    folder: impl AsRef<Path>,
    listener: TcpListener,
    stop: impl Future<Output = ()>,
) -> Result<ShutdownReport, Problem> {
    let supervisor = Supervisor::start();
    let credentials = FileProvider::directory(folder.as_ref())?;
    let credentials = supervisor
        .add_provider("orders-credentials", credentials)
        .await?;
    let config: Config = config.parse()?;
    // Each new connection has this limit. Credentials that cannot set it are not used.
    let connect = PgConnect::new(config).with_after_connect(|client| {
        Box::pin(async move { client.batch_execute("SET statement_timeout = '5s'").await })
    });
    let mut pool = PoolConfig::new(10);
    pool.timeouts.wait = Some(Duration::from_secs(5));
    let pools = DieselPools::new(connect, pool);
    let db = supervisor.add_pool("orders", &credentials, pools).await?;
    let create = "CREATE TABLE IF NOT EXISTS orders (id bigserial PRIMARY KEY)";
    db.get().await?.batch_execute(create).await?;

    let mut requests = JoinSet::new();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                requests.spawn(serve(stream, db.clone()));
            }
            // Removes requests that have ended.
            Some(_) = requests.join_next() => {}
            () = &mut stop => break,
        }
    }
    while requests.join_next().await.is_some() {}
    Ok(supervisor.shutdown(Duration::from_secs(10)).await)
}

/// Responds to one HTTP request.
async fn serve(mut stream: TcpStream, db: Handle<DieselPools>) -> Result<(), Problem> {
    let mut lines = BufReader::new(&mut stream).lines();
    while lines
        .next_line()
        .await?
        .is_some_and(|line| !line.is_empty())
    {}
    let (status, body) = match take_order(&db).await {
        Ok(id) => (
            "200 OK",
            format!("order {id}, generation {}\n", db.generation()),
        ),
        Err(error) => ("503 Service Unavailable", format!("{error}\n")),
    };
    let length = body.len();
    let response =
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
    stream.write_all(response.as_bytes()).await?;
    Ok(stream.shutdown().await?)
}

async fn take_order(db: &Handle<DieselPools>) -> Result<i64, Problem> {
    let mut connection = db.get().await?; // dereferences to `AsyncPgConnection`
    let inserted = connection.transaction(async |connection| {
        let order = insert_into(orders::table).default_values();
        order.returning(orders::id).get_result(connection).await
    });
    Ok(inserted
        .await
        .map_err(|error: diesel::result::Error| error)?)
}
