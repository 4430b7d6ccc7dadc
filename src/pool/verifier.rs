//! Runs each verification on a thread of its own. A server can make the driver compute without end,
//! which no timeout interrupts.

use std::future::Future;
use std::io;
use std::sync::{Arc, Weak};
use std::thread;

use tokio::runtime;
use tokio::sync::oneshot;
use tracing::dispatcher;

use crate::error::{ConnectError, ConnectErrorKind};
use crate::lock::Mutex;

/// Maximum number of abandoned verifications of one pool that still compute.
const MAX_ABANDONED: usize = 2;

/// The message of the error after a panic.
pub(crate) const PANICKED: &str = "the verification panicked; see the panic message";

/// Runs a pool's verifications, each on a thread of its own. Clones share the list of abandoned
/// ones.
///
/// A hostile or broken server can make a driver compute for minutes (the iteration count of SCRAM),
/// and no timeout interrupts a computation. On a thread of its own it delays nothing else.
///
/// ```
/// use claviger::error::ConnectError;
/// use claviger::pool::Verifier;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), ConnectError> {
/// let verifier = Verifier::default();
/// verifier.run(async { Ok(()) }).await
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Verifier {
    /// One reference for each abandoned verification, whose thread has the other until it ends.
    abandoned: Arc<Mutex<Vec<Weak<()>>>>,
}

/// Guard of the caller. Its drop marks the verification as abandoned if it still runs.
struct CallerGuard<'v> {
    verifier: &'v Verifier,
    running: Weak<()>,
}

impl Drop for CallerGuard<'_> {
    fn drop(&mut self) {
        let running = Weak::clone(&self.running);
        self.verifier.abandoned.lock().push(running);
    }
}

impl Verifier {
    /// Runs the work on a new thread with a tokio runtime of its own, and returns its result. Both
    /// end with the work, and so do tasks that it spawns.
    ///
    /// # Errors
    /// Those of the work. [`ConnectErrorKind::Unreachable`] while two abandoned verifications still
    /// compute. [`ConnectErrorKind::Other`] after a panic, or if no thread can be started.
    ///
    /// # Cancel safety
    /// The work is dropped when it next waits. If it computes instead, its thread continues until
    /// it is done, and the process may end meanwhile.
    pub async fn run(
        &self,
        work: impl Future<Output = Result<(), ConnectError>> + Send + 'static,
    ) -> Result<(), ConnectError> {
        if self.count_abandoned() >= MAX_ABANDONED {
            let message = "earlier verifications still compute the server's login challenge; \
                           check which server listens at this address";
            return Err(ConnectError::new(ConnectErrorKind::Unreachable, message));
        }
        // The thread's reference is dropped when the work has ended, also after a panic.
        let running = Arc::new(());
        let caller_guard = CallerGuard {
            verifier: self,
            running: Arc::downgrade(&running),
        };
        // Without a subscriber, `tracing` writes to the `log` crate, which a scoped one would
        // silence permanently.
        let subscriber = dispatcher::has_been_set().then(|| dispatcher::get_default(Clone::clone));
        let (mut result, received) = oneshot::channel();
        let body = move || {
            let running = running;
            let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(result.send(Err(not_started("runtime", &error)))),
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
            drop(running);
            if let Some(outcome) = outcome {
                // The caller may have gone.
                let _ = result.send(outcome);
            }
            // Does not wait, because a name resolution may hang in a thread of this runtime.
            runtime.shutdown_background();
        };
        // Detached: neither the runtime nor the process waits for it.
        thread::Builder::new()
            .name("claviger-verify".to_owned())
            .spawn(body)
            .map_err(|error| not_started("thread", &error))?;
        let outcome = received.await;
        drop(caller_guard);
        outcome.unwrap_or_else(|_| Err(ConnectError::new(ConnectErrorKind::Other, PANICKED)))
    }

    fn count_abandoned(&self) -> usize {
        let mut abandoned = self.abandoned.lock();
        abandoned.retain(|running| running.strong_count() > 0);
        abandoned.len()
    }
}

fn not_started(what: &str, error: &io::Error) -> ConnectError {
    let message = format!("no {what} for the verification: {error}");
    ConnectError::new(ConnectErrorKind::Other, message)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// Returns work that blocks its thread until the sender is dropped.
    fn stuck() -> (
        mpsc::Sender<()>,
        impl Future<Output = Result<(), ConnectError>> + Send + 'static,
    ) {
        let (go, gone) = mpsc::channel::<()>();
        (go, async move {
            // Blocks the thread, as a computation does.
            let _ = gone.recv();
            Ok(())
        })
    }

    #[tokio::test]
    async fn abandoned_verifications_are_bounded_until_they_end() {
        let verifier = Verifier::default();
        let mut senders = Vec::new();
        for _ in 0..MAX_ABANDONED {
            let (go, work) = stuck();
            tokio::time::timeout(Duration::from_millis(50), verifier.run(work))
                .await
                .unwrap_err();
            senders.push(go);
        }
        let error = verifier.run(async { Ok(()) }).await.unwrap_err();
        assert_eq!(error.kind(), ConnectErrorKind::Unreachable);
        assert!(error.message().contains("still compute"), "{error}");
        drop(senders);
        while verifier.count_abandoned() > 0 {
            tokio::task::yield_now().await;
        }
        verifier.run(async { Ok(()) }).await.unwrap();
    }

    #[tokio::test]
    async fn work_that_waits_ends_with_its_caller() {
        let verifier = Verifier::default();
        tokio::time::timeout(
            Duration::from_millis(50),
            verifier.run(std::future::pending()),
        )
        .await
        .unwrap_err();
        while verifier.count_abandoned() > 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_panic_is_an_error() {
        let error = Verifier::default()
            .run(async { std::panic::resume_unwind(Box::new("gone")) })
            .await
            .unwrap_err();
        assert!(error.message().contains("panicked"), "{error}");
    }
}
