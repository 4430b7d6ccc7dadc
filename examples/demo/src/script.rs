//! Changes of the credentials while the service runs.

#[cfg(any(feature = "rds-iam", feature = "secrets-manager"))]
mod aws;
mod comparison;
pub(crate) mod file;
#[cfg(feature = "rds-iam")]
pub(crate) mod rds_iam;
#[cfg(feature = "secrets-manager")]
pub(crate) mod secrets_manager;
mod steps;
#[cfg(feature = "vault")]
pub(crate) mod vault;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use claviger::Handle;
use claviger::pool::PoolFactory;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::Problem;
use crate::screen::Screen;

/// Time until a change is adopted.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The changes of a script and their outcome.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) changes: u32,
    pub(crate) adopted: u32,
    /// A table for the end of the demo.
    pub(crate) table: Vec<String>,
    /// Lines for the end of the demo.
    pub(crate) summary: Vec<String>,
    pub(crate) problems: Vec<String>,
}

impl Tally {
    /// Returns the sum of both tallies.
    #[cfg(feature = "secrets-manager")]
    pub(crate) fn sum(mut self, other: Self) -> Self {
        self.changes += other.changes;
        self.adopted += other.adopted;
        self.summary.extend(other.summary);
        self.problems.extend(other.problems);
        self
    }

    pub(crate) fn problem(&mut self, problem: impl Into<String>) {
        self.problems.push(problem.into());
    }
}

/// End of a script, and its screen.
#[derive(Clone)]
pub(crate) struct ScriptContext {
    pub(crate) screen: Arc<Screen>,
    pub(crate) end: Instant,
    stop: watch::Receiver<bool>,
    step: Arc<AtomicU64>,
}

impl ScriptContext {
    /// Announces a step. Steps are counted from 1.
    pub(crate) fn begin_step(&self, what: &str) {
        let number = self.step.fetch_add(1, Ordering::Relaxed) + 1;
        self.screen.step(number, what);
    }

    /// Waits. Returns false if no further change is to be made.
    pub(crate) async fn pause(&mut self, pause: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(pause) => true,
            _ = self.stop.wait_for(|stop| *stop) => false,
        }
    }

    /// Waits for the end of the time, or for [`Script::stop`].
    #[cfg(any(feature = "rds-iam", feature = "secrets-manager", feature = "vault"))]
    pub(crate) async fn rest(&mut self) {
        self.pause(self.end.saturating_duration_since(Instant::now()))
            .await;
    }
}

/// A running script.
pub(crate) struct Script {
    stop: watch::Sender<bool>,
    step: Arc<AtomicU64>,
    task: Mutex<Option<JoinHandle<Tally>>>,
}

impl Script {
    pub(crate) fn start<F>(
        screen: &Arc<Screen>,
        duration: Duration,
        script: impl FnOnce(ScriptContext) -> F,
    ) -> Self
    where
        F: Future<Output = Tally> + Send + 'static,
    {
        let stop = watch::Sender::new(false);
        let step = Arc::new(AtomicU64::new(0));
        let context = ScriptContext {
            screen: Arc::clone(screen),
            end: Instant::now() + duration,
            stop: stop.subscribe(),
            step: Arc::clone(&step),
        };
        Self {
            stop,
            step,
            task: Mutex::new(Some(tokio::spawn(script(context)))),
        }
    }

    /// Returns the number of the current step; 0 before the first, or without steps.
    pub(crate) fn step(&self) -> u64 {
        self.step.load(Ordering::Relaxed)
    }

    /// Stops the script after its current change.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits for the end and returns the tally.
    pub(crate) async fn finished(&self) -> Tally {
        let task = self.task.lock().await.take();
        let tally = match task {
            Some(task) => task.await.ok(),
            None => None,
        };
        tally.unwrap_or_else(|| Tally {
            problems: vec!["the script panicked".to_owned()],
            ..Tally::default()
        })
    }
}

/// Makes a change and waits until the pool uses another credential.
pub(crate) async fn change_and_wait<P: PoolFactory>(
    db: &Handle<P>,
    change: impl Future<Output = Result<(), Problem>>,
) -> Result<(), Problem> {
    let before = revision(db);
    change.await?;
    let adopted = async {
        loop {
            let changed = db.changed();
            if revision(db) != before {
                break;
            }
            changed.await;
        }
    };
    timeout(TIMEOUT, adopted)
        .await
        .map_err(|_| format!("not adopted within {TIMEOUT:?}").into())
}

/// Returns the digest of the current revision.
fn revision<P: PoolFactory>(db: &Handle<P>) -> Option<String> {
    db.status().and_then(|status| status.revision)
}

/// Runs blocking work off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await?
}

/// Starts a server on a blocking thread, and prints its name, such as `a PostgreSQL`. A signal
/// during the start stops the server in order.
///
/// # Errors
/// The server does not start, or a signal arrives.
pub(crate) async fn start_interruptible<T: Send + 'static>(
    screen: &Screen,
    what: &str,
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let (mut terminate, mut hangup) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
    );
    let starting = format!("starting {what}");
    screen.waiting(&starting);
    tokio::select! {
        outcome = screen.while_waiting(&starting, blocking(work)) => outcome,
        _ = tokio::signal::ctrl_c() => Err("interrupted during the start".into()),
        _ = terminate.recv() => Err("terminated during the start".into()),
        _ = hangup.recv() => Err("terminated during the start".into()),
    }
}
