//! A caller's login: one that has begun ends by itself, whatever becomes of the caller.
//!
//! A login that is broken off is counted by MySQL against the host, and what the database would
//! have said to it nobody hears. So it goes on without its caller, and what comes of it is taken
//! in: a connection by the pool, a rejection by the control plane.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{Database, Error, Pool};
use tokio::runtime::Handle as Runtime;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::futures::Notified;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::acquire::hear_login;
use super::queue::Pace;
use crate::pool::{Generation, LEAD, Shared};

/// How long a login goes on without its caller. A server that takes longer to reject one is noticed
/// by the next verification.
pub(super) const WITHOUT_CALLER: Duration = Duration::from_secs(5);

/// What the pool returned, and whether it was opened for this call.
pub(super) struct Got<DB: Database> {
    pub(super) result: Result<PoolConnection<DB>, Error>,
    pub(super) opened: bool,
}

type Permits = (Option<OwnedSemaphorePermit>, Option<OwnedSemaphorePermit>);
type Acquiring<DB> =
    Pin<Box<dyn Future<Output = (Result<PoolConnection<DB>, Error>, Option<Permits>)> + Send>>;

/// Waits in the pool, logging in where it opens a connection. Returns nothing when the generation
/// is over or the limit has come.
pub(super) async fn login<DB: Database>(
    shared: &Arc<Shared<Pool<DB>>>,
    generation: &Arc<Generation<Pool<DB>>>,
    mut over: Pin<&mut Notified<'_>>,
    limit: Instant,
) -> Option<Got<DB>> {
    let permits = tokio::select! {
        biased;
        // First: who left the place free may have been rejected.
        () = over.as_mut() => {
            shared.note_moved();
            return None;
        }
        permits = permits(shared, generation) => permits,
        () = sleep_until(limit) => return None,
    };
    // Meanwhile logins may have been limited, or the server be full.
    if !shared.gate.is_open() {
        return None;
    }
    let opened = opens(shared, generation);
    let mut login = Attempt {
        acquiring: Some(Box::pin(acquire(generation.pool.clone(), permits, opened))),
        shared,
        generation,
        // In a full pool the caller merely queues: nothing is lost with it.
        goes_on: opened || shared.terms.finishes_logins,
        opened,
    };
    // A connection that is returned sooner than a slow login is done serves as well.
    let mut idle = std::pin::pin!(async {
        if opened {
            take_returned(shared, generation).await
        } else {
            std::future::pending().await
        }
    });
    let (mut result, permits, opened) = tokio::select! {
        biased;
        () = over.as_mut() => {
            shared.note_moved();
            return None;
        }
        (result, permits) = login.acquire() => (result, permits, opened),
        result = idle.as_mut() => (result, None, false),
        () = sleep_until(limit) => return None,
    };
    match &mut result {
        Ok(_) if opened => worked(shared, generation),
        Ok(_) => {}
        Err(error) => drop(hear_login(shared, generation.number, error)),
    }
    drop(permits);
    Some(Got { result, opened })
}

/// Acquires from the pool. The permits are returned with the result. A caller that logs in keeps
/// them for 100 ms at most; one that queues in a full pool keeps them, because it would log in if a
/// connection of another ended.
async fn acquire<DB: Database>(
    pool: Pool<DB>,
    permits: Permits,
    opens: bool,
) -> (Result<PoolConnection<DB>, Error>, Option<Permits>) {
    let mut acquiring = std::pin::pin!(pool.acquire());
    tokio::select! {
        biased;
        result = acquiring.as_mut() => return (result, Some(permits)),
        () = sleep(LEAD), if opens => drop(permits),
    }
    (acquiring.await, None)
}

/// Whether a call to the pool is to open a connection: it has room, and none is idle.
fn opens<DB: Database>(shared: &Shared<Pool<DB>>, generation: &Generation<Pool<DB>>) -> bool {
    generation.pool.num_idle() == 0 && generation.pool.size() < shared.terms.max_connections
}

/// What a caller needs to enter the pool: nothing when a connection is idle.
async fn permits<DB: Database>(
    shared: &Shared<Pool<DB>>,
    generation: &Generation<Pool<DB>>,
) -> Permits {
    if generation.pool.num_idle() > 0 {
        return (None, None);
    }
    let place = generation.end.openings.place().await;
    if !opens(shared, generation) {
        return (place, None);
    }
    let ahead = tokio::select! {
        ahead = generation.end.openings.go_ahead(|| shared.clock.mono()) => ahead,
        () = returned(&generation.pool) => None,
    };
    (place, ahead)
}

/// Takes a connection that is returned. Where the server counts logins that are broken off, without
/// a call that might begin another one; a hook before the acquire is not asked there.
async fn take_returned<DB: Database>(
    shared: &Shared<Pool<DB>>,
    generation: &Generation<Pool<DB>>,
) -> Result<PoolConnection<DB>, Error> {
    loop {
        returned(&generation.pool).await;
        if !shared.terms.finishes_logins {
            return generation.pool.acquire().await;
        }
        match generation.pool.try_acquire() {
            Some(connection) => return Ok(connection),
            None => sleep(Pace::SHORTEST).await,
        }
    }
}

/// Resolves when a connection is idle.
async fn returned<DB: Database>(pool: &Pool<DB>) {
    let mut pace = Pace::default();
    while pool.num_idle() == 0 {
        sleep_until(pace.next()).await;
    }
}

struct Attempt<'c, DB: Database> {
    acquiring: Option<Acquiring<DB>>,
    shared: &'c Arc<Shared<Pool<DB>>>,
    generation: &'c Arc<Generation<Pool<DB>>>,
    goes_on: bool,
    opened: bool,
}

/// A login worked: those that wait for the first one begin, and other pools of the user hear of it.
fn worked<DB: Database>(shared: &Shared<Pool<DB>>, generation: &Generation<Pool<DB>>) {
    generation.end.openings.worked(shared.clock.mono());
    if let Some(keeper) = shared.keeper() {
        keeper.login_worked(generation.number);
    }
}

impl<DB: Database> Attempt<'_, DB> {
    async fn acquire(&mut self) -> (Result<PoolConnection<DB>, Error>, Option<Permits>) {
        let Some(acquiring) = &mut self.acquiring else {
            return (Err(Error::PoolClosed), None);
        };
        let got = acquiring.await;
        self.acquiring = None;
        got
    }
}

impl<DB: Database> Drop for Attempt<'_, DB> {
    fn drop(&mut self) {
        let Some(acquiring) = self.acquiring.take().filter(|_| self.goes_on) else {
            return;
        };
        let opened = self.opened;
        // With its runtime gone, the login is gone, too.
        let Ok(runtime) = Runtime::try_current() else {
            return;
        };
        let (shared, generation) = (Arc::clone(self.shared), Arc::clone(self.generation));
        runtime.spawn(async move {
            let (result, permits) = timeout(WITHOUT_CALLER, acquiring)
                .await
                .unwrap_or((Err(Error::PoolTimedOut), None));
            let connection = match result {
                Ok(connection) => {
                    if opened {
                        worked(&shared, &generation);
                    }
                    Some(connection)
                }
                Err(mut error) => {
                    hear_login(&shared, generation.number, &mut error);
                    None
                }
            };
            // Before the connection goes back, which may take as long as the network likes.
            drop(permits);
            if let Some(connection) = connection {
                give_back(&shared, connection).await;
            }
        });
    }
}

/// Opens a connection with a permit of the gate, in a task of its own. Returns nothing when the
/// caller is to look again.
pub(super) async fn open<DB: Database>(
    shared: &Arc<Shared<Pool<DB>>>,
    generation: &Arc<Generation<Pool<DB>>>,
    permit: crate::pool::Pass<Pool<DB>>,
    over: Pin<&mut Notified<'_>>,
    limit: Instant,
) -> Option<Got<DB>> {
    let (mut reply, got) = tokio::sync::oneshot::channel();
    let task = {
        let (shared, generation) = (Arc::clone(shared), Arc::clone(generation));
        async move {
            let without_caller = async {
                reply.closed().await;
                tokio::time::sleep(WITHOUT_CALLER).await;
            };
            let opened = opens(&shared, &generation);
            let mut result = tokio::select! {
                biased;
                got = generation.pool.acquire() => got,
                () = without_caller => return,
            };
            match &mut result {
                Ok(_) if opened => {
                    worked(&shared, &generation);
                    shared.gate.opened(shared.clock.mono());
                }
                Ok(_) => {}
                // Heard before the next one has a permit.
                Err(error) => drop(hear_login(&shared, generation.number, error)),
            }
            drop(permit);
            if let Err(Got {
                result: Ok(connection),
                ..
            }) = reply.send(Got { result, opened })
            {
                give_back(&shared, connection).await;
            }
        }
    };
    tokio::spawn(task);
    // Unless others queue for what is returned.
    let idle = async {
        if shared.gate.has_queue() {
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
        mut result = idle => {
            if let Err(error) = &mut result {
                hear_login(shared, generation.number, error);
            }
            Some(Got { result, opened: false })
        }
        () = sleep_until(limit) => None,
    }
}

/// Time-out for the return of a connection whose call was cancelled. sqlx pings it without a
/// time-out: one that the network dropped would keep its place in the pool for ever.
pub(super) const RETURN_TIMEOUT: Duration = Duration::from_secs(10);

/// Returns a connection to its pool, or closes it when that takes too long, and lets the first in
/// the queue know.
pub(super) async fn give_back<DB: Database>(
    shared: &Shared<Pool<DB>>,
    mut connection: PoolConnection<DB>,
) {
    // Beyond the time it is closed, and its place is free.
    let _ = timeout(RETURN_TIMEOUT, connection.return_to_pool()).await;
    shared.gate.look();
}
