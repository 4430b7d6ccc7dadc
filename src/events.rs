//! Events, sent to every reader without waiting for slow ones.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;

use crate::error::{ConnectError, ProviderError};
use crate::lock::Mutex;
use crate::report::{HandoverReport, RotationReport};

/// Number of events that a slow reader may lag behind before it misses some.
const CAPACITY: usize = 1_024;

/// An event. Sent to every reader; never carries a secret.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A rotation ended.
    Rotated(RotationReport),
    /// A pool published a new generation.
    HandedOver(HandoverReport),
    /// The database rejected a pool's credential.
    Rejected {
        /// The pool.
        pool: Arc<str>,
        /// The generation whose credential it was.
        generation: u64,
        /// The error of the database.
        error: ConnectError,
    },
    /// A fetch failed; the current lease stays in use.
    FetchFailed {
        /// The provider.
        provider: Arc<str>,
        /// The cause.
        error: ProviderError,
    },
    /// A lease could not be verified; the current generation stays in use.
    VerificationFailed {
        /// The pool.
        pool: Arc<str>,
        /// The cause.
        error: ConnectError,
    },
    /// The last connection of an old generation is gone.
    Drained {
        /// The pool.
        pool: Arc<str>,
        /// The old generation.
        generation: u64,
        /// Time that the drain took.
        took: Duration,
    },
    /// Connections of an old generation are still open at its drain deadline. They are not cut.
    DrainAbandoned {
        /// The pool.
        pool: Arc<str>,
        /// The old generation.
        generation: u64,
        /// Number of its connections.
        connections: u32,
    },
    /// A provider is held: its current lease stays.
    Held {
        /// The provider.
        provider: Arc<str>,
    },
    /// The hold of a provider ended.
    Resumed {
        /// The provider.
        provider: Arc<str>,
    },
    /// An actor of the library failed and was restarted.
    Restarted {
        /// The provider or pool whose actor it was.
        actor: Arc<str>,
    },
    /// Number of events that this slow reader missed.
    Missed(u64),
}

/// A reader of events.
///
/// ```
/// use claviger::Supervisor;
/// use claviger::events::Event;
///
/// async fn print(supervisor: &Supervisor) {
///     let mut events = supervisor.events();
///     while let Some(event) = events.next().await {
///         match event {
///             Event::Rotated(report) => {
///                 let outcome = report.outcome.as_str();
///                 println!("{}: {outcome} in {:?}", report.provider, report.took);
///             }
///             Event::Rejected { pool, error, .. } => eprintln!("{pool}: {error}"),
///             Event::Missed(events) => eprintln!("{events} events were missed"),
///             _ => {}
///         }
///     }
/// }
/// ```
#[derive(Debug)]
#[must_use = "events are sent to readers that exist at the time"]
pub struct Events(broadcast::Receiver<Event>);

impl Events {
    /// Returns the next event; `None` after shutdown.
    ///
    /// # Cancel safety
    /// No event is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Event> {
        match self.0.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Event::Missed(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// The sender of events.
#[derive(Clone, Debug)]
pub(crate) struct EventHub(Arc<Mutex<Option<broadcast::Sender<Event>>>>);

impl Default for EventHub {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Some(broadcast::Sender::new(CAPACITY)))))
    }
}

impl EventHub {
    /// Sends to all readers, if there are any.
    pub(crate) fn send(&self, event: Event) {
        // Sent without the lock, because sending wakes readers.
        let sender = self.0.lock().clone();
        if let Some(sender) = sender {
            let _ = sender.send(event);
        }
    }

    pub(crate) fn subscribe(&self) -> Events {
        let receiver = match self.0.lock().as_ref() {
            Some(sender) => sender.subscribe(),
            // Closed: the reader gets `None` at once.
            None => broadcast::Sender::new(1).subscribe(),
        };
        Events(receiver)
    }

    /// Closes the hub: readers get the events sent so far, then `None`.
    pub(crate) fn close(&self) {
        let last = self.0.lock().take();
        drop(last);
    }
}
