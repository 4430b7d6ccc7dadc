//! Callers' logins in one pool: how many are inside of it, and who goes ahead.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::gate::LEAD;

/// A login that worked speaks for those that follow within this time.
const SPEAKS_FOR: Duration = Duration::from_secs(1);

/// A quarter as many callers as the pool has places may be inside of its own acquire at a time, where each may be logging in. The others queue here, and a
/// rejection sends them on before they have cost a login: it costs a pool of ten three failed logins at most.
#[derive(Debug)]
pub(crate) struct Openings {
    places: Arc<Semaphore>,
    ahead: Arc<Semaphore>,
    worked: Mutex<Option<Instant>>,
}

impl Openings {
    pub(super) fn new(max: u32) -> Arc<Self> {
        Arc::new(Self {
            places: Arc::new(Semaphore::new(max.div_ceil(4) as usize)),
            ahead: Arc::new(Semaphore::new(1)),
            worked: Mutex::default(),
        })
    }

    /// A place inside of the pool; given back on drop.
    pub(crate) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).acquire_owned().await.ok()
    }

    /// Resolves when a login may begin: at once if one has worked lately; else one goes ahead of the others, for 100 ms at most. A credential that is
    /// not accepted any more costs one failed login then, and not one for each place.
    pub(crate) async fn go_ahead(&self, now: impl Fn() -> Instant) -> Option<OwnedSemaphorePermit> {
        if self.has_worked(now()) {
            return None;
        }
        let first = timeout(LEAD, Arc::clone(&self.ahead).acquire_owned()).await.ok()?.ok()?;
        // The one ahead may have answered for all.
        if self.has_worked(now()) { None } else { Some(first) }
    }

    /// A login worked.
    pub(crate) fn worked(&self, now: Instant) {
        *self.worked.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    fn has_worked(&self, now: Instant) -> bool {
        let worked = *self.worked.lock().unwrap_or_else(PoisonError::into_inner);
        worked.is_some_and(|at| now.saturating_duration_since(at) < SPEAKS_FOR)
    }
}
