//! Silence while something runs that writes secrets at TRACE.
//!
//! A scoped subscriber is used only where a global one is set. Where none is, `tracing` writes to the `log` crate, and one scoped subscriber would switch that off for
//! the whole process and for good; what runs here then writes through `log` only what the canary test has looked at.

use std::future::Future;

use tracing::dispatcher::{self, Dispatch};
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;

pub(super) fn run<T>(work: impl FnOnce() -> T) -> T {
    if dispatcher::has_been_set() { dispatcher::with_default(&silence(), work) } else { work() }
}

pub(super) async fn during<T>(work: impl Future<Output = T>) -> T {
    if dispatcher::has_been_set() { work.with_subscriber(silence()).await } else { work.await }
}

fn silence() -> Dispatch {
    Dispatch::new(NoSubscriber::default())
}
