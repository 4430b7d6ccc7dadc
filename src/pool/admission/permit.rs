//! Permits to open a connection.

use std::sync::Arc;

use super::{Admission, Counts};

/// A permit of a caller or an attempt to open a connection; returned on drop.
pub(crate) struct Permit<P> {
    admission: Arc<Admission<P>>,
    /// 1 for an attempt.
    verifying: u32,
}

impl<P> Drop for Permit<P> {
    fn drop(&mut self) {
        let mut inner = self.admission.inner.lock();
        inner.opening -= 1;
        inner.verifying -= self.verifying;
        inner.changes += 1;
        if inner.head_start.take().is_some() {
            self.admission.refresh(&inner);
        }
        drop(inner);
        self.admission.wake_front();
    }
}

/// A rehearsal's permit to open a connection; returned on drop. It counts against the connection
/// budget alone: callers may log in beside it after a rejection, and to a full server.
pub(crate) struct RehearsalPermit<P>(Arc<Admission<P>>);

impl<P> Drop for RehearsalPermit<P> {
    fn drop(&mut self) {
        self.0.inner.lock().rehearses = false;
        self.0.wake_front();
    }
}

impl<P> Admission<P> {
    pub(super) fn admit(self: &Arc<Self>, inner: &mut Counts<P>, verifying: u32) -> Permit<P> {
        inner.opening += 1;
        inner.verifying += verifying;
        inner.changes += 1;
        Permit {
            admission: Arc::clone(self),
            verifying,
        }
    }

    /// Returns whether one more connection that belongs to no pool is within the budget.
    fn has_room(&self, inner: &Counts<P>, (old, new): (u32, u32), beside_rehearsal: bool) -> bool {
        let mut pooled = new + inner.opening - inner.verifying;
        // Beside so few old connections, callers may fill the pool while both log in.
        if beside_rehearsal && old < self.overlap {
            pooled = pooled.max(self.max);
        }
        let others = inner.verifying + u32::from(inner.rehearses);
        old + pooled + others < self.max + self.overlap
    }
}

impl<P: Clone> Admission<P> {
    /// Returns a permit for a verification, whose connection belongs to no pool.
    pub(crate) fn enter_verification(self: &Arc<Self>, current: &P) -> Option<Permit<P>> {
        self.count_and_decide(current, |inner, old, new| {
            let has_room = self.has_room(inner, (old, new), inner.rehearses);
            has_room.then(|| self.admit(inner, 1))
        })
    }

    /// Returns a permit for one login of a rehearsal, whose connection belongs to no pool. With an
    /// overlap of 1, it would take the place of a caller that waits for one beside old connections.
    pub(crate) fn enter_rehearsal(self: &Arc<Self>, current: &P) -> Option<RehearsalPermit<P>> {
        self.count_and_decide(current, |inner, old, new| {
            let is_callers = self.overlap == 1 && inner.has_old() && self.has_queue();
            if inner.rehearses || is_callers || !self.has_room(inner, (old, new), true) {
                return None;
            }
            inner.rehearses = true;
            Some(RehearsalPermit(Arc::clone(self)))
        })
    }
}
