//! A caller's login, which continues when its caller is cancelled.
//!
//! MySQL counts an aborted login against the host, and the login's result would be lost. Without a
//! caller, the connection is returned to the pool, and a rejection is reported to the control
//! plane.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle as Runtime;
use tokio::sync::futures::Notified;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::admission::Permit;
use super::call::PoolResult;
use super::checks::Taken;
use super::connection_guard::give_back;
use super::explain::note_login_error;
use super::factory::{AcquireError, PoolFactory};
use super::generation::{Generation, Shared};
use super::openings::{Openings, Permits, WITHOUT_CALLER, left_alone, with_head_start};

type Acquiring<F> = Pin<Box<dyn Future<Output = AcquiredWith<F>> + Send>>;
type AcquiredWith<F> = (
    Result<Taken<<F as PoolFactory>::Connection>, <F as PoolFactory>::Error>,
    Option<Permits>,
);

/// Waits in the pool for a connection, which may take a login. Returns `None` when the generation
/// is over or the limit has passed.
pub(super) async fn connect<F: PoolFactory>(
    shared: &Arc<Shared<F>>,
    generation: &Arc<Generation<F::Pool>>,
    mut over: Pin<&mut Notified<'_>>,
    limit: Instant,
) -> Option<PoolResult<F>> {
    let permits = tokio::select! {
        biased;
        // First, because the caller that left its place may have been rejected.
        () = over.as_mut() => {
            shared.note_moved();
            return None;
        }
        permits = wait_for_permits(shared, generation) => permits,
        () = sleep_until(limit) => return None,
    };
    // Logins may be limited by now, or the server full.
    if !shared.admission.is_open() {
        return None;
    }
    let opened = would_open_connection(shared, generation);
    let openings = &generation.lifecycle.openings;
    let head_start = opened.then(|| openings.head_start(shared.clock.mono()));
    let (factory, pool) = (Arc::clone(&shared.factory), generation.pool.clone());
    let mut attempt = DetachableLogin {
        acquiring: Some(Box::pin(async move {
            with_head_start(factory.get(&pool), permits, head_start).await
        })),
        shared,
        generation,
        // In a full pool the caller only queues, so nothing is lost.
        continues_alone: opened || shared.settings.finishes_logins,
        opened,
    };
    // A connection that is returned before a slow login ends is used instead.
    let mut idle = std::pin::pin!(async {
        if opened {
            take_returned(shared, generation).await
        } else {
            std::future::pending().await
        }
    });
    let (result, permits, opened) = tokio::select! {
        biased;
        () = over.as_mut() => {
            shared.note_moved();
            return None;
        }
        (result, permits) = attempt.acquire() => (result, permits, opened),
        result = idle.as_mut() => (result, None, false),
        () = sleep_until(limit) => return None,
    };
    let result = note_result(shared, generation, result, opened);
    drop(permits);
    Some(PoolResult { result, opened })
}

/// Returns whether a call to the pool opens a connection: it has room, and none is idle.
fn would_open_connection<F: PoolFactory>(
    shared: &Shared<F>,
    generation: &Generation<F::Pool>,
) -> bool {
    let (factory, pool) = (&shared.factory, &generation.pool);
    factory.idle(pool) == 0 && factory.connections(pool) < shared.settings.max_connections
}

/// Resolves with the permits to enter the pool: none when a connection is idle.
async fn wait_for_permits<F: PoolFactory>(
    shared: &Shared<F>,
    generation: &Generation<F::Pool>,
) -> Permits {
    if shared.factory.idle(&generation.pool) > 0 {
        return (None, None);
    }
    let place = generation.lifecycle.openings.place().await;
    if !would_open_connection(shared, generation) {
        return (place, None);
    }
    let ahead = tokio::select! {
        ahead = generation.lifecycle.openings.go_ahead(|| shared.clock.mono()) => ahead,
        () = until_idle_connection(shared, &generation.pool) => None,
    };
    (place, ahead)
}

/// First and longest pause between two attempts of a caller at the front; doubled each time. Pools
/// do not report returned connections.
const POLL_FIRST: Duration = Duration::from_millis(1);
const POLL_LONGEST: Duration = Duration::from_millis(16);

/// Pauses between two attempts to take a returned connection.
pub(super) struct Pace(Duration);

impl Default for Pace {
    fn default() -> Self {
        Self(POLL_FIRST)
    }
}

impl Pace {
    pub(super) fn next(&mut self) -> Instant {
        let at = Instant::now() + self.0;
        self.0 = (self.0 * 2).min(POLL_LONGEST);
        at
    }
}

/// Takes a connection that is returned. Where the server counts aborted logins, uses `try_get`,
/// which begins no login. A hook before the acquire is not called there.
async fn take_returned<F: PoolFactory>(
    shared: &Shared<F>,
    generation: &Generation<F::Pool>,
) -> Result<Taken<F::Connection>, F::Error> {
    loop {
        until_idle_connection(shared, &generation.pool).await;
        if !shared.settings.finishes_logins {
            // Boxed, because it is large and seldom needed.
            return Box::pin(shared.factory.get(&generation.pool)).await;
        }
        match shared.factory.try_get(&generation.pool) {
            Some(connection) => return Ok(connection),
            None => sleep(POLL_FIRST).await,
        }
    }
}

/// Resolves when a connection is idle.
async fn until_idle_connection<F: PoolFactory>(shared: &Shared<F>, pool: &F::Pool) {
    let mut pace = Pace::default();
    while shared.factory.idle(pool) == 0 {
        sleep_until(pace.next()).await;
    }
}

/// An acquire that continues in a task of its own when its caller drops it.
struct DetachableLogin<'c, F: PoolFactory> {
    acquiring: Option<Acquiring<F>>,
    shared: &'c Arc<Shared<F>>,
    generation: &'c Arc<Generation<F::Pool>>,
    continues_alone: bool,
    opened: bool,
}

/// Notes that a login worked. Logins that wait for it begin, and other pools of the user are
/// notified.
pub(super) fn note_worked<F: PoolFactory>(
    shared: &Shared<F>,
    openings: &Openings,
    generation: u64,
) {
    openings.note_success(shared.clock.mono());
    if let Some(control_plane) = shared.control_plane() {
        control_plane.login_worked(generation);
    }
}

/// Notes the result of an acquire: an error, or that the login for which it `opened` a connection
/// worked. Returns it for the caller.
fn note_result<F: PoolFactory>(
    shared: &Shared<F>,
    generation: &Generation<F::Pool>,
    result: Result<Taken<F::Connection>, F::Error>,
    opened: bool,
) -> Result<Taken<F::Connection>, F::Error> {
    if opened && result.is_ok() {
        note_worked(shared, &generation.lifecycle.openings, generation.number);
    }
    result.map_err(|error| note_login_error(shared, generation.number, error))
}

impl<F: PoolFactory> DetachableLogin<'_, F> {
    async fn acquire(&mut self) -> AcquiredWith<F> {
        let Some(acquiring) = &mut self.acquiring else {
            return (Err(self.shared.factory.error(AcquireError::Closed)), None);
        };
        let got = acquiring.await;
        self.acquiring = None;
        got
    }
}

impl<F: PoolFactory> Drop for DetachableLogin<'_, F> {
    fn drop(&mut self) {
        let Some(acquiring) = self.acquiring.take().filter(|_| self.continues_alone) else {
            return;
        };
        let opened = self.opened;
        // Without a runtime, the login cannot continue.
        let Ok(runtime) = Runtime::try_current() else {
            return;
        };
        let (shared, generation) = (Arc::clone(self.shared), Arc::clone(self.generation));
        runtime.spawn(async move {
            let (result, permits) = match timeout(WITHOUT_CALLER, acquiring).await {
                Ok(got) => got,
                Err(_) => (Err(shared.factory.error(AcquireError::TimedOut)), None),
            };
            let result = note_result(&shared, &generation, result, opened);
            // Before the connection is returned, because that may be slow.
            drop(permits);
            if let Ok(taken) = result {
                give_back(&shared, taken.connection).await;
            }
        });
    }
}

/// Opens a connection with a permit, in a task of its own. Returns `None` when the caller should
/// try again.
pub(super) async fn open<F: PoolFactory>(
    shared: &Arc<Shared<F>>,
    generation: &Arc<Generation<F::Pool>>,
    permit: Permit<F::Pool>,
    over: Pin<&mut Notified<'_>>,
    limit: Instant,
) -> Option<PoolResult<F>> {
    let (mut reply, got) = oneshot::channel();
    let task = {
        let (shared, generation) = (Arc::clone(shared), Arc::clone(generation));
        async move {
            let opened = would_open_connection(&shared, &generation);
            let result = tokio::select! {
                biased;
                got = shared.factory.get(&generation.pool) => got,
                () = left_alone(&mut reply) => return,
            };
            // Reported before the next login gets a permit.
            let result = note_result(&shared, &generation, result, opened);
            if opened && result.is_ok() {
                shared.admission.note_opened(shared.clock.mono());
            }
            drop(permit);
            if let Err(PoolResult {
                result: Ok(taken), ..
            }) = reply.send(PoolResult { result, opened })
            {
                give_back(&shared, taken.connection).await;
            }
        }
    };
    tokio::spawn(task);
    // Returned connections are for the queue, if there is one.
    let idle = async {
        if shared.admission.has_queue() {
            std::future::pending().await
        } else {
            take_returned(shared, generation).await
        }
    };
    tokio::select! {
        biased;
        got = got => got.ok(),
        () = over => {
            shared.note_moved();
            None
        }
        result = idle => {
            let result = note_result(shared, generation, result, false);
            Some(PoolResult { result, opened: false })
        }
        () = sleep_until(limit) => None,
    }
}
