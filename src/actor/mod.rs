//! Actors as shells: a slot keeps the state, pure functions decide, and a crash costs one
//! reconciliation.

mod budget;
mod mailbox;
mod root;
mod shell;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use mailbox::Mailbox;
pub(crate) use root::{Child, RootRef};

/// Longest time between two reconciliations, and so the most that a lost wake-up costs.
pub(crate) const RECONCILE_EVERY: Duration = Duration::from_secs(15);

/// The state of an actor. It outlives the actor; the next one resumes it.
pub(crate) trait Slot: Send + Sync + 'static {
    /// Name of its provider or pool.
    fn name(&self) -> &Arc<str>;
    /// Address of the running actor.
    fn mailbox(&self) -> &Mailbox;
    /// Reads the noted changes, decides, and starts tasks. Never waits. Returns the time until the
    /// next reconciliation.
    fn reconcile(self: &Arc<Self>) -> Option<Duration>;
}
