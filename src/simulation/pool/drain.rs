//! Drains and probes.

use std::sync::atomic::Ordering;

use super::state::{Current, SimulatedDrain};
use crate::error::ConnectErrorKind;
use crate::pool::machine::{PoolInput, ProbeResult};
use crate::simulation::clock::MS;
use crate::simulation::event::SimulatedEvent;
use crate::simulation::node::NodeId;
use crate::simulation::world::World;

impl World {
    pub(super) fn begin_drain(&mut self, index: usize, old: Current) {
        let drain = SimulatedDrain {
            instance: old.instance,
            secret: old.secret,
            deadline: None,
            is_overdue: false,
        };
        self.pools[index].drains.insert(old.generation, drain);
    }

    pub(in crate::simulation) fn probed(&mut self, node: NodeId, generation: u64) {
        let index = node.index;
        let true_time = self.clocks.true_time();
        let pool = &mut self.pools[index];
        let current = pool
            .current
            .filter(|current| current.generation == generation && !pool.is_closed);
        let result = match current {
            None => ProbeResult::Unknown,
            Some(current) => {
                let idle = pool
                    .instances
                    .get(&current.instance)
                    .map_or(0, |instance| instance.idle.len());
                if idle > 0 {
                    // A connection of a dropped role fails the probe.
                    if true_time < self.db.secrets[current.secret].role_ends {
                        ProbeResult::Passed
                    } else {
                        self.db.secrets[current.secret].last_rejected = Some(true_time);
                        ProbeResult::Rejected
                    }
                } else if !pool.admission.is_open() {
                    ProbeResult::Unknown
                } else {
                    match self.log_in(index, current.secret, false) {
                        Ok(()) => ProbeResult::Passed,
                        Err(ConnectErrorKind::Rejected) => ProbeResult::LoginRejected,
                        Err(_) => ProbeResult::Unknown,
                    }
                }
            }
        };
        self.feed_pool(index, PoolInput::Probed { generation, result });
        self.wake_pool(index);
    }

    pub(super) fn start_drain(&mut self, index: usize, generation: u64, since: u64, deadline: u64) {
        self.drain_starts(index, generation, since, deadline);
        let pool = &mut self.pools[index];
        let Some(drain) = pool.drains.get_mut(&generation) else {
            self.feed_pool(index, PoolInput::Drained { generation });
            return;
        };
        drain.deadline = Some(deadline);
        if let Some(instance) = pool.instances.get_mut(&drain.instance) {
            instance.is_closing = true;
            let idle = std::mem::take(&mut instance.idle).len();
            instance.count.fetch_sub(idle as u32, Ordering::Relaxed);
        }
        let (node, losses) = (pool.node, pool.losses);
        let now = self.clocks.mono;
        for when in [now + MS, deadline.max(now + 2 * MS)] {
            self.queue.add(
                when,
                SimulatedEvent::DrainDeadline {
                    node,
                    losses,
                    generation,
                },
            );
        }
    }

    /// Ends a drain without connections, or reports one past its deadline.
    pub(in crate::simulation) fn check_drain(
        &mut self,
        node: NodeId,
        losses: u32,
        generation: u64,
    ) {
        let (index, now) = (node.index, self.clocks.mono);
        let pool = &mut self.pools[index];
        if pool.losses != losses {
            return;
        }
        let Some(drain) = pool.drains.get_mut(&generation) else {
            return;
        };
        let Some(deadline) = drain.deadline else {
            return;
        };
        let instance = drain.instance;
        let first = now >= deadline && !std::mem::replace(&mut drain.is_overdue, now >= deadline);
        let connections = pool.count(instance);
        if connections > 0 {
            if first {
                let effects = self.feed_pool(
                    index,
                    PoolInput::DrainOverdue {
                        generation,
                        connections,
                    },
                );
                self.drain_overdue(index, generation, &effects);
                self.wake_pool(index);
            }
            return;
        }
        pool.instances.remove(&instance);
        pool.drains.remove(&generation);
        pool.admission.end_drain(generation);
        self.checks.trace.line("drained", node, generation, 0);
        self.checks.hazard("generations drained", 1);
        self.feed_pool(index, PoolInput::Drained { generation });
        self.wake_pool(index);
        self.wake_callers(index);
        self.leave(index);
    }

    /// Notes that a connection of this instance was closed.
    pub(in crate::simulation) fn connection_closed(&mut self, index: usize, instance: u64) {
        let pool = &self.pools[index];
        if let Some(instance) = pool.instances.get(&instance) {
            instance.count.fetch_sub(1, Ordering::Relaxed);
        }
        let drain = pool
            .drains
            .iter()
            .find(|(_, drain)| drain.instance == instance);
        if let Some((&generation, _)) = drain {
            self.check_drain(pool.node, pool.losses, generation);
        }
    }
}
