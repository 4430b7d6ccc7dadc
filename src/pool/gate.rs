//! Admission control: keeps old and new connections within the connection budget, and rejected
//! revisions within the login budget.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::futures::Notified;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use crate::error::Fault;

/// Longest time for which the first login after a rejection runs alone. A login takes some 10 ms.
pub(crate) const LEAD: Duration = Duration::from_millis(100);
/// First and longest pause between two attempts to connect to a full server; doubled each time.
const FULL_PAUSE: Duration = Duration::from_millis(200);
const FULL_PAUSE_LONGEST: Duration = Duration::from_secs(2);
/// Time for which a server counts as full after its last error.
const FULL_FOR: Duration = Duration::from_secs(5);

/// Admission control of one pool. It is engaged while an old generation has connections, or logins
/// are limited after a rejection. It is also engaged while the server is full, or the first login
/// after a rejection runs.
pub(crate) struct Gate<P> {
    engaged: AtomicBool,
    max: u32,
    overlap: u32,
    sessions: Arc<dyn Fn(&P) -> u32 + Send + Sync>,
    /// Front of the callers' queue. Its holder tries for a connection or a permit; the others wait
    /// without timers.
    front: Semaphore,
    waiting: AtomicUsize,
    /// Wakes the caller at the front of the queue.
    wake_first: Notify,
    inner: Mutex<Inner<P>>,
}

struct Inner<P> {
    /// Generations that drain, with the server that each is connected to.
    old: Vec<(u64, P, Arc<str>)>,
    /// Server of the current generation.
    server: Arc<str>,
    /// Callers that may be opening a connection at this moment.
    opening: u32,
    limited: Option<(u32, Instant)>,
    /// Until when logins run one at a time. If all waiting callers logged in at once, the first
    /// result would be as late as the last.
    lead: Option<Instant>,
    full: Option<Full>,
}

/// State of a server without room for another connection.
struct Full {
    fault: Fault,
    pause: Duration,
    next: Instant,
    until: Instant,
}

/// A permit to open a connection; returned on drop.
pub(crate) struct Pass<P>(Arc<Gate<P>>);

impl<P> Drop for Pass<P> {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.opening -= 1;
        if inner.lead.take().is_some() {
            self.0.refresh(&inner);
        }
        drop(inner);
        self.0.look();
    }
}

/// Counts a caller in the queue until dropped.
pub(crate) struct QueueGuard<'g>(&'g AtomicUsize);

impl Drop for QueueGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<P> Gate<P> {
    pub(crate) fn new(max: u32, overlap: u32, sessions: Arc<dyn Fn(&P) -> u32 + Send + Sync>) -> Arc<Self> {
        Arc::new(Self {
            engaged: AtomicBool::new(false),
            max,
            overlap,
            sessions,
            front: Semaphore::new(1),
            waiting: AtomicUsize::new(0),
            wake_first: Notify::new(),
            inner: Mutex::new(Inner { old: Vec::new(), server: Arc::from(""), opening: 0, limited: None, lead: None, full: None }),
        })
    }

    /// Returns whether callers need no permit to open a connection. Costs one atomic load.
    pub(crate) fn is_open(&self) -> bool {
        !self.engaged.load(Ordering::Acquire)
    }

    /// Joins the queue and wakes its first caller, because a connection may have been returned
    /// meanwhile.
    pub(crate) fn join(&self) -> QueueGuard<'_> {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        self.wake_first.notify_one();
        QueueGuard(&self.waiting)
    }

    /// Returns whether callers queue. Costs one atomic load.
    pub(crate) fn has_queue(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// Resolves when the caller is the first in the queue. Hold the guard until it has a permit or
    /// an idle connection.
    pub(crate) async fn front(&self) -> Option<SemaphorePermit<'_>> {
        self.front.acquire().await.ok()
    }

    /// Wakes the first caller in the queue, if there is one.
    pub(crate) fn look(&self) {
        if self.has_queue() {
            self.wake_first.notify_one();
        }
    }

    /// Resolves when the first caller in the queue is woken.
    pub(crate) fn woken(&self) -> Notified<'_> {
        self.wake_first.notified()
    }

    /// Returns a permit for a caller to open a connection in `current`, or `None` for now. One
    /// place is left for a verification if the overlap has more than one.
    pub(crate) fn enter(self: &Arc<Self>, current: &P, now: Instant) -> Option<Pass<P>> {
        let mut inner = self.lock();
        self.expire(&mut inner, now);
        if inner.limited.is_some_and(|(width, _)| inner.opening >= width) || (inner.lead.is_some() && inner.opening > 0) {
            return None;
        }
        if inner.full.as_ref().is_some_and(|full| inner.opening > 0 || now < full.next) {
            return None;
        }
        let ceiling = self.max + if self.overlap > 1 { self.overlap - 1 } else { self.overlap };
        let (old, new) = self.count(&inner, current);
        // A full pool opens nothing; another caller would only queue in it.
        if new + inner.opening >= self.max {
            return None;
        }
        // With few old connections, even a full pool is within the budget.
        let within = old + self.max <= ceiling || old + new + inner.opening < ceiling;
        within.then(|| self.admit(&mut inner))
    }

    /// Returns a permit for a verification, whose connection belongs to no pool.
    pub(crate) fn enter_proof(self: &Arc<Self>, current: &P) -> Option<Pass<P>> {
        let mut inner = self.lock();
        let (old, new) = self.count(&inner, current);
        (old + new + inner.opening < self.max + self.overlap).then(|| self.admit(&mut inner))
    }

    fn expire(&self, inner: &mut Inner<P>, now: Instant) {
        if inner.limited.is_some_and(|(_, until)| now >= until) {
            inner.limited = None;
        }
        if inner.lead.is_some_and(|until| now >= until) {
            inner.lead = None;
        }
        if inner.full.as_ref().is_some_and(|full| now >= full.until) {
            inner.full = None;
        }
        self.refresh(inner);
    }

    /// Returns the connections of old generations to the current server, and those of the current
    /// pool.
    fn count(&self, inner: &Inner<P>, current: &P) -> (u32, u32) {
        let old = inner.old.iter().filter(|(_, _, server)| *server == inner.server).map(|(_, pool, _)| (self.sessions)(pool)).sum();
        (old, (self.sessions)(current))
    }

    fn admit(self: &Arc<Self>, inner: &mut Inner<P>) -> Pass<P> {
        inner.opening += 1;
        Pass(Arc::clone(self))
    }

    /// Sets the server of the next generation before its publication. `limited` is how many logins
    /// may run at a time, and until when, if its user was rejected lately.
    pub(crate) fn serves(&self, server: Arc<str>, limited: Option<(u32, Instant)>) {
        let mut inner = self.lock();
        inner.server = server;
        inner.limited = limited;
        self.refresh(&inner);
    }

    /// A generation begins to drain. To be called before the next one is published.
    pub(crate) fn drains(&self, number: u64, pool: P) {
        let mut inner = self.lock();
        let server = Arc::clone(&inner.server);
        inner.old.push((number, pool, server));
        self.refresh(&inner);
    }

    /// A generation has drained.
    pub(crate) fn drained(&self, number: u64) {
        let mut inner = self.lock();
        inner.old.retain(|(old, ..)| *old != number);
        self.refresh(&inner);
        drop(inner);
        self.look();
    }

    /// Lets the first login run alone. Called before the successor of a rejected generation is
    /// published.
    pub(crate) fn lead(&self, now: Instant) {
        let mut inner = self.lock();
        inner.lead = Some(now + LEAD);
        self.refresh(&inner);
    }

    /// Notes that the server had no room for a connection. From now on one caller tries for all.
    pub(crate) fn full(&self, fault: Fault, now: Instant) {
        let mut inner = self.lock();
        let pause = inner.full.as_ref().map_or(FULL_PAUSE, |full| (full.pause * 2).min(FULL_PAUSE_LONGEST));
        let next = now + pause.mul_f64(0.75 + fastrand::f64() / 2.0);
        inner.full = Some(Full { fault, pause, next, until: now + FULL_FOR + pause });
        self.refresh(&inner);
    }

    /// Returns the server's last error about missing room, while it counts as full.
    pub(crate) fn why_full(&self, now: Instant) -> Option<Fault> {
        let mut inner = self.lock();
        self.expire(&mut inner, now);
        inner.full.as_ref().map(|full| full.fault.clone())
    }

    /// Notes that a caller opened a connection: the credentials are accepted, and the server has
    /// room.
    pub(crate) fn opened(&self, now: Instant) {
        if self.is_open() {
            return;
        }
        let mut inner = self.lock();
        inner.limited = None;
        if let Some(full) = &mut inner.full {
            (full.pause, full.next) = (FULL_PAUSE, now);
        }
        self.refresh(&inner);
    }

    fn refresh(&self, inner: &Inner<P>) {
        let engaged = inner.old.iter().any(|(_, _, server)| *server == inner.server)
            || inner.limited.is_some()
            || inner.lead.is_some()
            || inner.full.is_some();
        self.engaged.store(engaged, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Inner<P>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::FaultKind;
    use std::sync::atomic::AtomicU32;

    type Count = Arc<AtomicU32>;

    fn gate(max: u32, overlap: u32) -> (Arc<Gate<Count>>, Instant) {
        let gate = Gate::new(max, overlap, Arc::new(|pool: &Count| pool.load(Ordering::Acquire)));
        gate.serves(Arc::from("a:5432"), None);
        (gate, tokio::time::Instant::now().into_std())
    }

    #[test]
    fn old_and_new_stay_within_maximum_and_overlap() {
        let (gate, now) = gate(10, 2);
        let (old, new) = (Arc::new(AtomicU32::new(10)), Arc::new(AtomicU32::new(0)));
        assert!(gate.is_open());
        gate.drains(1, Arc::clone(&old));
        assert!(!gate.is_open());
        let first = gate.enter(&new, now);
        assert!(first.is_some());
        assert!(gate.enter(&new, now).is_none(), "one place is left for a verification");
        let verification = gate.enter_proof(&new);
        assert!(verification.is_some());
        assert!(gate.enter_proof(&new).is_none());
        drop((first, verification));
        new.store(1, Ordering::Release);
        assert!(gate.enter(&new, now).is_none());
        old.store(9, Ordering::Release);
        assert!(gate.enter(&new, now).is_some());
        old.store(1, Ordering::Release);
        new.store(9, Ordering::Release);
        let last = gate.enter(&new, now);
        assert!(last.is_some());
        assert!(gate.enter(&new, now).is_none(), "the pool is full");
        drop(last);
        gate.drained(1);
        assert!(gate.is_open());
    }

    #[test]
    fn old_connections_to_another_server_do_not_count() {
        let (gate, now) = gate(4, 1);
        let (old, new) = (Arc::new(AtomicU32::new(4)), Arc::new(AtomicU32::new(0)));
        gate.drains(1, Arc::clone(&old));
        gate.serves(Arc::from("b:5432"), None);
        assert!(gate.is_open());
        assert!(gate.enter(&new, now).is_some());
        // Back on the first server they count again.
        gate.drains(2, Arc::clone(&new));
        gate.serves(Arc::from("a:5432"), None);
        assert!(!gate.is_open());
        let one = gate.enter(&Arc::new(AtomicU32::new(0)), now);
        assert!(one.is_some());
        assert!(gate.enter(&Arc::new(AtomicU32::new(0)), now).is_none());
    }

    #[test]
    fn limited_logins_end_with_the_window_or_the_first_success() {
        let (gate, now) = gate(10, 2);
        let pool = Arc::new(AtomicU32::new(0));
        let limited = Some((1, now + Duration::from_secs(30)));
        gate.serves(Arc::from("a:5432"), limited);
        let one = gate.enter(&pool, now);
        assert!(one.is_some());
        assert!(gate.enter(&pool, now).is_none());
        assert!(gate.enter(&pool, now + Duration::from_secs(30)).is_some());
        assert!(gate.is_open());
        gate.serves(Arc::from("a:5432"), limited);
        gate.opened(now);
        assert!(gate.is_open());
    }

    #[test]
    fn the_first_login_after_a_rejection_goes_ahead_of_the_others() {
        let (gate, now) = gate(10, 2);
        let pool = Arc::new(AtomicU32::new(0));
        gate.lead(now);
        assert!(!gate.is_open());
        let first = gate.enter(&pool, now);
        assert!(first.is_some());
        assert!(gate.enter(&pool, now).is_none());
        drop(first);
        assert!(gate.is_open());
        // One that hangs holds nobody up for long.
        gate.lead(now);
        let _hangs = gate.enter(&pool, now);
        assert!(gate.enter(&pool, now + LEAD).is_some());
        assert!(gate.is_open());
    }

    #[test]
    fn on_a_full_server_one_tries_for_all_with_back_off() {
        let (gate, start) = gate(10, 2);
        let pool = Arc::new(AtomicU32::new(0));
        let mut attempts = 0;
        gate.full(Fault::new(FaultKind::Overloaded, "too many connections"), start);
        for millis in 0..30_000 {
            let now = start + Duration::from_millis(millis);
            if let Some(pass) = gate.enter(&pool, now) {
                attempts += 1;
                gate.full(Fault::new(FaultKind::Overloaded, "too many connections"), now);
                drop(pass);
            }
        }
        assert!((12..=30).contains(&attempts), "{attempts} attempts in 30 s");
        assert!(gate.why_full(start + Duration::from_secs(30)).is_some());
        assert!(gate.why_full(start + Duration::from_secs(60)).is_none());
        assert!(gate.is_open());
    }
}
