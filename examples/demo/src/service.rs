//! A service: tasks that call without retries of failed logins, and count the results.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::CONNECTIONS;
use crate::kind::Caller;

/// Number of tasks.
pub(crate) const TASKS: usize = 16;
/// Pause of each task between two calls.
const PAUSE: Duration = Duration::from_millis(5);
/// Pause after a failed call. Without it, errors that are returned at once overload the server.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);
/// Number of failures whose messages are kept.
const KEPT: usize = 5;

/// Results of a service until now.
#[derive(Default)]
pub(crate) struct Counters {
    stop: AtomicBool,
    succeeded: AtomicU64,
    failed: AtomicU64,
    repeated: AtomicU64,
    in_progress: AtomicU64,
    longest_us: AtomicU64,
    failures: Mutex<Vec<String>>,
    reported: Mutex<Reported>,
}

/// The failure that is printed when it occurs.
#[derive(Default)]
struct Reported {
    /// Calls that began earlier are not reported.
    since: Option<Instant>,
    has_occurred: bool,
    /// Its message, until it is printed.
    message: Option<String>,
}

impl Counters {
    pub(crate) fn succeeded(&self) -> u64 {
        self.succeeded.load(Ordering::Relaxed)
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Returns how often a call was repeated because its connection was lost.
    pub(crate) fn repeated(&self) -> u64 {
        self.repeated.load(Ordering::Relaxed)
    }

    /// Returns the number of tasks that wait for their call.
    pub(crate) fn in_progress(&self) -> u64 {
        self.in_progress.load(Ordering::Relaxed)
    }

    pub(crate) fn longest(&self) -> Duration {
        Duration::from_micros(self.longest_us.load(Ordering::Relaxed))
    }

    /// Returns the messages of the first failures.
    pub(crate) fn failures(&self) -> Vec<String> {
        self.failures.lock().clone()
    }

    /// Returns the first failure since the last [`report_again`](Self::report_again), once.
    pub(crate) fn first_failure(&self) -> Option<String> {
        self.reported.lock().message.take()
    }

    /// Reports the next failure again. Failures of calls that have already begun are not reported.
    pub(crate) fn report_again(&self) {
        *self.reported.lock() = Reported {
            since: Some(Instant::now()),
            ..Reported::default()
        };
    }

    fn add_failure(&self, began: Instant, message: String) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut failures = self.failures.lock();
        if failures.len() < KEPT {
            failures.push(message.clone());
        }
        drop(failures);
        let mut reported = self.reported.lock();
        if !reported.has_occurred && reported.since.is_none_or(|since| began >= since) {
            reported.has_occurred = true;
            reported.message = Some(message);
        }
    }
}

/// The running tasks.
pub(crate) struct Service {
    counters: Arc<Counters>,
    tasks: Vec<JoinHandle<()>>,
}

impl Service {
    /// Starts this number of tasks, evenly distributed over the callers.
    pub(crate) fn start(tasks: usize, callers: &[impl Caller]) -> Self {
        let counters = Arc::new(Counters::default());
        let tasks = callers
            .iter()
            .cycle()
            .take(tasks)
            .map(|caller| tokio::spawn(call_until_stopped(caller.clone(), Arc::clone(&counters))))
            .collect();
        Self { counters, tasks }
    }

    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Stops the tasks after their current calls.
    pub(crate) async fn stop(self) -> Arc<Counters> {
        self.counters.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            if task.await.is_err() {
                self.counters
                    .add_failure(Instant::now(), "a task panicked".to_owned());
            }
        }
        self.counters
    }
}

async fn call_until_stopped(caller: impl Caller, counters: Arc<Counters>) {
    while !counters.stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        counters.in_progress.fetch_add(1, Ordering::Relaxed);
        let result = call(&caller, &counters).await;
        counters.in_progress.fetch_sub(1, Ordering::Relaxed);
        let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        counters.longest_us.fetch_max(took, Ordering::Relaxed);
        match result {
            Ok(()) => {
                counters.succeeded.fetch_add(1, Ordering::Relaxed);
                sleep(PAUSE).await;
            }
            Err(message) => {
                counters.add_failure(began, message);
                sleep(PAUSE_AFTER_FAILURE).await;
            }
        }
    }
}

/// Makes a call. The call only reads, so it is repeated if its connection is lost. A pool cannot do
/// that, because a statement may write. All connections of a pool may be lost at the same time.
async fn call(caller: &impl Caller, counters: &Counters) -> Result<(), String> {
    let mut lost = 0;
    loop {
        match caller.call().await {
            Ok(()) => return Ok(()),
            Err(failure) if failure.lost_connection && lost < CONNECTIONS => {
                lost += 1;
                counters.repeated.fetch_add(1, Ordering::Relaxed);
            }
            Err(failure) => return Err(failure.message),
        }
    }
}
