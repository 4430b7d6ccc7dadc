//! Admission control: keeps old and new connections within the maximum and the overlap, and
//! rejected revisions within the login budget.

mod permit;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::futures::Notified;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use crate::error::ConnectError;
use crate::lock::Mutex;
pub(crate) use permit::{Permit, RehearsalPermit};

/// Longest time for which the first login after a rejection runs alone. A login takes some 10 ms.
pub(crate) const HEAD_START: Duration = Duration::from_millis(100);
/// First and longest pause between two attempts to connect to a full server; doubled each time.
const FULL_PAUSE: Duration = Duration::from_millis(200);
const MAX_FULL_PAUSE: Duration = Duration::from_secs(2);
/// Time for which a server counts as full after its last error.
const FULL_FOR: Duration = Duration::from_secs(5);

/// Number of callers at the front of the queue, which try for a connection. One is too slow when
/// connections are returned every 30 µs. With eight free connections, 64 callers got 70 % of a
/// plain pool's throughput with one at the front, and 90 % with three.
const CALLERS_AT_FRONT: usize = 3;

/// Returns how many callers of a pool may begin a login at a time: a quarter of its maximum.
pub(crate) fn logins_at_once(max: u32) -> u32 {
    max.div_ceil(4)
}

/// Admission control of one pool. It is engaged while an old generation has connections, or logins
/// are limited after a rejection. It is also engaged while the server is full, or the first login
/// after a rejection runs.
pub(crate) struct Admission<P> {
    engaged: AtomicBool,
    max: u32,
    overlap: u32,
    connections: Arc<dyn Fn(&P) -> u32 + Send + Sync>,
    /// Front of the callers' queue. Its holders try for a connection or a permit; the others wait
    /// without timers.
    front: Semaphore,
    waiting: AtomicUsize,
    /// Wakes a caller at the front of the queue.
    wake_first: Notify,
    inner: Mutex<Counts<P>>,
}

struct Counts<P> {
    /// Generations that drain, with the server that each is connected to.
    old: Vec<(u64, P, Arc<str>)>,
    /// The current generation, and its server.
    generation: u64,
    server: Arc<str>,
    /// Number of callers and attempts that may be opening a connection.
    opening: u32,
    /// Number of attempts among them. Their connections belong to no pool.
    verifying: u32,
    /// Whether a rehearsal may be opening one.
    rehearses: bool,
    /// Number of changes that make a count of connections stale.
    changes: u64,
    limited: Option<(u32, Instant)>,
    /// Time until which logins run one at a time. If all waiting callers logged in at once, the
    /// first result would be as late as the last.
    head_start: Option<Instant>,
    full: Option<Full>,
}

impl<P> Counts<P> {
    fn has_old(&self) -> bool {
        self.old.iter().any(|(_, _, server)| *server == self.server)
    }
}

/// State of a server without room for another connection.
struct Full {
    error: ConnectError,
    pause: Duration,
    next: Instant,
    until: Instant,
}

/// Counts a caller in the queue until dropped.
pub(crate) struct QueueGuard<'g>(&'g AtomicUsize);

impl Drop for QueueGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<P> Admission<P> {
    pub(crate) fn new(
        max: u32,
        overlap: u32,
        connections: Arc<dyn Fn(&P) -> u32 + Send + Sync>,
    ) -> Arc<Self> {
        Arc::new(Self {
            engaged: AtomicBool::new(false),
            max,
            overlap,
            connections,
            front: Semaphore::new(CALLERS_AT_FRONT),
            waiting: AtomicUsize::new(0),
            wake_first: Notify::new(),
            inner: Mutex::new(Counts {
                old: Vec::new(),
                generation: 0,
                server: Arc::from(""),
                opening: 0,
                verifying: 0,
                rehearses: false,
                changes: 0,
                limited: None,
                head_start: None,
                full: None,
            }),
        })
    }

    /// Returns whether callers need no permit to open a connection. Costs one atomic load.
    pub(crate) fn is_open(&self) -> bool {
        !self.engaged.load(Ordering::Acquire)
    }

    /// Joins the queue and wakes a caller at its front, because a connection may have been returned
    /// meanwhile.
    pub(crate) fn join(&self) -> QueueGuard<'_> {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        self.wake_first.notify_one();
        QueueGuard(&self.waiting)
    }

    /// Returns how many callers queue. Costs one atomic load.
    pub(crate) fn queue_length(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// Returns whether callers queue. Costs one atomic load.
    pub(crate) fn has_queue(&self) -> bool {
        self.queue_length() > 0
    }

    /// Resolves when the caller is at the front of the queue. Hold the guard until it has a permit
    /// or an idle connection.
    pub(crate) async fn front(&self) -> Option<SemaphorePermit<'_>> {
        self.front.acquire().await.ok()
    }

    /// Wakes a caller at the front of the queue, if there is one.
    pub(crate) fn wake_front(&self) {
        if self.has_queue() {
            self.wake_first.notify_one();
        }
    }

    /// Resolves when a caller at the front of the queue is woken.
    pub(crate) fn woken(&self) -> Notified<'_> {
        self.wake_first.notified()
    }

    /// Ends the limits and states whose time has passed. Returns the state of a server that counted
    /// as full. Drop it outside of the lock, because its error may have a `Drop` of its own.
    #[must_use]
    fn expire(&self, inner: &mut Counts<P>, now: Instant) -> Option<Full> {
        if inner.limited.is_some_and(|(_, until)| now >= until) {
            inner.limited = None;
        }
        if inner.head_start.is_some_and(|until| now >= until) {
            inner.head_start = None;
        }
        let ended = inner.full.take_if(|full| now >= full.until);
        self.refresh(inner);
        ended
    }

    /// Sets the next generation and its server before its publication. `limited` is how many logins
    /// may run at a time, and until when, if its user was rejected lately.
    pub(crate) fn set_current(
        &self,
        generation: u64,
        server: Arc<str>,
        limited: Option<(u32, Instant)>,
    ) {
        let mut inner = self.inner.lock();
        let is_another = inner.server != server;
        inner.generation = generation;
        inner.server = server;
        inner.changes += 1;
        inner.limited = limited;
        // Another server may have room.
        let full = inner.full.take_if(|_| is_another);
        self.refresh(&inner);
        drop(inner);
        drop(full);
    }

    /// Lets this number of callers log in to the current generation at a time, until then.
    pub(crate) fn limit(&self, width: u32, until: Instant) {
        let mut inner = self.inner.lock();
        inner.limited = Some((width, until));
        self.refresh(&inner);
    }

    /// Notes that a generation begins to drain. Call it before the next one is published.
    pub(crate) fn begin_drain(&self, number: u64, pool: P) {
        let mut inner = self.inner.lock();
        let server = Arc::clone(&inner.server);
        inner.old.push((number, pool, server));
        inner.changes += 1;
        self.refresh(&inner);
    }

    /// Notes that a generation has drained.
    pub(crate) fn end_drain(&self, number: u64) {
        let mut inner = self.inner.lock();
        let at = inner.old.iter().position(|(old, ..)| *old == number);
        let drained = at.map(|at| inner.old.swap_remove(at));
        inner.changes += 1;
        self.refresh(&inner);
        drop(inner);
        // Dropped outside of the lock, because the pool's code may be the factory's.
        drop(drained);
        self.wake_front();
    }

    /// Makes the first login run alone. Call it before the successor of a rejected generation is
    /// published.
    pub(crate) fn give_head_start(&self, now: Instant) {
        let mut inner = self.inner.lock();
        inner.head_start = Some(now + HEAD_START);
        self.refresh(&inner);
    }

    /// Notes that the server had no room for a connection. From now on one caller at a time tries.
    pub(crate) fn note_full(&self, error: ConnectError, now: Instant) {
        let mut inner = self.inner.lock();
        let pause = inner
            .full
            .as_ref()
            .map_or(FULL_PAUSE, |full| (full.pause * 2).min(MAX_FULL_PAUSE));
        let next = now + pause.mul_f64(0.75 + fastrand::f64() / 2.0);
        let replaced = inner.full.replace(Full {
            error,
            pause,
            next,
            until: now + FULL_FOR + pause,
        });
        self.refresh(&inner);
        drop(inner);
        drop(replaced);
    }

    /// Returns the server's last error about missing room, while it counts as full.
    pub(crate) fn why_full(&self, now: Instant) -> Option<ConnectError> {
        let mut inner = self.inner.lock();
        let ended = self.expire(&mut inner, now);
        let error = inner.full.as_ref().map(|full| full.error.clone());
        drop(inner);
        drop(ended);
        error
    }

    /// Notes that a caller opened a connection of this generation: the credentials are accepted,
    /// and the server has room. Logins stay limited if those at once could exceed the rest of the
    /// budget, on a server that rejects every other login.
    pub(crate) fn note_opened(&self, generation: u64, now: Instant) {
        if self.is_open() {
            return;
        }
        let mut inner = self.inner.lock();
        // The limits may be those of a later generation.
        if inner.generation != generation {
            return;
        }
        let at_once = logins_at_once(self.max);
        inner.limited = inner.limited.filter(|(width, _)| *width < at_once);
        if let Some(full) = &mut inner.full {
            (full.pause, full.next) = (FULL_PAUSE, now);
        }
        self.refresh(&inner);
    }

    /// Returns whether the current generation is connected to this server.
    pub(super) fn is_current_server(&self, server: &str) -> bool {
        &*self.inner.lock().server == server
    }

    /// Returns whether an old generation has connections to the current server.
    pub(crate) fn has_old(&self) -> bool {
        self.inner.lock().has_old()
    }

    fn refresh(&self, inner: &Counts<P>) {
        let engaged = inner.has_old()
            || inner.limited.is_some()
            || inner.head_start.is_some()
            || inner.full.is_some();
        self.engaged.store(engaged, Ordering::Release);
    }
}

impl<P: Clone> Admission<P> {
    /// Returns a permit for a caller to open a connection in `current`, or `None` for now. An
    /// overlap above 1 leaves one connection for a verification. With an overlap of 1, a rehearsal
    /// takes it while it logs in.
    pub(crate) fn enter(self: &Arc<Self>, current: &P, now: Instant) -> Option<Permit<P>> {
        let mut ended = None;
        let permit = self.count_and_decide(current, |inner, old, new| {
            ended = self.expire(inner, now);
            if inner
                .limited
                .is_some_and(|(width, _)| inner.opening >= width)
                || (inner.head_start.is_some() && inner.opening > 0)
            {
                return None;
            }
            if inner
                .full
                .as_ref()
                .is_some_and(|full| inner.opening > 0 || now < full.next)
            {
                return None;
            }
            let is_left = self.overlap > 1 || inner.rehearses;
            let ceiling = self.max + self.overlap - u32::from(is_left);
            // In a full pool, a caller would only queue.
            if new + inner.opening >= self.max {
                return None;
            }
            // With few old connections, even a full pool stays within the overlap.
            let within = old + self.max <= ceiling || old + new + inner.opening < ceiling;
            within.then(|| self.admit(inner, 0))
        });
        drop(ended);
        permit
    }

    /// Decides by the number of old connections to the current server, and of current ones. The
    /// factory counts them outside of the lock. A connection admitted or returned meanwhile may be
    /// in neither number, so they are counted again.
    fn count_and_decide<T>(
        &self,
        current: &P,
        mut decide: impl FnMut(&mut Counts<P>, u32, u32) -> Option<T>,
    ) -> Option<T> {
        loop {
            let (changes, old) = {
                let inner = self.inner.lock();
                let old = inner
                    .old
                    .iter()
                    .filter(|(_, _, server)| *server == inner.server)
                    .map(|(_, pool, _)| pool.clone());
                (inner.changes, old.collect::<Vec<_>>())
            };
            let (old, new) = (
                old.iter().map(|pool| (self.connections)(pool)).sum(),
                (self.connections)(current),
            );
            let mut inner = self.inner.lock();
            if inner.changes == changes {
                return decide(&mut inner, old, new);
            }
        }
    }
}

#[cfg(test)]
mod tests;
