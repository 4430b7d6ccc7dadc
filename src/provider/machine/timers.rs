//! The table of all timers.

use std::collections::BTreeMap;
use std::time::Instant;

use super::LeaseId;

/// Reason for a fetch or release. If several fetches are due, the first in this order starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A caller requests a new credential.
    Manual,
    /// The clock jumped.
    ClockJump,
    /// The backend may have a new credential.
    Hint,
    /// The database rejects the current lease.
    Rejected,
    /// The last fetch failed.
    Retry,
    /// The current lease needs a refresh, or there is none.
    Refresh,
    /// A caller rehearses a rotation.
    Rehearsal,
    /// A lease in the release queue.
    Release(LeaseId),
}

impl Timer {
    /// Returns whether it causes a fetch whose lease may be adopted.
    pub(super) fn is_for_a_fetch(self) -> bool {
        !matches!(self, Self::Rehearsal | Self::Release(_))
    }
}

#[derive(Debug, Default)]
pub(super) struct ProviderTimers(BTreeMap<Timer, Instant>);

impl ProviderTimers {
    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        self.0.insert(timer, at);
    }

    pub(super) fn set_unless_set(&mut self, timer: Timer, at: Instant) {
        self.0.entry(timer).or_insert(at);
    }

    pub(super) fn cancel(&mut self, timer: Timer) {
        self.0.remove(&timer);
    }

    pub(super) fn get(&self, timer: Timer) -> Option<Instant> {
        self.0.get(&timer).copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Timer, Instant)> {
        self.0.iter().map(|(timer, at)| (*timer, *at))
    }
}
