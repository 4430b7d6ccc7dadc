//! Faults: outages, rotations, revoked credentials, clock jumps.

use super::{JUMP, World};
use crate::simulation::backend::Kind;
use crate::simulation::clock::{DAY, HOUR, MIN, MS, SEC};
use crate::simulation::database::ENDED;
use crate::simulation::event::{RotateStep, SimulatedEvent};
use crate::simulation::node::NodeId;

impl World {
    pub(super) fn plan_fault(&mut self, provider: usize) {
        let next = self.clocks.mono + self.rng.u64(..10 * HOUR);
        self.queue.add(next, SimulatedEvent::Fault { provider });
    }

    pub(super) fn fault(&mut self, index: usize) {
        self.plan_fault(index);
        let true_time = self.clocks.true_time();
        let node = self.providers[index].node;
        let (name, until) = match self.rng.u8(..22) {
            21 => {
                self.plan_rehearsals(index);
                ("rehearsals during faults", true_time)
            }
            20 => {
                let until = true_time + self.rng.u64(MIN..3 * MIN);
                self.backends[index].short_lived = until;
                self.revoke(index);
                self.repeat_logins(index);
                ("new credentials expire early", until)
            }
            0..8 => self.backends[index].fail(true_time, &mut self.rng),
            8..14 => self.server_fault(index, true_time),
            14 => {
                // Anyone may send hints. They cause one fetch per second at most.
                for _ in 0..self.rng.u32(5..60) {
                    let soon = self.clocks.mono + self.rng.u64(..3 * SEC);
                    self.queue
                        .add(soon, SimulatedEvent::Hint { provider: index });
                }
                ("forged hints", true_time)
            }
            15 => {
                for _ in 0..self.rng.u32(1..5) {
                    self.rotate_now(index);
                }
                ("manual requests", true_time)
            }
            16 => {
                self.lose[index] = (true, true);
                ("tasks lost", true_time)
            }
            17 => {
                self.revoke(index);
                self.plan_rehearsals(index);
                ("revoked", true_time)
            }
            18 => {
                self.end_connections(index);
                ("connections ended", true_time)
            }
            _ => {
                let pools = self.subscribers(index);
                let until = self.clocks.mono + self.rng.u64(..70 * SEC);
                for pool in pools {
                    if self.rng.bool() {
                        self.crash_pool(pool, until);
                    }
                }
                self.crash_provider(index, until);
                ("actors crashed", true_time + 70 * SEC)
            }
        };
        self.checks.trace.line(name, node, until - true_time, 0);
        self.checks.hazard(name, 1);
        self.disturb(index, until - true_time);
        self.burst(index);
    }

    fn crash_provider(&mut self, index: usize, until: u64) {
        let provider = &mut self.providers[index];
        let (node, restart) = (provider.node, provider.actor.crash(until));
        self.queue
            .add(restart, SimulatedEvent::ProviderWake { node, alarm: None });
        self.provider_crashed(index);
    }

    fn crash_pool(&mut self, index: usize, until: u64) {
        let pool = &mut self.pools[index];
        let (node, restart) = (pool.node, pool.actor.crash(until));
        self.queue
            .add(restart, SimulatedEvent::PoolWake { node, alarm: None });
        self.pool_crashed(index);
    }

    pub(super) fn repeat_logins(&mut self, index: usize) {
        if self.clocks.true_time() >= self.backends[index].short_lived {
            return;
        }
        self.end_connections(index);
        for pool in self.subscribers(index) {
            let node = self.pools[pool].node;
            self.queue
                .add(self.clocks.mono, SimulatedEvent::Call { node });
        }
        let next = self.clocks.mono + 300 * MS;
        self.queue
            .add(next, SimulatedEvent::RepeatLogins { provider: index });
    }

    pub(super) fn server_fault(&mut self, index: usize, true_time: u64) -> (&'static str, u64) {
        let kind = self.rng.u8(..6);
        let until = true_time + self.rng.u64(10 * SEC..20 * MIN);
        let lag = self.rng.u64(SEC..20 * SEC);
        let server = &mut self.db.servers[index];
        let name = match kind {
            0 => {
                server.down = until;
                "server down"
            }
            1 => {
                server.hangs = until.min(true_time + 2 * MIN);
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
            self.end_connections(index);
        }
        (name, until + lag)
    }

    /// Ends all idle connections at the server.
    pub(in crate::simulation) fn end_connections(&mut self, index: usize) {
        for pool in self.subscribers(index) {
            for instance in self.pools[pool].instances.values_mut() {
                instance.idle.iter_mut().for_each(|secret| *secret = ENDED);
            }
        }
    }

    /// Revokes the current credential in the database. A password is accepted again after a while.
    pub(super) fn revoke(&mut self, index: usize) {
        let true_time = self.clocks.true_time();
        let secret = match self.backends[index].kind {
            Kind::Token | Kind::Dynamic => self.providers[index].secret(),
            Kind::Rotating | Kind::Static => Some(self.backends[index].current),
        };
        let Some(secret) = secret else {
            return;
        };
        self.db.stop_accepting(secret, true_time);
        if self.backends[index].kind == Kind::Dynamic && self.rng.bool() {
            self.db.drop_role(secret, true_time);
        }
        if matches!(self.backends[index].kind, Kind::Rotating | Kind::Static) {
            let wait = self.rng.u64(SEC..30 * MIN);
            self.disturb(index, wait);
            let step = RotateStep::Restore;
            self.queue.add(
                self.clocks.mono + wait,
                SimulatedEvent::Rotate {
                    provider: index,
                    step,
                },
            );
        }
    }

    pub(super) fn rotate(&mut self, index: usize, step: RotateStep) {
        let (mono, true_time) = (self.clocks.mono, self.clocks.true_time());
        self.disturb(index, 0);
        let node = self.providers[index].node;
        let old = self.backends[index].current;
        match step {
            RotateStep::Begin => {
                let next = mono + self.rng.u64(HOUR..DAY);
                self.queue.add(
                    next,
                    SimulatedEvent::Rotate {
                        provider: index,
                        step,
                    },
                );
                if !matches!(self.backends[index].kind, Kind::Rotating | Kind::Static) {
                    return;
                }
                let account = self.backends[index].account.clone();
                let new = self.db.add(index, account, None, u64::MAX, u64::MAX);
                let window = self.rng.u64(..40 * SEC);
                self.backends[index].pending = Some(new);
                let mut plan = |delay: u64, step| {
                    self.queue.add(
                        mono + delay,
                        SimulatedEvent::Rotate {
                            provider: index,
                            step,
                        },
                    );
                };
                let begin = 10 * MS;
                let (backend, database) = match self.rng.u8(..3) {
                    0 => (begin, window),
                    1 => (window, begin),
                    // A wrong secret, corrected by a rollback.
                    _ => (begin, u64::MAX),
                };
                plan(backend, RotateStep::Backend(new));
                let rolled_back = 2 * window + 3 * MIN;
                if database == u64::MAX {
                    plan(rolled_back, RotateStep::Backend(old));
                    plan(rolled_back, RotateStep::Restore);
                    self.checks.hazard("wrong secrets corrected", 1);
                } else {
                    plan(database, RotateStep::Database(new));
                    if self.rng.u8(..4) == 0 {
                        plan(rolled_back, RotateStep::Database(old));
                        plan(rolled_back + window, RotateStep::Backend(old));
                        self.checks.hazard("rotations rolled back", 1);
                    }
                }
                self.checks.hazard("credentials rotated", 1);
                match self.rng.u8(..4) {
                    0 => self.plan_rehearsals(index),
                    1 => self.plan_roll_backs(index),
                    _ => {}
                }
                self.disturb(index, rolled_back + window + MIN);
                self.burst(index);
            }
            RotateStep::Backend(new) => {
                self.checks.trace.line("backend has", node, new as u64, 0);
                let backend = &mut self.backends[index];
                if backend.current != new {
                    backend.previous = Some(old);
                    backend.current = new;
                }
                backend.pending = backend.pending.filter(|pending| *pending != new);
                if !backend.hints_lost && self.rng.bool() {
                    self.hint(index);
                }
            }
            RotateStep::Restore => self.rotate(index, RotateStep::Database(old)),
            RotateStep::Database(new) => {
                self.checks.trace.line("database has", node, new as u64, 0);
                for secret in 0..self.db.secrets.len() {
                    if self.db.secrets[secret].provider == index && secret != new {
                        self.db.stop_accepting(secret, true_time);
                    }
                }
                self.db.accept(new, true_time);
                self.burst(index);
            }
        }
    }

    /// Suspends the host, or sets its clock.
    pub(super) fn clock_fault(&mut self) {
        let next = self.clocks.mono + self.rng.u64(HOUR..2 * DAY);
        self.queue.add(next, SimulatedEvent::ClockFault);
        let by = match self.rng.u8(..3) {
            0 => self.rng.u64(SEC..5 * MIN),
            _ => self.rng.u64(MIN..5 * HOUR),
        };
        let name = match self.rng.u8(..3) {
            0 => {
                self.clocks.sleep(by);
                "the host slept"
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
        self.checks.trace.line(
            name,
            NodeId {
                index: 0,
                incarnation: 0,
            },
            by,
            0,
        );
        self.checks.hazard(name, 1);
        let mono = self.clocks.mono;
        for index in 0..self.providers.len() {
            self.disturb(index, 0);
            if by > JUMP + SEC {
                self.providers[index].model.jumped = Some(mono);
            }
        }
        for heartbeat in [self.rng.u64(..15 * SEC), 30 * SEC] {
            self.queue.add(mono + heartbeat, SimulatedEvent::Heartbeat);
        }
        for index in 0..self.pools.len() {
            if by > JUMP + SEC {
                self.pools[index].model.jumped = Some(mono);
            }
        }
    }
}
