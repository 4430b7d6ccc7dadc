//! Waiting for a connection that another caller returns. Pools do not report returned connections.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::admission::HEAD_START;
use super::checks::Taken;
use super::factory::PoolFactory;
use super::generation::{Generation, Shared};

/// Most acquires of one caller at a time, because each may become a login.
const MAX_ACQUIRES: usize = 2;

/// Takes a connection that is returned. Callers in the queue get it first. If the server counts
/// aborted logins, uses `try_get`, which begins no login and calls no hook before the acquire.
pub(super) async fn take_returned<F: PoolFactory>(
    shared: &Shared<F>,
    generation: &Generation<F::Pool>,
) -> Result<Taken<F::Connection>, F::Error> {
    let mut backoff = Backoff::default();
    let mut getting = Vec::new();
    loop {
        if getting.len() < MAX_ACQUIRES {
            let returned = until_idle_connection(shared, &generation.pool);
            if let Some(result) = first_of(&mut getting, returned).await {
                return result;
            }
        }
        let pause = if shared.admission.has_queue() {
            backoff.next()
        } else if shared.settings.finishes_logins {
            match shared.factory.try_get(&generation.pool) {
                Some(connection) => return Ok(connection),
                None => Instant::now() + POLL_FIRST,
            }
        } else {
            if getting.len() < MAX_ACQUIRES {
                // Boxed, because it is large and seldom needed.
                getting.push(Box::pin(shared.factory.get(&generation.pool)));
            }
            // If another caller takes the connection, this acquire becomes a login. The next
            // returned connection may be available before that login ends.
            Instant::now() + HEAD_START
        };
        if let Some(result) = first_of(&mut getting, sleep_until(pause)).await {
            return result;
        }
    }
}

/// Resolves with the first result of these acquires, or with `None` when `other` has ended first.
async fn first_of<T>(
    getting: &mut [Pin<Box<impl Future<Output = T>>>],
    other: impl Future<Output = ()>,
) -> Option<T> {
    let first = poll_fn(|context| {
        for one in getting.iter_mut() {
            if let Poll::Ready(result) = one.as_mut().poll(context) {
                return Poll::Ready(result);
            }
        }
        Poll::Pending
    });
    tokio::select! {
        biased;
        result = first => Some(result),
        () = other => None,
    }
}

/// Takes the next returned connection while an acquire of an idle one takes long. Another caller
/// then got the idle connection, and the acquire has become a login.
pub(super) async fn take_next_returned<F: PoolFactory>(
    shared: &Shared<F>,
    generation: &Generation<F::Pool>,
) -> Result<Taken<F::Connection>, F::Error> {
    sleep(HEAD_START).await;
    take_returned(shared, generation).await
}

/// Resolves when a connection is idle.
pub(super) async fn until_idle_connection<F: PoolFactory>(shared: &Shared<F>, pool: &F::Pool) {
    let mut backoff = Backoff::default();
    while shared.factory.idle(pool) == 0 {
        sleep_until(backoff.next()).await;
    }
}

/// First pause between two attempts. Each pause is twice the one before.
const POLL_FIRST: Duration = Duration::from_millis(1);
/// Longest pause between two attempts.
const MAX_POLL: Duration = Duration::from_millis(16);

/// Pauses between two attempts to take a returned connection.
pub(super) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(POLL_FIRST)
    }
}

impl Backoff {
    pub(super) fn next(&mut self) -> Instant {
        let at = Instant::now() + self.0;
        self.0 = (self.0 * 2).min(MAX_POLL);
        at
    }
}
