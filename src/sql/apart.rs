//! Verification on a thread of its own: a server can make the driver compute without end, which no time-out interrupts.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, AtomicU8, Ordering};
use std::thread;

use tokio::runtime;
use tokio::sync::oneshot;
use tracing::dispatcher;

use crate::error::{Fault, FaultKind};

/// How many abandoned verifications of one pool may still compute.
const MOST: isize = 2;

const RUNNING: u8 = 0;
const ABANDONED: u8 = 1;
const ENDED: u8 = 2;

/// Runs a pool's verifications, each on a thread of its own. Clones share their count.
#[derive(Clone, Debug, Default)]
pub(super) struct Apart {
    abandoned: Arc<AtomicIsize>,
}

/// One verification, as its thread and whoever waits for it see it.
struct Work {
    phase: AtomicU8,
    abandoned: Arc<AtomicIsize>,
}

/// Held by whoever waits.
struct Waiting(Arc<Work>);

impl Drop for Waiting {
    fn drop(&mut self) {
        let phase = &self.0.phase;
        if phase.compare_exchange(RUNNING, ABANDONED, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            self.0.abandoned.fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// Held by the thread, whose panic ends the work, too.
struct Working(Arc<Work>);

impl Drop for Working {
    fn drop(&mut self) {
        if self.0.phase.swap(ENDED, Ordering::AcqRel) == ABANDONED {
            self.0.abandoned.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Apart {
    /// Returns what the work returns.
    ///
    /// # Errors
    /// Those of the work; [`FaultKind::Unreachable`] while two abandoned ones still compute; [`FaultKind::Other`] after a panic, or without a thread.
    ///
    /// # Cancel safety
    /// The work is dropped when it next waits. If it computes instead, its thread goes on until it is done, and the process may end meanwhile.
    pub(super) async fn run(&self, work: impl Future<Output = Result<(), Fault>> + Send + 'static) -> Result<(), Fault> {
        if self.abandoned.load(Ordering::Acquire) >= MOST {
            let message = "earlier verifications still compute what the server asked for; see to who answers there";
            return Err(Fault::new(FaultKind::Unreachable, message));
        }
        let shared = Arc::new(Work { phase: AtomicU8::new(RUNNING), abandoned: Arc::clone(&self.abandoned) });
        let working = Working(Arc::clone(&shared));
        // Without any, `tracing` writes to the `log` crate, which a scoped one would silence for good.
        let subscriber = dispatcher::has_been_set().then(|| dispatcher::get_default(Clone::clone));
        let (mut result, received) = oneshot::channel();
        let body = move || {
            let working = working;
            let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => {
                    return drop(result.send(Err(Fault::new(FaultKind::Other, format!("no runtime for the verification: {error}")))));
                }
            };
            let verify = || {
                runtime.block_on(async {
                    tokio::select! {
                        outcome = work => Some(outcome),
                        () = result.closed() => None,
                    }
                })
            };
            let outcome = match &subscriber {
                Some(subscriber) => dispatcher::with_default(subscriber, verify),
                None => verify(),
            };
            // A look-up of a name may hang in a thread of that runtime's own.
            runtime.shutdown_background();
            drop(working);
            if let Some(outcome) = outcome {
                // Nobody may wait any longer.
                let _ = result.send(outcome);
            }
        };
        let waiting = Waiting(shared);
        // Detached: neither the runtime nor the process waits for it.
        thread::Builder::new()
            .name("claviger-verify".to_owned())
            .spawn(body)
            .map_err(|error| Fault::new(FaultKind::Other, format!("no thread for the verification: {error}")))?;
        let outcome = received.await;
        drop(waiting);
        outcome.unwrap_or_else(|_| Err(Fault::new(FaultKind::Other, "the verification panicked; see its own output")))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// Work that computes until it is let go.
    fn stuck() -> (mpsc::Sender<()>, impl Future<Output = Result<(), Fault>> + Send + 'static) {
        let (go, gone) = mpsc::channel::<()>();
        (go, async move {
            // Blocks the thread, as a computation does.
            let _ = gone.recv();
            Ok(())
        })
    }

    #[tokio::test]
    async fn abandoned_verifications_are_bounded_until_they_end() {
        let apart = Apart::default();
        let mut held = Vec::new();
        for _ in 0..MOST {
            let (go, work) = stuck();
            tokio::time::timeout(Duration::from_millis(50), apart.run(work)).await.unwrap_err();
            held.push(go);
        }
        let error = apart.run(async { Ok(()) }).await.unwrap_err();
        assert_eq!(error.kind(), FaultKind::Unreachable);
        assert!(error.message().contains("still compute"), "{error}");
        drop(held);
        while apart.abandoned.load(Ordering::Acquire) > 0 {
            tokio::task::yield_now().await;
        }
        apart.run(async { Ok(()) }).await.unwrap();
    }

    #[tokio::test]
    async fn work_that_waits_ends_with_its_caller() {
        let apart = Apart::default();
        tokio::time::timeout(Duration::from_millis(50), apart.run(std::future::pending())).await.unwrap_err();
        while apart.abandoned.load(Ordering::Acquire) > 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_panic_is_an_error() {
        let error = Apart::default().run(async { std::panic::resume_unwind(Box::new("gone")) }).await.unwrap_err();
        assert!(error.message().contains("panicked"), "{error}");
    }
}
