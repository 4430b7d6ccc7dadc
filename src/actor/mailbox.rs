//! How tasks and callers reach an actor whose incarnations come and go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ractor::ActorRef;

use crate::lock::{Mutex, MutexGuard};

/// The one message: look at your slot.
#[derive(Debug)]
pub(crate) struct Look;

/// The address of the present incarnation. At most one [`Look`] is queued: mailboxes are unbounded,
/// attention is not.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    actor: Mutex<Option<ActorRef<Look>>>,
    queued: AtomicBool,
    /// Restarts of the actor.
    restarts: Arc<AtomicU64>,
}

impl Mailbox {
    /// Asks the actor to look. Nobody there: the next incarnation looks first thing.
    pub(crate) fn poke(&self) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let sent = self
            .lock()
            .as_ref()
            .is_some_and(|actor| actor.cast(Look).is_ok());
        if !sent {
            self.queued.store(false, Ordering::Release);
        }
    }

    /// A new incarnation lives here.
    pub(super) fn move_in(&self, actor: ActorRef<Look>) {
        *self.lock() = Some(actor);
        self.queued.store(false, Ordering::Release);
        self.poke();
    }

    /// The message was taken: what is noted from now on needs another.
    pub(super) fn taken(&self) {
        self.queued.store(false, Ordering::Release);
    }

    pub(crate) fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Acquire)
    }

    pub(super) fn restarted(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.restarts)
    }

    fn lock(&self) -> MutexGuard<'_, Option<ActorRef<Look>>> {
        self.actor.lock()
    }
}
