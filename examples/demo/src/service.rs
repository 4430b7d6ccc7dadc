//! The service: 16 tasks that query through the handle, without retries of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use claviger::Handle;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::database::Orders;

const TASKS: usize = 16;
/// Pause of each task between two queries.
const QUERY_PAUSE: Duration = Duration::from_millis(5);

#[derive(Default)]
struct Counters {
    stop: AtomicBool,
    queries: AtomicU64,
    longest_us: AtomicU64,
    failures: Mutex<Vec<String>>,
}

pub(crate) struct Service {
    counters: Arc<Counters>,
    tasks: Vec<JoinHandle<()>>,
}

/// Results of the service.
pub(crate) struct QueryCount {
    pub(crate) queries: u64,
    pub(crate) failures: Vec<String>,
    pub(crate) longest_wait: Duration,
}

impl Service {
    /// Starts the tasks, evenly distributed over the pools.
    pub(crate) fn start<P: Orders>(pools: &[Handle<P>]) -> Self {
        let counters = Arc::new(Counters::default());
        let tasks = pools
            .iter()
            .cycle()
            .take(TASKS)
            .map(|db| tokio::spawn(run_queries(db.clone(), Arc::clone(&counters))))
            .collect();
        Self { counters, tasks }
    }

    pub(crate) fn queries(&self) -> u64 {
        self.counters.queries.load(Ordering::Relaxed)
    }

    pub(crate) fn failed(&self) -> usize {
        self.counters.failures.lock().len()
    }

    pub(crate) async fn stop(self) -> QueryCount {
        self.counters.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            if task.await.is_err() {
                self.counters
                    .failures
                    .lock()
                    .push("a task panicked".to_owned());
            }
        }
        QueryCount {
            queries: self.counters.queries.load(Ordering::Relaxed),
            failures: self.counters.failures.lock().clone(),
            longest_wait: Duration::from_micros(self.counters.longest_us.load(Ordering::Relaxed)),
        }
    }
}

async fn run_queries<P: Orders>(db: Handle<P>, counters: Arc<Counters>) {
    while !counters.stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let result = P::count(&db).await;
        let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        counters.longest_us.fetch_max(took, Ordering::Relaxed);
        match result {
            Ok(_) => {
                counters.queries.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => counters.failures.lock().push(error.to_string()),
        }
        tokio::time::sleep(QUERY_PAUSE).await;
    }
}
