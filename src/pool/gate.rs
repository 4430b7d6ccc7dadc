//! The gate before opening sessions: keeps old and new within the session budget, and a doubtful revision within its log-in budget.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

/// How long a refused generation's successor lets one log-in go ahead of the others. A log-in takes some 10 ms; one that hangs holds nobody up for long.
const LEAD: Duration = Duration::from_millis(100);

/// Closed only while an old generation has sessions, while a revision that was refused lately is on probation, or for the first log-in after a refusal.
pub(crate) struct Gate<P> {
    engaged: AtomicBool,
    max: u32,
    overlap: u32,
    sessions: Arc<dyn Fn(&P) -> u32 + Send + Sync>,
    /// One caller at a time asks for leave, first come first served; the others queue.
    door: Semaphore,
    inner: Mutex<Inner<P>>,
}

struct Inner<P> {
    /// Generations that drain.
    old: Vec<(u64, P)>,
    /// Callers that may be opening a session at this moment.
    opening: u32,
    probation: Option<(u32, Instant)>,
    /// Until when one log-in at a time is let through: all waiting callers' at once would make the first answer wait for the last.
    lead: Option<Instant>,
}

/// Leave to open a session; given back on drop.
pub(crate) struct Pass<P>(Arc<Gate<P>>);

impl<P> Drop for Pass<P> {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.opening -= 1;
        if inner.lead.take().is_some() {
            self.0.refresh(&inner);
        }
    }
}

impl<P> Gate<P> {
    pub(crate) fn new(max: u32, overlap: u32, sessions: Arc<dyn Fn(&P) -> u32 + Send + Sync>) -> Arc<Self> {
        Arc::new(Self {
            engaged: AtomicBool::new(false),
            max,
            overlap,
            sessions,
            door: Semaphore::new(1),
            inner: Mutex::new(Inner { old: Vec::new(), opening: 0, probation: None, lead: None }),
        })
    }

    /// Whether a caller may open a session without asking: one load.
    pub(crate) fn is_open(&self) -> bool {
        !self.engaged.load(Ordering::Acquire)
    }

    /// The caller's turn to ask for leave. The guard is to be held until leave, or an idle session, was had.
    pub(crate) async fn door(&self) -> Option<SemaphorePermit<'_>> {
        self.door.acquire().await.ok()
    }

    /// Leave for a caller to open a session in `current`, or none for the moment. Where the overlap has room for it, one place is left for a proof.
    pub(crate) fn enter(self: &Arc<Self>, current: &P, now: Instant) -> Option<Pass<P>> {
        let mut inner = self.lock();
        if inner.probation.is_some_and(|(_, until)| now >= until) {
            inner.probation = None;
            self.refresh(&inner);
        }
        if inner.probation.is_some_and(|(width, _)| inner.opening >= width) {
            return None;
        }
        if inner.lead.is_some_and(|until| now >= until) {
            inner.lead = None;
            self.refresh(&inner);
        }
        if inner.lead.is_some() && inner.opening > 0 {
            return None;
        }
        let ceiling = self.max + if self.overlap > 1 { self.overlap - 1 } else { self.overlap };
        let (old, new) = self.count(&inner, current);
        // With few old ones, or the pool full, whatever it does stays within the budget.
        let within = old + self.max <= ceiling || new >= self.max || old + new + inner.opening < ceiling;
        within.then(|| self.admit(&mut inner))
    }

    /// Leave for a proof, whose session is of no pool.
    pub(crate) fn enter_proof(self: &Arc<Self>, current: &P) -> Option<Pass<P>> {
        let mut inner = self.lock();
        let (old, new) = self.count(&inner, current);
        (old + new + inner.opening < self.max + self.overlap).then(|| self.admit(&mut inner))
    }

    fn count(&self, inner: &Inner<P>, current: &P) -> (u32, u32) {
        (inner.old.iter().map(|(_, pool)| (self.sessions)(pool)).sum(), (self.sessions)(current))
    }

    fn admit(self: &Arc<Self>, inner: &mut Inner<P>) -> Pass<P> {
        inner.opening += 1;
        Pass(Arc::clone(self))
    }

    /// A generation begins to drain. To be called before the next one is published.
    pub(crate) fn drains(&self, number: u64, pool: P) {
        let mut inner = self.lock();
        inner.old.push((number, pool));
        self.refresh(&inner);
    }

    /// A generation has drained.
    pub(crate) fn drained(&self, number: u64) {
        let mut inner = self.lock();
        inner.old.retain(|(old, _)| *old != number);
        self.refresh(&inner);
    }

    /// A generation whose revision was refused lately is about to be published.
    pub(crate) fn probation(&self, probation: Option<(u32, Instant)>) {
        let mut inner = self.lock();
        inner.probation = probation;
        self.refresh(&inner);
    }

    /// The successor of a refused generation is about to be published: its first log-in goes ahead.
    pub(crate) fn lead(&self, now: Instant) {
        let mut inner = self.lock();
        inner.lead = Some(now + LEAD);
        self.refresh(&inner);
    }

    fn refresh(&self, inner: &Inner<P>) {
        self.engaged.store(!inner.old.is_empty() || inner.probation.is_some() || inner.lead.is_some(), Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Inner<P>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    type Count = Arc<AtomicU32>;

    fn gate(max: u32, overlap: u32) -> Arc<Gate<Count>> {
        Gate::new(max, overlap, Arc::new(|pool: &Count| pool.load(Ordering::Acquire)))
    }

    #[test]
    fn old_and_new_stay_within_maximum_and_overlap() {
        let (gate, now) = (gate(10, 2), tokio::time::Instant::now().into_std());
        let (old, new) = (Arc::new(AtomicU32::new(10)), Arc::new(AtomicU32::new(0)));
        assert!(gate.is_open());
        gate.drains(1, Arc::clone(&old));
        assert!(!gate.is_open());
        let first = gate.enter(&new, now);
        assert!(first.is_some());
        assert!(gate.enter(&new, now).is_none(), "one place is left for a proof");
        let proof = gate.enter_proof(&new);
        assert!(proof.is_some());
        assert!(gate.enter_proof(&new).is_none());
        drop((first, proof));
        new.store(1, Ordering::Release);
        assert!(gate.enter(&new, now).is_none());
        old.store(9, Ordering::Release);
        assert!(gate.enter(&new, now).is_some());
        old.store(1, Ordering::Release);
        new.store(9, Ordering::Release);
        let all: Vec<_> = (0..16).map(|_| gate.enter(&new, now)).collect();
        assert!(all.iter().all(Option::is_some));
        gate.drained(1);
        assert!(gate.is_open());
    }

    #[test]
    fn probation_admits_its_width_until_it_ends() {
        let (gate, now) = (gate(10, 2), tokio::time::Instant::now().into_std());
        let pool = Arc::new(AtomicU32::new(0));
        gate.probation(Some((1, now + Duration::from_secs(30))));
        let one = gate.enter(&pool, now);
        assert!(one.is_some());
        assert!(gate.enter(&pool, now).is_none());
        assert!(gate.enter(&pool, now + Duration::from_secs(30)).is_some());
        assert!(gate.is_open());
    }

    #[test]
    fn the_first_log_in_after_a_refusal_goes_ahead_of_the_others() {
        let (gate, now) = (gate(10, 2), tokio::time::Instant::now().into_std());
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
}
