//! Silences dependencies of providers that write secrets at TRACE.
//!
//! A scoped subscriber is used only if a global one is set. Without one, `tracing` writes to the
//! `log` crate, and a scoped subscriber would silence that for the whole process permanently. In
//! such a process, a provider must not use dependencies that log secrets. A test with a logger at
//! TRACE shows whether they do.

use std::future::Future;

use tracing::dispatcher::{self, Dispatch};
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;

/// Returns whether [`call_quietly`] and [`await_quietly`] silence this process; otherwise they
/// change nothing.
pub fn is_possible() -> bool {
    dispatcher::has_been_set()
}

/// Runs the work without `tracing` output.
///
/// ```
/// let client = claviger::quiet::call_quietly(|| "made in silence");
/// assert_eq!(client, "made in silence");
/// ```
pub fn call_quietly<T>(work: impl FnOnce() -> T) -> T {
    if is_possible() {
        dispatcher::with_default(&silence(), work)
    } else {
        work()
    }
}

/// Runs the future without `tracing` output.
///
/// # Cancel safety
/// That of the future.
pub async fn await_quietly<T>(work: impl Future<Output = T>) -> T {
    if is_possible() {
        work.with_subscriber(silence()).await
    } else {
        work.await
    }
}

fn silence() -> Dispatch {
    Dispatch::new(NoSubscriber::default())
}
