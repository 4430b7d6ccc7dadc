//! Actors as shells: what they know is in a slot, what follows from it is decided by pure
//! functions, and a crash costs one turn.

mod budget;
mod mailbox;
mod root;
mod shell;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use mailbox::Mailbox;
pub(crate) use root::{Child, Root};

/// How long a lost poke may cost: every actor looks at least this often.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(15);

/// What an actor keeps. It outlives the actor: a new incarnation picks it up.
pub(crate) trait Slot: Send + Sync + 'static {
    /// Whose slot it is.
    fn name(&self) -> &Arc<str>;
    /// Where the present incarnation is reached.
    fn mailbox(&self) -> &Mailbox;
    /// One turn: look at what was noted, decide, start tasks. Never waits. Answers when to look
    /// again.
    fn turn(self: &Arc<Self>) -> Option<Duration>;
}
