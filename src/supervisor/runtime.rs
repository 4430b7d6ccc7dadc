//! Calls from other runtimes than the supervisor's own, which may be gone or not driven.

use std::future::Future;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::inner::Inner;
use crate::error::Error;

/// Time beyond its own bound that a call waits for a supervisor whose runtime is not driven.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// A deadline on a thread of its own, which passes also if no runtime drives a timer. Its drop ends
/// the thread.
pub(super) struct ThreadDeadline {
    passed: Option<oneshot::Receiver<()>>,
    _kept: mpsc::Sender<()>,
}

impl ThreadDeadline {
    pub(super) fn after(time: Duration) -> Self {
        let (_kept, dropped) = mpsc::channel();
        let (pass, passed) = oneshot::channel();
        let wait = move || {
            if dropped.recv_timeout(time) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = pass.send(());
            }
        };
        // If no thread can be started, the bound of the work itself applies.
        let spawned = thread::Builder::new()
            .name("claviger-deadline".to_owned())
            .spawn(wait);
        Self {
            passed: spawned.is_ok().then_some(passed),
            _kept,
        }
    }

    /// Resolves when the time has passed.
    pub(super) async fn passed(&mut self) {
        if let Some(passed) = &mut self.passed
            && passed.await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }
}

/// Runs work on the supervisor's runtime and waits for it, for `bound` and [`GRACE`] at most.
/// The work continues without the caller. If that runtime is gone, the caller's runs it.
pub(super) async fn run_on_runtime<W: Future<Output = ()> + Send + 'static>(
    inner: &Inner,
    work: impl Fn() -> W,
    bound: Duration,
) -> Result<(), Error> {
    let mut deadline = ThreadDeadline::after(bound + GRACE);
    let run = async {
        // Work that panicked is not repeated.
        if is_lost(inner.runtime.spawn(work())).await {
            let here = Handle::try_current().map_err(|_| Error::runtime_is_gone())?;
            is_lost(here.spawn(work())).await;
        }
        Ok(())
    };
    tokio::select! {
        biased;
        ended = run => ended,
        () = deadline.passed() => Ok(()),
    }
}

/// Returns an error outside of a tokio runtime, whose timer the call needs.
pub(super) fn check(call: &str) -> Result<(), Error> {
    Handle::try_current()
        .map(drop)
        .map_err(|_| Error::no_runtime(call))
}

/// Returns whether the task was cancelled, as after the end of its runtime.
async fn is_lost<T>(task: impl Future<Output = Result<T, tokio::task::JoinError>>) -> bool {
    task.await.is_err_and(|error| error.is_cancelled())
}
