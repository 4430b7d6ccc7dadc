//! A caller's login: one that has begun ends by itself, whatever becomes of the caller.
//!
//! A login that is broken off is counted by MySQL against the host, and what the database would have said to it nobody hears. So it goes on without its caller, and
//! what comes of it is taken in: a connection by the pool, a rejection by the control plane.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{Database, Error, Pool};
use tokio::runtime::Handle as Runtime;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::futures::Notified;
use tokio::time::{Instant, sleep_until, timeout};

use super::acquire::hear_login;
use super::queue::Pace;
use crate::pool::{Generation, Shared};

/// How long a login goes on without its caller. A server that takes longer to reject one is noticed by the next verification.
pub(super) const WITHOUT_CALLER: Duration = Duration::from_secs(5);

type Acquiring<DB> = Pin<Box<dyn Future<Output = Result<PoolConnection<DB>, Error>> + Send>>;

/// Waits in the pool, logging in where it opens a connection. Returns nothing when the generation is over or the limit has come.
pub(super) async fn login<DB: Database>(
    shared: &Arc<Shared<Pool<DB>>>,
    generation: &Arc<Generation<Pool<DB>>>,
    mut over: Pin<&mut Notified<'_>>,
    limit: Instant,
) -> Option<Result<PoolConnection<DB>, Error>> {
    let openings = &generation.end.openings;
    let now = || shared.clock.mono();
    let is_room = || generation.pool.size() < shared.terms.max_sessions;
    let permits = async {
        let place = openings.place().await;
        let ahead = if is_room() && generation.pool.num_idle() == 0 { openings.go_ahead(now).await } else { None };
        (place, ahead)
    };
    let (place, ahead) = tokio::select! {
        biased;
        // First: who left the place free may have been rejected.
        () = over.as_mut() => {
            shared.note_moved();
            return None;
        }
        permits = permits => permits,
        () = sleep_until(limit) => return None,
    };
    // Meanwhile logins may have been limited, or the server be full.
    if !shared.gate.is_open() {
        return None;
    }
    let opens = is_room();
    let mut login = Login {
        acquiring: Some(Box::pin(generation.pool.acquire())),
        permits: (place, ahead),
        shared,
        generation,
        // In a full pool the caller merely queues: nothing is lost with it.
        goes_on: opens || shared.terms.finishes_logins,
    };
    let mut pace = Pace::default();
    let got = loop {
        // A connection that comes back sooner than a login is done serves as well; the login goes on.
        let again = if opens { limit.min(pace.next()) } else { limit };
        tokio::select! {
            biased;
            () = over.as_mut() => {
                // Who was queueing may be logging in by now.
                login.goes_on = true;
                shared.note_moved();
                return None;
            }
            got = login.acquire() => break got,
            () = sleep_until(again) => {
                if again == limit {
                    return None;
                }
                if let Some(session) = generation.pool.try_acquire() {
                    return Some(Ok(session));
                }
            }
        }
    };
    Some(match got {
        Ok(session) => {
            if opens {
                openings.worked(now());
            }
            Ok(session)
        }
        Err(mut error) => {
            hear_login(shared, generation.number, &mut error);
            Err(error)
        }
    })
}

struct Login<'c, DB: Database> {
    acquiring: Option<Acquiring<DB>>,
    permits: (Option<OwnedSemaphorePermit>, Option<OwnedSemaphorePermit>),
    shared: &'c Arc<Shared<Pool<DB>>>,
    generation: &'c Arc<Generation<Pool<DB>>>,
    goes_on: bool,
}

impl<DB: Database> Login<'_, DB> {
    async fn acquire(&mut self) -> Result<PoolConnection<DB>, Error> {
        let Some(acquiring) = &mut self.acquiring else { return Err(Error::PoolClosed) };
        let got = acquiring.await;
        self.acquiring = None;
        got
    }
}

impl<DB: Database> Drop for Login<'_, DB> {
    fn drop(&mut self) {
        let Some(acquiring) = self.acquiring.take().filter(|_| self.goes_on) else { return };
        // With its runtime gone, the login is gone, too.
        let Ok(runtime) = Runtime::try_current() else { return };
        let (shared, generation, permits) = (Arc::clone(self.shared), Arc::clone(self.generation), std::mem::take(&mut self.permits));
        runtime.spawn(async move {
            match timeout(WITHOUT_CALLER, acquiring).await {
                Ok(Ok(session)) => {
                    generation.end.openings.worked(shared.clock.mono());
                    give_back(&shared, session).await;
                }
                Ok(Err(mut error)) => drop(hear_login(&shared, generation.number, &mut error)),
                Err(_) => drop(hear_login(&shared, generation.number, &mut Error::PoolTimedOut)),
            }
            drop(permits);
        });
    }
}

/// Opens a connection with a permit of the gate, in a task of its own. Returns nothing when the caller is to look again.
pub(super) async fn open<DB: Database>(
    shared: &Arc<Shared<Pool<DB>>>,
    generation: &Arc<Generation<Pool<DB>>>,
    permit: crate::pool::Pass<Pool<DB>>,
    mut over: Pin<&mut Notified<'_>>,
    limit: Instant,
) -> Option<Result<PoolConnection<DB>, Error>> {
    let (mut reply, opened) = tokio::sync::oneshot::channel();
    let task = {
        let (shared, generation) = (Arc::clone(shared), Arc::clone(generation));
        async move {
            let without_caller = async {
                reply.closed().await;
                tokio::time::sleep(WITHOUT_CALLER).await;
            };
            let mut got = tokio::select! {
                biased;
                got = generation.pool.acquire() => got,
                () = without_caller => return,
            };
            match &mut got {
                Ok(_) => {
                    generation.end.openings.worked(shared.clock.mono());
                    shared.gate.opened(shared.clock.mono());
                }
                // Heard before the next one has a permit.
                Err(error) => drop(hear_login(&shared, generation.number, error)),
            }
            drop(permit);
            if let Err(Ok(session)) = reply.send(got) {
                give_back(&shared, session).await;
            }
        }
    };
    tokio::spawn(task);
    let mut opened = std::pin::pin!(opened);
    let mut pace = Pace::default();
    loop {
        let again = limit.min(pace.next());
        tokio::select! {
            biased;
            opened = opened.as_mut() => return opened.ok(),
            () = over.as_mut() => {
                shared.note_moved();
                return None;
            }
            () = sleep_until(again) => {
                // A connection that comes back sooner serves as well, where nobody queues for it.
                if again == limit {
                    return None;
                }
                if !shared.gate.has_queue() && let Some(session) = generation.pool.try_acquire() {
                    return Some(Ok(session));
                }
            }
        }
    }
}

/// Returns a connection to its pool, and lets the first in the queue know.
pub(super) async fn give_back<DB: Database>(shared: &Shared<Pool<DB>>, mut session: PoolConnection<DB>) {
    session.return_to_pool().await;
    shared.gate.look();
}
