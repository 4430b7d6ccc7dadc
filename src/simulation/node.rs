//! Nodes: the simulated providers and pools, and the actors around their drivers.

/// Number of providers.
pub(super) const PROVIDERS: usize = 4;
/// Number of pools. Their providers take turns.
pub(super) const POOLS: usize = 8;

/// A provider or pool: its index among those of its kind, and the number of its incarnation there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NodeId {
    pub(super) index: usize,
    pub(super) incarnation: u32,
}

/// The actor around a driver.
#[derive(Debug, Default)]
pub(super) struct ActorState {
    is_woken: bool,
    alarm: Option<(u64, u64)>,
    alarms: u64,
    /// When the actor is restarted after a crash.
    pub(super) crashed_until: u64,
}

/// Action of an actor at a wake.
#[derive(Debug, PartialEq)]
pub(super) enum WakeAction {
    Ignore,
    Later(u64),
    Reconcile,
}

impl ActorState {
    pub(super) fn wake(&mut self) -> bool {
        !std::mem::replace(&mut self.is_woken, true)
    }

    pub(super) fn take(&mut self, alarm: Option<u64>, now: u64) -> WakeAction {
        match alarm {
            Some(number) if self.alarm.is_none_or(|(_, set)| set != number) => {
                return WakeAction::Ignore;
            }
            _ if now < self.crashed_until => return WakeAction::Later(self.crashed_until),
            Some(_) => self.alarm = None,
            None => self.is_woken = false,
        }
        WakeAction::Reconcile
    }

    /// Sets the alarm unless an earlier one is set, and returns its number. A redundant wake does
    /// no harm.
    pub(super) fn arm(&mut self, at: u64) -> Option<u64> {
        if self.alarm.is_some_and(|(set, _)| set <= at) {
            return None;
        }
        self.alarms += 1;
        self.alarm = Some((at, self.alarms));
        Some(self.alarms)
    }
}
