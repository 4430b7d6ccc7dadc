//! The [`Provider`] trait, and what runs a provider.
//!
//! The machine decides, and the driver carries its effects out. The slot stores both, so that they
//! survive a crash of the actor.

mod driver;
mod erased;
mod fetched;
mod hints;
mod log;
pub(crate) mod machine;
mod plugin;
mod rehearse;
pub(crate) mod schedule;
mod simple;
mod slot;
mod supervised;
mod tasks;
mod watch;

pub(crate) use driver::{ManualRequest, NotRotated};
pub(crate) use erased::{BoxFuture, ErasedProvider};
pub(crate) use slot::{LeaseGuard, ProviderSlot, Subscriber};
pub(crate) use supervised::ProviderObject;
pub(crate) use watch::spawn as spawn_watch;

pub use crate::clock::Clock;
pub use crate::failure_log::FailureLog;
pub use fetched::Fetched;
pub use hints::Hints;
pub use plugin::{FetchRequest, Provider};
pub use simple::{ProviderFn, StaticCredentials, provider_fn, static_credentials};
