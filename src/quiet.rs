//! For providers: silence while a dependency runs that writes secrets at TRACE.
//!
//! A scoped subscriber is used only where a global one is set. Where none is, `tracing` writes to the `log` crate, and one scoped subscriber would silence that for the
//! whole process and for good. A provider whose dependencies show a secret there has to do without them then; a test with a logger at TRACE tells.

use std::future::Future;

use tracing::dispatcher::{self, Dispatch};
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;

/// Whether this process is silenced by [`run`] and [`during`]; otherwise they change nothing.
pub fn is_possible() -> bool {
    dispatcher::has_been_set()
}

/// Runs the work in silence.
///
/// ```
/// let client = claviger::quiet::run(|| "made in silence");
/// assert_eq!(client, "made in silence");
/// ```
pub fn run<T>(work: impl FnOnce() -> T) -> T {
    if is_possible() { dispatcher::with_default(&silence(), work) } else { work() }
}

/// Runs the future in silence.
///
/// # Cancel safety
/// That of the future.
pub async fn during<T>(work: impl Future<Output = T>) -> T {
    if is_possible() { work.with_subscriber(silence()).await } else { work.await }
}

fn silence() -> Dispatch {
    Dispatch::new(NoSubscriber::default())
}
