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
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::admission::{HEAD_START, Permit};
use super::call::PoolResult;
use super::checks::Taken;
use super::connection_guard::give_back;
use super::explain::note_login_error;
use super::factory::{AcquireError, PoolFactory};
use super::generation::{Generation, Shared};
use super::openings::{Openings, Permits, WITHOUT_CALLER, with_head_start};

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
    log_in(shared, generation, permits, None, over, limit).await
}

/// Opens a connection with a permit of the admission control. Returns `None` when the caller should
/// try again.
pub(super) async fn open<F: PoolFactory>(
    shared: &Arc<Shared<F>>,
    generation: &Arc<Generation<F::Pool>>,
    permit: Permit<F::Pool>,
    over: Pin<&mut Notified<'_>>,
    limit: Instant,
) -> Option<PoolResult<F>> {
    log_in(shared, generation, (None, None), Some(permit), over, limit).await
}

/// Acquires a connection from the pool, which may log in. Uses a returned connection instead if
/// there is one earlier; the login then continues for a later call.
async fn log_in<F: PoolFactory>(
    shared: &Arc<Shared<F>>,
    generation: &Arc<Generation<F::Pool>>,
    permits: Permits,
    admitted: Option<Permit<F::Pool>>,
    over: Pin<&mut Notified<'_>>,
    limit: Instant,
) -> Option<PoolResult<F>> {
    let opened = would_open_connection(shared, generation);
    let openings = &generation.lifecycle.openings;
    let head_start = opened.then(|| openings.head_start(shared.clock.mono()));
    let (factory, pool) = (Arc::clone(&shared.factory), generation.pool.clone());
    let mut attempt = DetachableLogin {
        acquiring: Some(Box::pin(async move {
            with_head_start(factory.get(&pool), permits, head_start).await
        })),
        admitted,
        shared,
        generation,
        // In a full pool the caller only queues, so nothing is lost.
        continues_alone: opened || shared.settings.finishes_logins,
        opened,
    };
    // Returned connections are for the queue, if there is one.
    let mut idle = std::pin::pin!(async {
        if opened && !shared.admission.has_queue() {
            take_returned(shared, generation).await
        } else {
            std::future::pending().await
        }
    });
    let (result, permits, opened) = tokio::select! {
        biased;
        () = over => {
            shared.note_moved();
            return None;
        }
        (result, permits) = attempt.acquire() => (result, permits, opened),
        result = idle.as_mut() => (result, None, false),
        () = sleep_until(limit) => return None,
    };
    // Noted before the next login gets a permit.
    let result = note_result(shared, generation, result, opened);
    drop((permits, attempt));
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
    wait_for_login_without_caller(shared, generation).await;
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

/// Waits for the connection of a login that continues without its caller, if not as many calls wait
/// for such logins already. After [`HEAD_START`], the call logs in itself: a slow login delays
/// nobody for long.
async fn wait_for_login_without_caller<F: PoolFactory>(
    shared: &Shared<F>,
    generation: &Generation<F::Pool>,
) {
    let Some(mut claim) = generation.lifecycle.openings.claim() else {
        return;
    };
    let end = Instant::now() + HEAD_START;
    let mut pace = Pace::default();
    while would_open_connection(shared, generation) && claim.is_valid() && Instant::now() < end {
        sleep_until(pace.next()).await;
    }
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
    admitted: Option<Permit<F::Pool>>,
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
    let now = shared.clock.mono();
    openings.note_success(now);
    if let Some(control_plane) = shared.control_plane() {
        control_plane.login_worked(generation);
    }
    // A login of an old generation does not lift the limits of the current one.
    if shared.current().number == generation {
        shared.admission.note_opened(now);
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
        let (opened, admitted) = (self.opened, self.admitted.take());
        // Without a runtime, the login cannot continue.
        let Ok(runtime) = Runtime::try_current() else {
            return;
        };
        let (shared, generation) = (Arc::clone(self.shared), Arc::clone(self.generation));
        let unclaimed = opened.then(|| generation.lifecycle.openings.note_unclaimed());
        runtime.spawn(async move {
            let (result, permits) = match timeout(WITHOUT_CALLER, acquiring).await {
                Ok(got) => got,
                Err(_) => (Err(shared.factory.error(AcquireError::TimedOut)), None),
            };
            let result = note_result(&shared, &generation, result, opened);
            // Before the connection is returned, because that may be slow.
            drop((permits, admitted));
            if let Ok(taken) = result {
                give_back(&shared, taken.connection).await;
            }
            drop(unclaimed);
        });
    }
}
