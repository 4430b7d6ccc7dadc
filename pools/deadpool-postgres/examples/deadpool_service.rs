//! A service on deadpool-postgres that takes orders while its credentials rotate. Try it with
//!
//! ```text
//! cargo run -p claviger-deadpool-postgres --example deadpool_service -- \
//!     "host=127.0.0.1 dbname=orders" /etc/orders-db 127.0.0.1:8080
//! ```
//!
//! The arguments are the configuration of tokio-postgres without user and password, a folder, and
//! an address to listen on. The folder has the files `username` and `password`, as Kubernetes
//! mounts a secret. When they change, the pool is handed over. Each request (`curl
//! http://127.0.0.1:8080`) takes one order. After SIGTERM or Ctrl-C, requests in progress are
//! completed, and every connection is closed.

use std::path::PathBuf;
use std::time::Duration;

use claviger::report::ShutdownReport;
use claviger::{Handle, Supervisor};
use claviger_deadpool_postgres::deadpool_postgres::PoolConfig;
use claviger_deadpool_postgres::tokio_postgres::Config;
use claviger_deadpool_postgres::{DeadpoolPools, PgConnect};
use claviger_file::FileProvider;
use claviger_order_service::{Order, Problem, Stop, run, take_orders};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Problem> {
    run(serve_until).await
}

/// Serves requests until `stop` resolves, and shuts down.
pub(crate) async fn serve_until(
    config: String,
    folder: PathBuf,
    listener: TcpListener,
    stop: Stop,
) -> Result<ShutdownReport, Problem> {
    let supervisor = Supervisor::start();
    let credentials = FileProvider::directory(folder)?;
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
    let pools = DeadpoolPools::new(connect, pool);
    let db = supervisor.add_pool("orders", &credentials, pools).await?;
    let create = "CREATE TABLE IF NOT EXISTS orders (id bigserial PRIMARY KEY)";
    db.get().await?.batch_execute(create).await?;

    take_orders(listener, stop, || take_order(db.clone())).await?;
    Ok(supervisor.shutdown(Duration::from_secs(10)).await)
}

async fn take_order(db: Handle<DeadpoolPools>) -> Result<Order, Problem> {
    let mut client = db.get().await?; // deadpool's `Object`
    let transaction = client.transaction().await?;
    let insert = "INSERT INTO orders DEFAULT VALUES RETURNING id";
    let insert = transaction.prepare_cached(insert).await?;
    let row = transaction.query_one(&insert, &[]).await?;
    transaction.commit().await?;
    Ok(Order {
        id: row.get(0),
        generation: db.generation(),
    })
}
