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
    /// Whether a wake is in its mailbox, or follows its restart.
    is_woken: bool,
    alarm: Option<(u64, u64)>,
    alarms: u64,
    /// When the actor is restarted after a crash.
    pub(super) crashed_until: u64,
}

impl ActorState {
    pub(super) fn wake(&mut self) -> bool {
        !std::mem::replace(&mut self.is_woken, true)
    }

    /// Takes a wake, or the alarm with this number. Returns whether the actor reconciles.
    pub(super) fn take(&mut self, alarm: Option<u64>, now: u64) -> bool {
        // The mailbox of a crashed actor is lost.
        if now < self.crashed_until {
            return false;
        }
        match alarm {
            Some(number) => self.alarm.take_if(|(_, set)| *set == number).is_some(),
            None => {
                self.is_woken = false;
                true
            }
        }
    }

    /// Crashes the actor: its alarm and its mailbox are lost. Returns when the next one starts,
    /// which has to be woken then.
    pub(super) fn crash(&mut self, until: u64) -> u64 {
        self.crashed_until = self.crashed_until.max(until);
        self.alarm = None;
        self.is_woken = true;
        self.crashed_until
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
