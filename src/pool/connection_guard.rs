//! A connection that a call on a handle uses, and its return when the call is cancelled.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle as Runtime;
use tokio::time::{Instant, timeout, timeout_at};

use super::factory::{Check, PoolFactory};
use super::generation::Shared;

/// Timeout for the return of a connection whose call was cancelled. Without it, a connection that
/// the network dropped would keep its place in the pool forever.
pub(crate) const RETURN_TIMEOUT: Duration = Duration::from_secs(10);

/// State of a call that uses a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallState {
    /// A request is being sent or its response read.
    Running,
    /// The rest of the response is read on return.
    Paused,
    Ended,
}

/// A connection that is returned to its pool on drop. If the call was cancelled while it ran, the
/// connection is returned after its response was read, or closed: see
/// [`reuses_cancelled`](super::PoolSettings::reuses_cancelled).
pub(crate) struct ConnectionGuard<'s, F: PoolFactory> {
    shared: &'s Arc<Shared<F>>,
    connection: Option<F::Connection>,
    state: CallState,
}

impl<'s, F: PoolFactory> ConnectionGuard<'s, F> {
    pub(crate) fn new(shared: &'s Arc<Shared<F>>, connection: F::Connection) -> Self {
        Self {
            shared,
            connection: Some(connection),
            state: CallState::Running,
        }
    }

    /// Returns the connection and the state of its call. Never `None` before the drop.
    pub(crate) fn parts(&mut self) -> Option<(&mut F::Connection, &mut CallState)> {
        Some((self.connection.as_mut()?, &mut self.state))
    }

    /// Notes that the call has ended.
    pub(crate) fn end(mut self) {
        self.state = CallState::Ended;
    }
}

/// Checks a connection until the deadline at most. One that fails is discarded; its error is
/// returned if there is one.
pub(super) async fn check<F: PoolFactory>(
    shared: &Arc<Shared<F>>,
    connection: F::Connection,
    check: Check,
    deadline: Instant,
) -> Result<F::Connection, Option<F::Error>> {
    let mut guard = ConnectionGuard::new(shared, connection);
    let (connection, _) = guard.parts().ok_or(None)?;
    let checking = shared.factory.check_connection(connection, check);
    let result = timeout_at(deadline, checking).await;
    let connection = guard.connection.take().ok_or(None)?;
    let error = match result {
        Ok(Ok(())) => return Ok(connection),
        Ok(Err(error)) => Some(error),
        Err(_) => None,
    };
    shared.factory.discard(connection);
    Err(error)
}

impl<F: PoolFactory> Drop for ConnectionGuard<'_, F> {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        let runtime = match self.state {
            // The usual case: the drop returns it to the pool.
            CallState::Ended if !self.shared.admission.has_queue() => return drop(connection),
            CallState::Running if !self.shared.settings.reuses_cancelled => None,
            _ => Runtime::try_current().ok(),
        };
        let Some(runtime) = runtime else {
            self.shared.factory.discard(connection);
            return self.shared.admission.wake_front();
        };
        let shared = Arc::clone(self.shared);
        runtime.spawn(async move { give_back(&shared, connection).await });
    }
}

/// Returns a connection to its pool, or closes it when that takes too long, and wakes the first in
/// the queue.
pub(crate) async fn give_back<F: PoolFactory>(shared: &Shared<F>, connection: F::Connection) {
    // After the timeout it is closed, and its place is free.
    let _ = timeout(RETURN_TIMEOUT, shared.factory.give_back(connection)).await;
    shared.admission.wake_front();
}
