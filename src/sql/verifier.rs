//! Runs each verification on a thread of its own. A server can make the driver compute without end,
//! which no time-out interrupts.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, AtomicU8, Ordering};
use std::thread;

use tokio::runtime;
use tokio::sync::oneshot;
use tracing::dispatcher;

use crate::error::{ConnectError, ConnectErrorKind};

/// Maximum number of abandoned verifications of one pool that still compute.
const MAX_ABANDONED: isize = 2;

/// The message of the error after a panic.
pub(crate) const PANICKED: &str = "the verification panicked; see the panic message";

const RUNNING: u8 = 0;
const ABANDONED: u8 = 1;
const ENDED: u8 = 2;

/// Runs a pool's verifications. Clones share the count of abandoned ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verifier {
    abandoned: Arc<AtomicIsize>,
}

/// State that a verification's thread shares with its caller.
struct VerificationState {
    phase: AtomicU8,
    abandoned: Arc<AtomicIsize>,
}

/// Guard of the caller. Its drop marks a running verification as abandoned.
struct CallerGuard(Arc<VerificationState>);

impl Drop for CallerGuard {
    fn drop(&mut self) {
        let phase = &self.0.phase;
        if phase
            .compare_exchange(RUNNING, ABANDONED, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
        {
            self.0.abandoned.fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// Guard of the thread. Its drop marks the verification as ended, also after a panic.
struct ThreadGuard(Arc<VerificationState>);

impl Drop for ThreadGuard {
    fn drop(&mut self) {
        if self.0.phase.swap(ENDED, Ordering::AcqRel) == ABANDONED {
            self.0.abandoned.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Verifier {
    /// Runs the work on a new thread, and returns its result.
    ///
    /// # Errors
    /// Those of the work. [`ConnectErrorKind::Unreachable`] while two abandoned verifications still
    /// compute. [`ConnectErrorKind::Other`] after a panic, or if no thread can be started.
    ///
    /// # Cancel safety
    /// The work is dropped when it next waits. If it computes instead, its thread continues until
    /// it is done, and the process may end meanwhile.
    pub(crate) async fn run(
        &self,
        work: impl Future<Output = Result<(), ConnectError>> + Send + 'static,
    ) -> Result<(), ConnectError> {
        if self.abandoned.load(Ordering::Acquire) >= MAX_ABANDONED {
            let message = "earlier verifications still compute the server's login challenge; \
                           check which server listens at this address";
            return Err(ConnectError::new(ConnectErrorKind::Unreachable, message));
        }
        let shared = Arc::new(VerificationState {
            phase: AtomicU8::new(RUNNING),
            abandoned: Arc::clone(&self.abandoned),
        });
        let thread_guard = ThreadGuard(Arc::clone(&shared));
        // Without a subscriber, `tracing` writes to the `log` crate, which a scoped one would
        // silence permanently.
        let subscriber = dispatcher::has_been_set().then(|| dispatcher::get_default(Clone::clone));
        let (mut result, received) = oneshot::channel();
        let body = move || {
            let thread_guard = thread_guard;
            let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => {
                    return drop(result.send(Err(ConnectError::new(
                        ConnectErrorKind::Other,
                        format!("no runtime for the verification: {error}"),
                    ))));
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
            drop(thread_guard);
            if let Some(outcome) = outcome {
                // The caller may have gone.
                let _ = result.send(outcome);
            }
            // Does not wait, because a name resolution may hang in a thread of this runtime.
            runtime.shutdown_background();
        };
        let caller_guard = CallerGuard(shared);
        // Detached: neither the runtime nor the process waits for it.
        thread::Builder::new()
            .name("claviger-verify".to_owned())
            .spawn(body)
            .map_err(|error| {
                ConnectError::new(
                    ConnectErrorKind::Other,
                    format!("no thread for the verification: {error}"),
                )
            })?;
        let outcome = received.await;
        drop(caller_guard);
        outcome.unwrap_or_else(|_| Err(ConnectError::new(ConnectErrorKind::Other, PANICKED)))
    }
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
        while verifier.abandoned.load(Ordering::Acquire) > 0 {
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
        while verifier.abandoned.load(Ordering::Acquire) > 0 {
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
