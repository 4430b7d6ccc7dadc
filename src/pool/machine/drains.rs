//! Generations that drain: each keeps its lease until its last connection has closed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::active::Active;
use super::input::{LeaseFacts, PoolEffect};
use crate::clock::Timestamp;
use crate::lease::{OldConnections, Revision};
use crate::provider::schedule;

/// Shortest drain, also of an expired lease. Idle connections take a moment to close.
const SHORTEST: Duration = Duration::from_secs(2);

/// Whether a task works on a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    /// Left by `StartDrain`.
    Missing,
    /// Left by `DrainLost`, when the task's runtime ended.
    Running,
}

/// A generation that drains. Removed by `Drained` only, however late that is.
#[derive(Clone, Debug)]
pub(crate) struct Drain {
    pub(crate) generation: u64,
    pub(crate) revision: Revision,
    pub(crate) account: Arc<str>,
    since: Instant,
    deadline: Instant,
    task: Task,
    /// Whether connections outlived the deadline, which was reported.
    pub(crate) abandoned: bool,
}

/// The generations that drain.
#[derive(Debug, Default)]
pub(crate) struct Drains(Vec<Drain>);

impl Drains {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Drain> {
        self.0.iter()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn get(&self, generation: u64) -> Option<&Drain> {
        self.iter().find(|drain| drain.generation == generation)
    }

    fn get_mut(&mut self, generation: u64) -> Option<&mut Drain> {
        self.0
            .iter_mut()
            .find(|drain| drain.generation == generation)
    }

    pub(super) fn push(&mut self, old: Active, drain_timeout: Duration, now: Timestamp) {
        let time = time_to_drain(&old.lease, old.lifetime, drain_timeout, now);
        self.0.push(Drain {
            generation: old.generation,
            revision: old.lease.revision,
            account: old.lease.account,
            since: now.mono(),
            deadline: now.mono() + time,
            task: Task::Missing,
            abandoned: false,
        });
    }

    /// Starts every drain that has no task.
    pub(super) fn start(&mut self, effects: &mut Vec<PoolEffect>) {
        let missing = self
            .0
            .iter_mut()
            .filter(|drain| drain.task == Task::Missing);
        effects.extend(missing.map(|drain| {
            drain.task = Task::Running;
            PoolEffect::StartDrain {
                generation: drain.generation,
                since: drain.since,
                deadline: drain.deadline,
            }
        }));
    }

    /// Notes that the drain's task is gone.
    pub(super) fn lost(&mut self, generation: u64, effects: &mut Vec<PoolEffect>) {
        if let Some(drain) = self.get_mut(generation) {
            drain.task = Task::Missing;
            effects.push(PoolEffect::Wake);
        }
    }

    /// Reports connections that are still open, once.
    pub(super) fn overdue(
        &mut self,
        generation: u64,
        connections: u32,
        effects: &mut Vec<PoolEffect>,
    ) {
        // Without connections, the drain ends soon.
        if connections > 0
            && let Some(drain) = self.get_mut(generation)
            && !std::mem::replace(&mut drain.abandoned, true)
        {
            effects.push(PoolEffect::ReportAbandoned {
                generation,
                connections,
            });
        }
    }

    /// Removes a drain whose last connection has closed.
    pub(super) fn end(&mut self, generation: u64, effects: &mut Vec<PoolEffect>) {
        let at = self
            .0
            .iter()
            .position(|drain| drain.generation == generation);
        if let Some(at) = at {
            self.0.swap_remove(at);
            effects.push(PoolEffect::ReturnLease { generation });
        }
    }
}

/// Returns how long the connections of a lease may take to close. A lease that ends them allows the
/// time until its expiry, less a margin.
fn time_to_drain(
    lease: &LeaseFacts,
    lifetime: Option<Duration>,
    drain_timeout: Duration,
    now: Timestamp,
) -> Duration {
    match (lease.old_connections, lease.expiry.remaining(now)) {
        (OldConnections::EndWithLease, Some(left)) => left
            .saturating_sub(schedule::drain_margin(lifetime.unwrap_or(left)))
            .max(SHORTEST),
        _ => drain_timeout,
    }
}
