//! The world of one seed: everything in it, and what befalls it.

use super::backend::{Backend, Kind};
use super::callers::ENDED;
use super::clock::{Clocks, DAY, HOUR, MIN, MS, Queue, SEC};
use super::database::{Database, Server};
use super::event::{Event, Node, RotateStep};
use super::pool::PoolNode;
use super::provider::ProviderNode;
use super::report::Checks;
use crate::provider::machine::Input as ProviderInput;

pub(super) const PROVIDERS: usize = 4;
const POOLS: usize = 8;
/// A jump of the clock that leads to checks.
const JUMP: u64 = 60 * SEC;

pub(super) struct World {
    pub(super) clocks: Clocks,
    pub(super) queue: Queue,
    pub(super) rng: fastrand::Rng,
    pub(super) db: Database,
    pub(super) backends: Vec<Backend>,
    pub(super) providers: Vec<ProviderNode>,
    pub(super) pools: Vec<PoolNode>,
    /// Since when nothing has befallen each provider, in true time.
    pub(super) quiet: Vec<u64>,
    pub(super) checks: Checks,
    /// Whether the tasks of each provider's next fetch, and of its pools' next attempt, are lost.
    pub(super) lose: Vec<(bool, bool)>,
    lives: u32,
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
            checks: Checks::default(),
            lose: vec![(false, false); PROVIDERS],
            lives: 0,
        };
        let kinds = [Kind::Token, Kind::Rotating, Kind::Dynamic, Kind::Static];
        for (at, kind) in kinds.into_iter().enumerate() {
            world.db.servers.push(Server::default());
            let backend = Backend::new(at, kind, &mut world.db, &mut world.rng);
            world.backends.push(backend);
            let node = Node { at, life: 0 };
            world
                .providers
                .push(ProviderNode::new(node, world.clocks.now()));
            world.poke_provider(at);
            world.plan_fault(at);
            let first = world.rng.u64(..DAY);
            let step = RotateStep::Begin;
            world.queue.add(first, Event::Rotate { provider: at, step });
        }
        for at in 0..POOLS {
            let provider = world.providers[at % PROVIDERS].node;
            let now = (world.clocks.now(), 0);
            let pool = PoolNode::new(Node { at, life: 0 }, provider, now, &mut world.rng);
            world.pools.push(pool);
            world.poke_pool(at);
            world.queue.add(at as u64, Event::Arrival { pool: at });
        }
        world.queue.add(HOUR, Event::Machine);
        world.queue.add(2 * HOUR, Event::Operator);
        world.queue.add(10 * MIN, Event::Settled);
        world
    }

    /// Runs until a law is broken or this time has come.
    pub(super) fn run(&mut self, until: u64) {
        while let Some((at, event)) = self.queue.next() {
            if at > until || self.checks.breach.is_some() {
                return;
            }
            self.clocks.mono = at;
            self.checks.trace.now = at;
            self.happens(event);
        }
    }

    fn is_provider(&self, node: Node) -> bool {
        self.providers[node.at].node == node
    }

    fn is_pool(&self, node: Node) -> bool {
        self.pools[node.at].node == node
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::ProviderWake { node, alarm } if self.is_provider(node) => {
                self.provider_wakes(node, alarm)
            }
            Event::Fetched {
                node,
                losses,
                fetch,
            } if self.is_provider(node) => self.fetched(node, losses, fetch),
            Event::FetchDeadline {
                node,
                losses,
                fetch,
            } if self.is_provider(node) => {
                self.fetch_hangs(node, losses, fetch);
            }
            Event::Released {
                node,
                losses,
                lease,
                hangs,
            } if self.is_provider(node) => {
                self.released(node, losses, lease, hangs);
            }
            Event::Close { node } if self.is_provider(node) => self.close_provider(node.at),
            Event::PoolWake { node, alarm } if self.is_pool(node) => self.pool_wakes(node, alarm),
            Event::Verified {
                node,
                losses,
                attempt,
                hangs,
            } if self.is_pool(node) => {
                self.verified(node, losses, attempt, hangs);
                self.leave(node.at);
            }
            Event::Opened {
                node,
                losses,
                attempt,
            } if self.is_pool(node) => {
                self.opened(node, losses, attempt);
                self.leave(node.at);
            }
            Event::Probed { node, generation } if self.is_pool(node) => {
                self.probed(node, generation)
            }
            Event::DrainDeadline {
                node,
                losses,
                generation,
            } if self.is_pool(node) => {
                self.look_at_drain(node, losses, generation);
            }
            Event::Call { node } if self.is_pool(node) => self.call(node),
            Event::CallerLeaves {
                node,
                call,
                cancelled,
            } if self.is_pool(node) => self.leaves(node, call, cancelled),
            Event::LoggedIn { node, login } if self.is_pool(node) => self.logged_in(node, login),
            Event::Returned { node, call } if self.is_pool(node) => self.returned(node, call),
            Event::Pump { node } if self.is_pool(node) => self.pump(node),
            Event::Arrival { pool } => self.arrives(pool),
            Event::Fault { provider } => self.fault(provider),
            Event::Rotate { provider, step } => self.rotate(provider, step),
            Event::Lose {
                provider,
                pools: false,
            } => self.lose_provider_tasks(provider),
            Event::Lose { provider, .. } => {
                for pool in self.subscribers(provider) {
                    self.lose_pool_tasks(pool);
                }
            }
            Event::Hint { provider } => self.hint(provider),
            Event::Fade { provider } => self.fade(provider),
            Event::Machine => self.machine(),
            Event::Operator => self.operator(),
            Event::Remove { pool } => self.replace_pool(pool),
            Event::Restart => self.restart(),
            Event::Heartbeat => {
                (0..PROVIDERS).for_each(|at| self.poke_provider(at));
                (0..POOLS).for_each(|at| self.poke_pool(at));
            }
            Event::Settled => {
                self.check_recovered();
                self.queue.add(self.clocks.mono + 10 * MIN, Event::Settled);
            }
            // Of what is gone.
            _ => {}
        }
    }

    /// Something befalls a provider that goes on for `micros`.
    pub(super) fn disturb(&mut self, at: usize, micros: u64) {
        let until = self.clocks.truth() + micros;
        self.quiet[at] = self.quiet[at].max(until);
    }

    fn plan_fault(&mut self, provider: usize) {
        let next = self.clocks.mono + self.rng.u64(..10 * HOUR);
        self.queue.add(next, Event::Fault { provider });
    }

    fn fault(&mut self, at: usize) {
        self.plan_fault(at);
        let truth = self.clocks.truth();
        let node = self.providers[at].node;
        let (name, until) = match self.rng.u8(..21) {
            20 => {
                let until = truth + self.rng.u64(MIN..3 * MIN);
                self.backends[at].fades = until;
                self.revoke(at);
                self.fade(at);
                ("leases fade", until)
            }
            0..8 => self.backends[at].fail(truth, &mut self.rng),
            8..14 => self.server_fault(at, truth),
            14 => {
                // Whoever likes sends hints; they lead to no more than a fetch a second.
                for _ in 0..self.rng.u32(5..60) {
                    let soon = self.clocks.mono + self.rng.u64(..3 * SEC);
                    self.queue.add(soon, Event::Hint { provider: at });
                }
                ("forged hints", truth)
            }
            15 => {
                for _ in 0..self.rng.u32(1..5) {
                    self.rotate_now(at);
                }
                ("requests", truth)
            }
            16 => {
                self.lose[at] = (true, true);
                ("tasks lost", truth)
            }
            17 => {
                self.revoke(at);
                ("revoked", truth)
            }
            18 => {
                self.end_connections(at);
                ("connections ended", truth)
            }
            _ => {
                let pools = self.subscribers(at);
                let until = self.clocks.mono + self.rng.u64(..70 * SEC);
                for pool in pools {
                    if self.rng.bool() {
                        self.pools[pool].actor.crashed_until = until;
                        self.checks.hazard("actors crashed", 1);
                    }
                }
                self.providers[at].actor.crashed_until = until;
                self.checks.hazard("actors crashed", 1);
                ("actors crashed", truth + 70 * SEC)
            }
        };
        self.checks.trace.line(name, node, until - truth, 0);
        self.checks.hazard(name, 1);
        self.disturb(at, until - truth);
        self.burst(at);
    }

    fn fade(&mut self, at: usize) {
        if self.clocks.truth() >= self.backends[at].fades {
            return;
        }
        self.end_connections(at);
        for pool in self.subscribers(at) {
            let node = self.pools[pool].node;
            self.queue.add(self.clocks.mono, Event::Call { node });
        }
        let next = self.clocks.mono + 300 * MS;
        self.queue.add(next, Event::Fade { provider: at });
    }

    fn server_fault(&mut self, at: usize, truth: u64) -> (&'static str, u64) {
        let kind = self.rng.u8(..6);
        let until = truth + self.rng.u64(10 * SEC..20 * MIN);
        let lag = self.rng.u64(SEC..20 * SEC);
        let server = &mut self.db.servers[at];
        let name = match kind {
            0 => {
                server.down = until;
                "server down"
            }
            1 => {
                server.hangs = until.min(truth + 2 * MIN);
                "server hangs"
            }
            2 => {
                server.slow = until;
                "server slow"
            }
            3 => {
                server.full = until;
                "server full"
            }
            4 => {
                server.misconfigured = until;
                "server misconfigured"
            }
            _ => {
                (server.lags, server.lag) = (until, lag);
                "server lags"
            }
        };
        if kind == 0 {
            self.end_connections(at);
        }
        (name, until + lag)
    }

    /// The server ends all idle connections.
    pub(super) fn end_connections(&mut self, at: usize) {
        for pool in self.subscribers(at) {
            for instance in self.pools[pool].instances.values_mut() {
                instance.idle.iter_mut().for_each(|one| *one = ENDED);
            }
        }
    }

    /// The database does not accept the current credential any more; for a password, only for a
    /// while.
    fn revoke(&mut self, at: usize) {
        let truth = self.clocks.truth();
        let secret = match self.backends[at].kind {
            Kind::Token | Kind::Dynamic => self.providers[at].secret(),
            Kind::Rotating | Kind::Static => Some(self.backends[at].current),
        };
        let Some(secret) = secret else {
            return;
        };
        self.db.stop_accepting(secret, truth);
        if self.backends[at].kind == Kind::Dynamic && self.rng.bool() {
            self.db.drop_role(secret, truth);
        }
        if matches!(self.backends[at].kind, Kind::Rotating | Kind::Static) {
            let wait = self.rng.u64(SEC..30 * MIN);
            self.disturb(at, wait);
            let step = RotateStep::Restore;
            self.queue.add(
                self.clocks.mono + wait,
                Event::Rotate { provider: at, step },
            );
        }
    }

    fn rotate(&mut self, at: usize, step: RotateStep) {
        let (mono, truth) = (self.clocks.mono, self.clocks.truth());
        self.disturb(at, 0);
        let node = self.providers[at].node;
        let old = self.backends[at].current;
        match step {
            RotateStep::Begin => {
                let next = mono + self.rng.u64(HOUR..DAY);
                self.queue.add(next, Event::Rotate { provider: at, step });
                if !matches!(self.backends[at].kind, Kind::Rotating | Kind::Static) {
                    return;
                }
                let account = self.backends[at].account.clone();
                let new = self.db.add(at, account, None, u64::MAX, u64::MAX);
                let window = self.rng.u64(..40 * SEC);
                self.backends[at].pending = Some(new);
                let mut plan = |delay: u64, step| {
                    self.queue
                        .add(mono + delay, Event::Rotate { provider: at, step });
                };
                let begin = 10 * MS;
                let (backend, database) = match self.rng.u8(..3) {
                    0 => (begin, window),
                    1 => (window, begin),
                    // A wrong secret, put right by what was before.
                    _ => (begin, u64::MAX),
                };
                plan(backend, RotateStep::Backend(new));
                let rolled_back = 2 * window + 3 * MIN;
                if database == u64::MAX {
                    plan(rolled_back, RotateStep::Backend(old));
                    plan(rolled_back, RotateStep::Restore);
                    self.checks.hazard("wrong secrets put right", 1);
                } else {
                    plan(database, RotateStep::Database(new));
                    if self.rng.u8(..4) == 0 {
                        plan(rolled_back, RotateStep::Database(old));
                        plan(rolled_back + window, RotateStep::Backend(old));
                        self.checks.hazard("rotations rolled back", 1);
                    }
                }
                self.checks.hazard("credentials rotated", 1);
                self.disturb(at, rolled_back + window + MIN);
                self.burst(at);
            }
            RotateStep::Backend(new) => {
                self.checks.trace.line("backend has", node, new as u64, 0);
                let backend = &mut self.backends[at];
                if backend.current != new {
                    backend.previous = Some(old);
                    backend.current = new;
                }
                backend.pending = backend.pending.filter(|pending| *pending != new);
                if !backend.hints_lost && self.rng.bool() {
                    self.hint(at);
                }
            }
            RotateStep::Restore => self.rotate(at, RotateStep::Database(old)),
            RotateStep::Database(new) => {
                self.checks.trace.line("database has", node, new as u64, 0);
                for secret in 0..self.db.secrets.len() {
                    if self.db.secrets[secret].provider == at && secret != new {
                        self.db.stop_accepting(secret, truth);
                    }
                }
                self.db.accept(new, truth);
                self.burst(at);
            }
        }
    }

    /// The machine sleeps, or its clock is set.
    fn machine(&mut self) {
        let next = self.clocks.mono + self.rng.u64(HOUR..2 * DAY);
        self.queue.add(next, Event::Machine);
        let by = match self.rng.u8(..3) {
            0 => self.rng.u64(SEC..5 * MIN),
            _ => self.rng.u64(MIN..5 * HOUR),
        };
        let name = match self.rng.u8(..3) {
            0 => {
                self.clocks.sleep(by);
                "the machine slept"
            }
            1 => {
                self.clocks.set_wall(by as i64);
                "the clock was set forward"
            }
            _ => {
                self.clocks.set_wall(-(by as i64));
                "the clock was set back"
            }
        };
        self.checks.trace.line(name, Node { at: 0, life: 0 }, by, 0);
        self.checks.hazard(name, 1);
        let mono = self.clocks.mono;
        for at in 0..self.providers.len() {
            self.disturb(at, 0);
            if by > JUMP + SEC {
                self.providers[at].model.jumped = Some(mono);
            }
            // The heartbeats notice it.
        }
        for beat in [self.rng.u64(..15 * SEC), 30 * SEC] {
            self.queue.add(mono + beat, Event::Heartbeat);
        }
        for at in 0..self.pools.len() {
            if by > JUMP + SEC {
                self.pools[at].model.jumped = Some(mono);
            }
        }
    }

    /// Somebody removes what is there, or shuts everything down and starts it again.
    fn operator(&mut self) {
        let mono = self.clocks.mono;
        let next = mono + self.rng.u64(HOUR..3 * DAY);
        self.queue.add(next, Event::Operator);
        match self.rng.u8(..4) {
            0 | 1 => {
                let pool = self.rng.usize(..POOLS);
                self.retire(pool);
                self.queue.add(
                    mono + self.rng.u64(70 * SEC..10 * MIN),
                    Event::Remove { pool },
                );
                self.checks.hazard("pools removed", 1);
            }
            2 => {
                let at = self.rng.usize(..PROVIDERS);
                self.rotate_now(at);
                self.burst(at);
            }
            _ => {
                for at in 0..PROVIDERS {
                    self.feed_provider(at, ProviderInput::Stop);
                    self.disturb(at, HOUR);
                }
                for pool in 0..POOLS {
                    self.retire(pool);
                    // A second time does no harm.
                    self.retire(pool);
                }
                for at in 0..PROVIDERS {
                    let node = self.providers[at].node;
                    self.queue
                        .add(mono + self.rng.u64(SEC..40 * SEC), Event::Close { node });
                }
                self.queue.add(mono + 3 * MIN, Event::Restart);
                self.checks.hazard("shutdowns", 1);
            }
        }
    }

    fn replace_pool(&mut self, at: usize) {
        if !self.pools[at].is_retired || self.providers[at % PROVIDERS].model.is_stopped {
            return;
        }
        if self.pools[at].has_subscribed {
            // Its connections are still in use.
            return self
                .queue
                .add(self.clocks.mono + MIN, Event::Remove { pool: at });
        }
        self.add_pool(at);
    }

    fn add_pool(&mut self, at: usize) {
        self.lives += 1;
        let node = Node {
            at,
            life: self.lives,
        };
        let provider = self.providers[at % PROVIDERS].node;
        let now = (self.clocks.now(), self.clocks.mono);
        self.pools[at] = PoolNode::new(node, provider, now, &mut self.rng);
        self.disturb(at % PROVIDERS, 0);
        self.poke_pool(at);
    }

    fn restart(&mut self) {
        for at in 0..PROVIDERS {
            self.lives += 1;
            let node = Node {
                at,
                life: self.lives,
            };
            self.providers[at] = ProviderNode::new(node, self.clocks.now());
            self.poke_provider(at);
        }
        for at in 0..POOLS {
            self.add_pool(at);
        }
    }
}
