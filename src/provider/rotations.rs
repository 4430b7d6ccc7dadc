//! A provider's rotations: which are open, and how they end.

use std::sync::Arc;
use std::time::Instant;

use super::decide::{Settled, State};
use super::slot::ProviderSlot;
use crate::rotation::{Rotation, RotationOutcome};

impl<S: Send + Sync + 'static> ProviderSlot<S> {
    /// The rotation that a handover now belongs to, while it is open.
    pub(crate) fn rotation(&self) -> Option<Arc<Rotation>> {
        let state = self.lock();
        // One that merely looks is none of a handover's business.
        let now = self.clock().mono();
        state.settling.clone().or_else(|| {
            state
                .fetching
                .clone()
                .filter(|_| state.held_is_rejected(now))
        })
    }

    /// What is held is rejected no longer: a rotation that looked for another ends, if nothing is
    /// being fetched for it.
    pub(super) fn end_at_rest(&self) {
        let closed = {
            let mut state = self.lock();
            if state.is_at_rest() {
                state.fetching.take()
            } else {
                None
            }
        };
        if let Some(rotation) = closed {
            self.close_rotation(&rotation, RotationOutcome::Unchanged);
        }
        self.settled();
    }

    /// A pool has taken the lease of this rotation, or left.
    pub(crate) fn pool_settled(&self, rotation: &Arc<Rotation>) {
        if rotation.is_settled() {
            let current = self
                .lock()
                .settling
                .take_if(|settling| Arc::ptr_eq(settling, rotation));
            if current.is_some() {
                self.close_rotation(rotation, RotationOutcome::Adopted);
            }
        }
        self.settled();
    }

    /// No pool takes anything any more: the rotation that waits for some ends as it is.
    pub(crate) fn end_settling(&self) {
        let settling = self.lock().settling.take();
        self.end(settling);
    }

    /// Nothing is awaited of it any more: what is still open of rotations ends as it is.
    pub(crate) fn end_rotations(&self) {
        let open = {
            let mut state = self.lock();
            [state.fetching.take(), state.settling.take()]
        };
        self.end(open.into_iter().flatten());
    }

    fn end(&self, open: impl IntoIterator<Item = Arc<Rotation>>) {
        for rotation in open {
            self.close_rotation(&rotation, RotationOutcome::Unfinished);
        }
        self.settled();
    }
}

/// Where the rotation goes: on to the pools, closed, or on to the next attempt. Answers what to
/// close it with, and what it replaces.
pub(super) fn move_on<S>(
    state: &mut State<S>,
    settled: &Settled,
    rotation: Option<&Arc<Rotation>>,
    pools: Vec<Arc<str>>,
    now: Instant,
) -> (Option<RotationOutcome>, Option<Arc<Rotation>>) {
    match settled {
        Settled::Failed(_) => (None, None),
        Settled::Unchanged | Settled::Stale { .. } if state.held_is_rejected(now) => (None, None),
        Settled::Unchanged | Settled::Stale { .. } => {
            state.fetching = None;
            (Some(RotationOutcome::Unchanged), None)
        }
        Settled::Adopted => {
            state.fetching = None;
            let superseded = state.settling.take();
            let Some(rotation) = rotation else {
                return (None, superseded);
            };
            if let Some(held) = &state.held {
                rotation.adopted(held.revision(), pools);
            }
            state.origin = rotation.origin();
            if rotation.is_settled() {
                return (Some(RotationOutcome::Adopted), superseded);
            }
            state.settling = Some(Arc::clone(rotation));
            (None, superseded)
        }
    }
}
