//! Tasks that query until they are stopped, without retries.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::PgKind;
use crate::fixture::{PoolOf, eventually, query};

#[derive(Default)]
struct Counters {
    stop: AtomicBool,
    succeeded: AtomicU64,
    failed: Mutex<Vec<String>>,
}

pub(crate) struct Callers {
    counters: Arc<Counters>,
    tasks: Vec<JoinHandle<()>>,
}

impl Callers {
    pub(crate) fn start<K: PgKind>(pool: &PoolOf<K>, tasks: usize) -> Self {
        let counters = Arc::new(Counters::default());
        let caller = |_| {
            let (pool, counters) = (pool.clone(), Arc::clone(&counters));
            tokio::spawn(async move {
                while !counters.stop.load(Ordering::Acquire) {
                    match query::<K>(&pool).await {
                        Ok(()) => {
                            counters.succeeded.fetch_add(1, Ordering::AcqRel);
                        }
                        Err(error) => {
                            counters.failed.lock().push(error);
                            // Errors that are returned at once would starve other tasks.
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                    }
                }
            })
        };
        let tasks = (0..tasks).map(caller).collect();
        Self { counters, tasks }
    }

    pub(crate) fn failures(&self) -> usize {
        self.counters.failed.lock().len()
    }

    /// Waits until `queries` more queries have succeeded.
    pub(crate) async fn wait_for_more(&self, queries: u64) {
        let succeeded = || self.counters.succeeded.load(Ordering::Acquire);
        let goal = succeeded() + queries;
        eventually("callers' queries succeed", || succeeded() >= goal).await;
    }

    /// Stops the callers and returns the messages of failed queries.
    pub(crate) async fn stop(self) -> Vec<String> {
        self.counters.stop.store(true, Ordering::Release);
        for task in self.tasks {
            task.await.expect("no caller panics");
        }
        std::mem::take(&mut self.counters.failed.lock())
    }
}
