//! Address of an actor that may be restarted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ractor::ActorRef;

use crate::lock::Mutex;

/// The one message: reconcile the slot.
#[derive(Debug)]
pub(crate) struct Wake;

/// The address of the running actor. At most one [`Wake`] is queued, because mailboxes are
/// unbounded.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    actor: Mutex<Option<ActorRef<Wake>>>,
    queued: AtomicBool,
    /// Restarts of the actor.
    restarts: Arc<AtomicU64>,
}

impl Mailbox {
    /// Wakes the actor. While none is running, the next one reconciles at its start.
    pub(crate) fn wake(&self) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let sent = self
            .actor
            .lock()
            .as_ref()
            .is_some_and(|actor| actor.cast(Wake).is_ok());
        if !sent {
            self.queued.store(false, Ordering::Release);
        }
    }

    /// Sets the address of an actor that starts, and wakes it.
    pub(super) fn started(&self, actor: ActorRef<Wake>) {
        *self.actor.lock() = Some(actor);
        self.queued.store(false, Ordering::Release);
        self.wake();
    }

    /// Notes that the message was received: later changes need another.
    pub(super) fn received(&self) {
        self.queued.store(false, Ordering::Release);
    }

    pub(crate) fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Acquire)
    }

    pub(super) fn restarted(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.restarts)
    }
}
