//! The supervisor's runtime, as callers meet it whose own is another: it may be gone, and it may not be driven.

use std::future::Future;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::Inner;
use super::registry::Boxed;
use crate::error::Error;

/// How much longer than its own bound a call waits for a supervisor whose runtime does not run.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// A deadline by a clock of the operating system: it passes also where no runtime drives a timer. Nothing is left of it when dropped.
pub(super) struct Overdue {
    passed: Option<oneshot::Receiver<()>>,
    _kept: mpsc::Sender<()>,
}

impl Overdue {
    pub(super) fn after(time: Duration) -> Self {
        let (_kept, dropped) = mpsc::channel();
        let (pass, passed) = oneshot::channel();
        let wait = move || {
            if dropped.recv_timeout(time) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = pass.send(());
            }
        };
        // Without a thread to be had, the work itself has its bound.
        let spawned = thread::Builder::new().name("claviger-deadline".to_owned()).spawn(wait);
        Self { passed: spawned.is_ok().then_some(passed), _kept }
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

/// Runs work on the supervisor's runtime, where it goes on without the caller, and waits for it, but not longer than `patience` beyond
/// which the work itself does not wait either. Where that runtime is gone, the caller's runs it.
pub(super) async fn run(inner: &Inner, work: impl Fn() -> Boxed<()>, patience: Duration) -> Result<(), Error> {
    let mut overdue = Overdue::after(patience + GRACE);
    let run = async {
        // A panic of the work is no reason to do it again.
        if is_lost(inner.runtime.spawn(work())).await {
            let here = Handle::try_current().map_err(|_| Error::runtime_is_gone())?;
            is_lost(here.spawn(work())).await;
        }
        Ok(())
    };
    tokio::select! {
        biased;
        ended = run => ended,
        () = overdue.passed() => Ok(()),
    }
}

/// Calls that wait need a timer of their caller's.
pub(super) fn check(call: &str) -> Result<(), Error> {
    Handle::try_current().map(drop).map_err(|_| Error::no_runtime(call))
}

/// Whether the task ended without having ended its work, as those of a runtime do that is gone.
async fn is_lost<T>(task: impl Future<Output = Result<T, tokio::task::JoinError>>) -> bool {
    task.await.is_err_and(|error| error.is_cancelled())
}
