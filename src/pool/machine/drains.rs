//! Generations that drain: each keeps its lease until its last connection has closed.

use std::time::Duration;

use super::PoolMachine;
use super::active::{Active, Drain};
use super::input::{LeaseFacts, PoolEffect};
use crate::clock::Timestamp;
use crate::lease::OldConnections;
use crate::provider::schedule;

/// Shortest drain, also of an expired lease. Idle connections take a moment to close.
const MIN_DRAIN: Duration = Duration::from_secs(2);

impl PoolMachine {
    pub(super) fn begin_drain(&mut self, old: Active, now: Timestamp) {
        let time = time_to_drain(&old.lease, old.lifetime, self.drain_timeout, now);
        self.drains.push(Drain {
            generation: old.generation,
            lease: old.lease,
            since: now.mono(),
            deadline: now.mono() + time,
            has_task: false,
            abandoned: false,
        });
    }

    /// Starts every drain that has no task.
    pub(super) fn start_drains(&mut self) {
        for drain in self.drains.iter_mut().filter(|drain| !drain.has_task) {
            drain.has_task = true;
            self.effects.push(PoolEffect::StartDrain {
                generation: drain.generation,
                since: drain.since,
                deadline: drain.deadline,
            });
        }
    }

    /// Notes that the drain's task is gone.
    pub(super) fn drain_lost(&mut self, generation: u64) {
        if let Some(drain) = self.drain_mut(generation) {
            drain.has_task = false;
            self.effects.push(PoolEffect::Wake);
        }
    }

    /// Reports connections that are still open, once.
    pub(super) fn drain_overdue(&mut self, generation: u64, connections: u32) {
        // Without connections, the drain ends soon.
        if connections > 0
            && let Some(drain) = self.drain_mut(generation)
            && !std::mem::replace(&mut drain.abandoned, true)
        {
            self.effects.push(PoolEffect::ReportAbandoned {
                generation,
                connections,
            });
        }
    }

    /// Removes a drain whose last connection has closed.
    pub(super) fn drained(&mut self, generation: u64) {
        let mut drains = self.drains.iter();
        if let Some(at) = drains.position(|drain| drain.generation == generation) {
            self.drains.swap_remove(at);
            self.effects.push(PoolEffect::ReturnLease { generation });
        }
    }

    fn drain_mut(&mut self, generation: u64) -> Option<&mut Drain> {
        self.drains
            .iter_mut()
            .find(|drain| drain.generation == generation)
    }
}

/// Returns how long the connections of a lease may take to close. If they expire with it, the time
/// ends with a margin before the expiry.
fn time_to_drain(
    lease: &LeaseFacts,
    lifetime: Option<Duration>,
    drain_timeout: Duration,
    now: Timestamp,
) -> Duration {
    let until_expiry = lease.connection_expiry.remaining(now).map(|left| {
        left.saturating_sub(schedule::drain_margin(lifetime.unwrap_or(left)))
            .max(MIN_DRAIN)
    });
    match (lease.old_connections, until_expiry) {
        (OldConnections::EndWithLease, Some(time)) => time,
        // They do not authenticate again, because their pool was replaced.
        (OldConnections::Reauthenticate, Some(time)) => time.min(drain_timeout),
        _ => drain_timeout,
    }
}
