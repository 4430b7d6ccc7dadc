//! The maximum number of concurrent connections, as the server counts them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use claviger_servers::Postgres;
use claviger_tokio_postgres::tokio_postgres::{Config, NoTls};
use tokio::task::JoinHandle;

const COUNT: &str = "select count(*) from pg_stat_activity where usename = 'app'";

pub(crate) struct Peak {
    stop: Arc<AtomicBool>,
    task: JoinHandle<i64>,
}

impl Peak {
    /// Counts the connections of `app` as often as possible. The server counts a closed connection
    /// for another moment, so the smaller of two consecutive counts is taken.
    pub(crate) async fn watch(server: &Postgres) -> Self {
        let mut config = Config::new();
        config
            .host_path(server.socket_dir())
            .port(server.port())
            .user(server.superuser())
            .dbname("postgres");
        let (client, connection) = config.connect(NoTls).await.expect("a connection");
        tokio::spawn(connection);
        let statement = client.prepare(COUNT).await.expect("a statement");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let (mut peak, mut previous) = (0, 0);
            while !stopped.load(Ordering::Acquire) {
                let row = client.query_one(&statement, &[]).await.expect("a count");
                let count: i64 = row.get(0);
                peak = peak.max(count.min(previous));
                previous = count;
            }
            peak
        });
        Self { stop, task }
    }

    /// Stops counting and returns the maximum.
    pub(crate) async fn stop(self) -> i64 {
        self.stop.store(true, Ordering::Release);
        self.task.await.expect("no panic")
    }
}
