//! State of one run, and the dispatch of its events.

mod faults;

use super::backend::{Backend, Kind};
use super::clock::{Clocks, DAY, HOUR, MIN, SEC};
use super::database::{Database, Server};
use super::event::{Queue, RotateStep, SimulatedEvent};
use super::node::{NodeId, POOLS, PROVIDERS};
use super::pool::state::SimulatedPool;
use super::provider::state::SimulatedProvider;
use super::report::CheckResults;
use crate::provider::machine::ProviderInput;

/// Clock jump that causes checks.
const JUMP: u64 = 60 * SEC;

pub(super) struct World {
    pub(super) clocks: Clocks,
    pub(super) queue: Queue,
    pub(super) rng: fastrand::Rng,
    pub(super) db: Database,
    pub(super) backends: Vec<Backend>,
    pub(super) providers: Vec<SimulatedProvider>,
    pub(super) pools: Vec<SimulatedPool>,
    /// End of the last disturbance of each provider, in true time.
    pub(super) quiet: Vec<u64>,
    pub(super) checks: CheckResults,
    /// Whether each provider's next fetch, and its pools' next attempt, loses its task.
    pub(super) lose: Vec<(bool, bool)>,
    incarnations: u32,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        // Admission control draws its pauses from the thread's generator.
        fastrand::seed(seed);
        let mut world = Self {
            clocks: Clocks::new(),
            queue: Queue::default(),
            rng: fastrand::Rng::with_seed(seed),
            db: Database::default(),
            backends: Vec::new(),
            providers: Vec::new(),
            pools: Vec::new(),
            quiet: vec![0; PROVIDERS],
            checks: CheckResults::default(),
            lose: vec![(false, false); PROVIDERS],
            incarnations: 0,
        };
        let kinds = [Kind::Token, Kind::Rotating, Kind::Dynamic, Kind::Static];
        for (index, kind) in kinds.into_iter().enumerate() {
            world.db.servers.push(Server::default());
            let backend = Backend::new(index, kind, &mut world.db, &mut world.rng);
            world.backends.push(backend);
            let node = NodeId {
                index,
                incarnation: 0,
            };
            world
                .providers
                .push(SimulatedProvider::new(node, world.clocks.now()));
            world.wake_provider(index);
            world.plan_fault(index);
            let first = world.rng.u64(..DAY);
            let step = RotateStep::Begin;
            world.queue.add(
                first,
                SimulatedEvent::Rotate {
                    provider: index,
                    step,
                },
            );
        }
        for index in 0..POOLS {
            let provider = world.providers[index % PROVIDERS].node;
            let now = (world.clocks.now(), 0);
            let pool = SimulatedPool::new(
                NodeId {
                    index,
                    incarnation: 0,
                },
                provider,
                now,
                &mut world.rng,
            );
            world.pools.push(pool);
            world.wake_pool(index);
            world
                .queue
                .add(index as u64, SimulatedEvent::Arrival { pool: index });
        }
        world.queue.add(HOUR, SimulatedEvent::ClockFault);
        world.queue.add(2 * HOUR, SimulatedEvent::Operator);
        world.queue.add(10 * MIN, SimulatedEvent::CheckRecovery);
        world
    }

    /// Runs until a law is broken or this time is reached.
    pub(super) fn run(&mut self, until: u64) {
        while let Some((at, event)) = self.queue.next() {
            if at > until || self.checks.breach.is_some() {
                return;
            }
            self.clocks.mono = at;
            self.checks.trace.now = at;
            self.handle_event(event);
        }
    }

    fn is_provider(&self, node: NodeId) -> bool {
        self.providers[node.index].node == node
    }

    fn is_pool(&self, node: NodeId) -> bool {
        self.pools[node.index].node == node
    }

    fn handle_event(&mut self, event: SimulatedEvent) {
        match event {
            SimulatedEvent::ProviderWake { node, alarm } if self.is_provider(node) => {
                self.provider_wakes(node, alarm)
            }
            SimulatedEvent::Fetched {
                node,
                losses,
                fetch,
            } if self.is_provider(node) => self.fetched(node, losses, fetch),
            SimulatedEvent::FetchDeadline {
                node,
                losses,
                fetch,
            } if self.is_provider(node) => {
                self.fetch_hangs(node, losses, fetch);
            }
            SimulatedEvent::Released {
                node,
                losses,
                lease,
                hangs,
            } if self.is_provider(node) => {
                self.released(node, losses, lease, hangs);
            }
            SimulatedEvent::Resume { node } if self.is_provider(node) => {
                self.feed_provider(node.index, ProviderInput::Resume);
            }
            SimulatedEvent::Rehearse { provider } => self.rehearse(provider),
            SimulatedEvent::RollBack { node } if self.is_pool(node) => self.roll_back(node.index),
            SimulatedEvent::HoldAgain { provider } => {
                let held = self.rng.u64(SEC..10 * MIN);
                self.hold(provider, held);
            }
            SimulatedEvent::Close { node } if self.is_provider(node) => {
                self.close_provider(node.index)
            }
            SimulatedEvent::PoolWake { node, alarm } if self.is_pool(node) => {
                self.pool_wakes(node, alarm)
            }
            SimulatedEvent::Verified {
                node,
                losses,
                attempt,
                hangs,
            } if self.is_pool(node) => {
                self.verified(node, losses, attempt, hangs);
                self.leave(node.index);
            }
            SimulatedEvent::Opened {
                node,
                losses,
                attempt,
            } if self.is_pool(node) => {
                self.opened(node, losses, attempt);
                self.leave(node.index);
            }
            SimulatedEvent::Probed { node, generation } if self.is_pool(node) => {
                self.probed(node, generation)
            }
            SimulatedEvent::Rehearsed { node, hangs } if self.is_pool(node) => {
                self.rehearsal_logged_in(node, hangs)
            }
            SimulatedEvent::DrainDeadline {
                node,
                losses,
                generation,
            } if self.is_pool(node) => {
                self.check_drain(node, losses, generation);
            }
            SimulatedEvent::Call { node } if self.is_pool(node) => self.call(node),
            SimulatedEvent::CallerLeaves {
                node,
                call,
                cancelled,
            } if self.is_pool(node) => self.caller_leaves(node, call, cancelled),
            SimulatedEvent::LoggedIn { node, login } if self.is_pool(node) => {
                self.logged_in(node, login)
            }
            SimulatedEvent::Returned { node, call } if self.is_pool(node) => {
                self.returned(node, call)
            }
            SimulatedEvent::CallersPoll { node } if self.is_pool(node) => self.callers_poll(node),
            SimulatedEvent::Arrival { pool } => self.idle_caller_arrives(pool),
            SimulatedEvent::Fault { provider } => self.fault(provider),
            SimulatedEvent::Rotate { provider, step } => self.rotate(provider, step),
            SimulatedEvent::Lose {
                provider,
                pools: false,
            } => self.lose_provider_tasks(provider),
            SimulatedEvent::Lose { provider, .. } => {
                for pool in self.subscribers(provider) {
                    self.lose_pool_tasks(pool);
                }
            }
            SimulatedEvent::Hint { provider } => self.hint(provider),
            SimulatedEvent::RepeatLogins { provider } => self.repeat_logins(provider),
            SimulatedEvent::ClockFault => self.clock_fault(),
            SimulatedEvent::Operator => self.operator(),
            SimulatedEvent::Remove { pool } => self.replace_pool(pool),
            SimulatedEvent::Restart => self.restart(),
            SimulatedEvent::Heartbeat => {
                (0..PROVIDERS).for_each(|index| self.wake_provider(index));
                (0..POOLS).for_each(|index| self.wake_pool(index));
            }
            SimulatedEvent::CheckRecovery => {
                self.check_recovered();
                self.queue
                    .add(self.clocks.mono + 10 * MIN, SimulatedEvent::CheckRecovery);
            }
            // Events of removed nodes.
            _ => {}
        }
    }

    /// Notes a disturbance of a provider that lasts for `micros`.
    pub(super) fn disturb(&mut self, index: usize, micros: u64) {
        let until = self.clocks.true_time() + micros;
        self.quiet[index] = self.quiet[index].max(until);
    }

    /// Acts as an operator: removes a pool, requests a credential, holds or rehearses a provider,
    /// returns pools to their previous leases, or restarts everything.
    fn operator(&mut self) {
        let mono = self.clocks.mono;
        let next = mono + self.rng.u64(HOUR..3 * DAY);
        self.queue.add(next, SimulatedEvent::Operator);
        match self.rng.u8(..11) {
            8..11 => {
                let index = self.rng.usize(..PROVIDERS);
                self.rotate_now(index);
                self.burst(index);
                self.plan_roll_backs(index);
            }
            4 | 5 => {
                let index = self.rng.usize(..PROVIDERS);
                let held = self.rng.u64(SEC..30 * MIN);
                self.hold(index, held);
            }
            6 | 7 => {
                let index = self.rng.usize(..PROVIDERS);
                self.plan_rehearsals(index);
                self.burst(index);
            }
            0 | 1 => {
                let pool = self.rng.usize(..POOLS);
                self.close_pool(pool);
                self.queue.add(
                    mono + self.rng.u64(70 * SEC..10 * MIN),
                    SimulatedEvent::Remove { pool },
                );
                self.checks.hazard("pools removed", 1);
            }
            2 => {
                let index = self.rng.usize(..PROVIDERS);
                self.rotate_now(index);
                self.burst(index);
            }
            _ => {
                for index in 0..PROVIDERS {
                    self.feed_provider(index, ProviderInput::Stop);
                    self.disturb(index, HOUR);
                }
                for pool in 0..POOLS {
                    self.close_pool(pool);
                    // Retiring twice does no harm.
                    self.close_pool(pool);
                }
                for index in 0..PROVIDERS {
                    let node = self.providers[index].node;
                    self.queue.add(
                        mono + self.rng.u64(SEC..40 * SEC),
                        SimulatedEvent::Close { node },
                    );
                }
                self.queue.add(mono + 3 * MIN, SimulatedEvent::Restart);
                self.checks.hazard("shutdowns", 1);
            }
        }
    }

    fn replace_pool(&mut self, index: usize) {
        if !self.pools[index].is_closed || self.providers[index % PROVIDERS].model.is_stopped {
            return;
        }
        if self.pools[index].has_subscribed {
            // Its connections are still in use.
            return self.queue.add(
                self.clocks.mono + MIN,
                SimulatedEvent::Remove { pool: index },
            );
        }
        self.add_pool(index);
    }

    fn add_pool(&mut self, index: usize) {
        self.incarnations += 1;
        let node = NodeId {
            index,
            incarnation: self.incarnations,
        };
        let provider = self.providers[index % PROVIDERS].node;
        let now = (self.clocks.now(), self.clocks.mono);
        self.pools[index] = SimulatedPool::new(node, provider, now, &mut self.rng);
        self.disturb(index % PROVIDERS, 0);
        self.wake_pool(index);
    }

    fn restart(&mut self) {
        for index in 0..PROVIDERS {
            self.incarnations += 1;
            let node = NodeId {
                index,
                incarnation: self.incarnations,
            };
            self.providers[index] = SimulatedProvider::new(node, self.clocks.now());
            self.wake_provider(index);
        }
        for index in 0..POOLS {
            self.add_pool(index);
        }
    }
}
