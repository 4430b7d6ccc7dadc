//! Callers that query through a handle without a retry of their own, and count.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use claviger::Handle;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::Queried;

/// What the callers have counted.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Queries that were answered.
    pub answered: u64,
    /// Statements that the server itself interrupted: 57P01, a cut connection.
    pub interrupted: u64,
    /// Everything else that failed, in words.
    pub failed: Vec<String>,
    /// The longest that one query took.
    pub longest: Duration,
}

#[derive(Default)]
struct Counters {
    stop: AtomicBool,
    answered: AtomicU64,
    interrupted: AtomicU64,
    longest_us: AtomicU64,
    failed: Mutex<Vec<String>>,
}

/// Tasks that query until told to stop.
pub struct Callers {
    counters: Arc<Counters>,
    tasks: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Callers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Callers").field("tasks", &self.tasks.len()).finish()
    }
}

impl Callers {
    /// Starts so many callers, who query as fast as they can.
    pub fn start<P: Queried>(handle: &Handle<P>, tasks: usize) -> Self {
        Self::start_with(handle, tasks, "SELECT 1")
    }

    /// Starts so many callers with a query of their own.
    pub fn start_with<P: Queried>(handle: &Handle<P>, tasks: usize, sql: &'static str) -> Self {
        Self::start_at(handle, tasks, sql, Duration::ZERO)
    }

    /// Starts so many callers who rest after each answer, and leave some of the machine to the others.
    pub fn start_at<P: Queried>(handle: &Handle<P>, tasks: usize, sql: &'static str, rest: Duration) -> Self {
        let counters = Arc::new(Counters::default());
        let tasks = (0..tasks)
            .map(|_| {
                let (handle, counters) = (handle.clone(), Arc::clone(&counters));
                tokio::spawn(async move {
                    while !counters.stop.load(Ordering::Acquire) {
                        let began = Instant::now();
                        let answer = P::ask(&handle, sql).await;
                        let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                        counters.longest_us.fetch_max(took, Ordering::AcqRel);
                        match answer {
                            Ok(()) => {
                                counters.answered.fetch_add(1, Ordering::AcqRel);
                            }
                            Err(error) if P::has_interrupted(&error) => {
                                counters.interrupted.fetch_add(1, Ordering::AcqRel);
                            }
                            Err(error) => {
                                counters.failed.lock().unwrap_or_else(PoisonError::into_inner).push(error.to_string());
                                // An error may come at once, again and again: nobody else would have a turn.
                                tokio::task::yield_now().await;
                            }
                        }
                        if !rest.is_zero() {
                            tokio::time::sleep(rest).await;
                        }
                    }
                })
            })
            .collect();
        Self { counters, tasks }
    }

    /// Queries answered so far.
    pub fn answered(&self) -> u64 {
        self.counters.answered.load(Ordering::Acquire)
    }

    /// Waits until so many more queries are answered.
    pub async fn answer_more(&self, queries: u64) {
        let goal = self.answered() + queries;
        crate::eventually_within(Duration::from_secs(30), "callers are answered", || self.answered() >= goal).await;
    }

    /// Queries that failed so far for another reason than an interruption by the server.
    pub fn failures(&self) -> usize {
        self.counters.failed.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Stops them, and answers what they counted.
    pub async fn stop(self) -> Tally {
        self.counters.stop.store(true, Ordering::Release);
        for task in self.tasks {
            task.await.expect("no caller panics");
        }
        Tally {
            answered: self.counters.answered.load(Ordering::Acquire),
            interrupted: self.counters.interrupted.load(Ordering::Acquire),
            failed: self.counters.failed.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            longest: Duration::from_micros(self.counters.longest_us.load(Ordering::Acquire)),
        }
    }
}
