//! Callers, which wait for a connection, log in, use the connection and return it.
//!
//! A short form of the acquire loop, with the real admission control.

mod logins;

use super::clock::{MIN, MS, SEC};
use super::database::SecretId;
use super::event::SimulatedEvent;
use super::node::NodeId;
use super::pool::state::{Current, SimulatedCall};
use super::world::World;
use crate::lease::OldConnections;
use crate::next_attempt::NextAttempt;
use crate::pool::machine::PoolInput;

const WITHOUT_CALLER: u64 = 5 * SEC;
const MAX_PACE: u64 = 500 * MS;

/// Next step of a waiting call.
enum CallStep {
    Serve(Current, SecretId),
    Wait,
    Fail(&'static str),
}

impl World {
    pub(super) fn idle_caller_arrives(&mut self, pool: usize) {
        let next = self.clocks.mono + self.rng.u64(..40 * MIN);
        self.queue.add(next, SimulatedEvent::Arrival { pool });
        let node = self.pools[pool].node;
        self.call(node);
    }

    /// Many callers at about the same time.
    pub(super) fn burst(&mut self, provider: usize) {
        for pool in self.subscribers(provider) {
            let (node, callers) = (self.pools[pool].node, self.rng.u32(2..16));
            for _ in 0..callers {
                let at = self.clocks.mono + self.rng.u64(..4 * SEC);
                self.queue.add(at, SimulatedEvent::Call { node });
            }
        }
    }

    pub(super) fn call(&mut self, node: NodeId) {
        let start = self.clocks.mono;
        let timeout = match self.rng.u8(..5) {
            0 => self.rng.u64(200 * MS..5 * SEC),
            _ => 30 * SEC,
        };
        let deadline = start + timeout;
        let was_usable = self.is_usable(node.index, start);
        let cancelled = self.rng.u8(..20) == 0;
        let leaves = if cancelled {
            start + self.rng.u64(..200 * MS)
        } else {
            deadline
        };
        let pool = &mut self.pools[node.index];
        let call = pool.number();
        pool.calls.insert(
            call,
            SimulatedCall {
                start,
                deadline,
                login: None,
                holds: None,
                was_usable,
            },
        );
        pool.waiting.push_back(call);
        self.queue.add(
            leaves,
            SimulatedEvent::CallerLeaves {
                node,
                call,
                cancelled,
            },
        );
        self.callers_poll(node);
    }

    /// Wakes waiting callers after a change of the pool.
    pub(super) fn wake_callers(&mut self, index: usize) {
        if !self.pools[index].waiting.is_empty() {
            self.pools[index].pace = 0;
            self.plan_poll(index, self.clocks.mono);
        }
    }

    fn plan_poll(&mut self, index: usize, when: u64) {
        let pool = &mut self.pools[index];
        if pool.next_poll.is_none_or(|planned| planned > when) {
            pool.next_poll = Some(when);
            self.queue
                .add(when, SimulatedEvent::CallersPoll { node: pool.node });
        }
    }

    pub(super) fn callers_poll(&mut self, node: NodeId) {
        let (index, now) = (node.index, self.clocks.mono);
        if self.pools[index]
            .next_poll
            .is_some_and(|planned| planned <= now)
        {
            self.pools[index].next_poll = None;
        }
        let waiting: Vec<u64> = self.pools[index].waiting.iter().copied().collect();
        let mut is_first = true;
        for call in waiting {
            match self.step(index, call, is_first) {
                CallStep::Serve(current, secret) => self.serve_call(index, call, current, secret),
                CallStep::Wait => is_first = false,
                CallStep::Fail(why) => self.fail_call(index, call, why),
            }
        }
        let pool = &mut self.pools[index];
        if !pool.waiting.is_empty() {
            pool.pace = (pool.pace * 2).clamp(20 * MS, MAX_PACE);
            let when = now + pool.pace;
            self.plan_poll(index, when);
        }
    }

    fn next_attempt(&self, index: usize) -> NextAttempt {
        let pool = &self.pools[index];
        let provider = &self.providers[pool.provider.index];
        let known = provider
            .current()
            .map(|(_, facts)| (&facts.revision, facts.expiry));
        let now = self.clocks.now();
        let own = pool.machine.next_attempt(known, now);
        own.or(provider.machine.next_attempt(now.mono()))
    }

    fn step(&mut self, index: usize, call: u64, is_first: bool) -> CallStep {
        loop {
            if self.pools[index].is_closed {
                return CallStep::Fail("closed");
            }
            let now = self.clocks.now();
            let Some(known) = self.pools[index].calls.get(&call) else {
                return CallStep::Wait;
            };
            let (deadline, has_login) = (known.deadline, known.login.is_some());
            let pool = &mut self.pools[index];
            let Some(current) = pool.current else {
                return self.wait_or_fail(index, deadline, "nothing verified yet");
            };
            let is_serving = !current.is_rejected && !current.expiry.is_expired(now);
            // A dropped role is found by a probe.
            let are_expired = current.old != OldConnections::EndWithLease
                && current.connections_until.is_expired(now);
            if !is_serving && are_expired {
                self.checks.hazard("connections that ended", 1);
                return self.wait_or_fail(index, deadline, "connections have ended");
            }
            let idle = pool
                .instances
                .get_mut(&current.instance)
                .and_then(|instance| instance.idle.pop());
            if let Some(secret) = idle {
                if self.is_alive(index, current, secret, is_serving) {
                    if !is_serving {
                        self.checks
                            .hazard("connections shared while rejected or expired", 1);
                    }
                    return CallStep::Serve(current, secret);
                }
                continue;
            }
            let connections = pool.count(current.instance);
            if !is_serving {
                return if connections == 0 {
                    self.wait_or_fail(index, deadline, "rejected or expired")
                } else {
                    CallStep::Wait
                };
            }
            if !has_login && connections < pool.max {
                self.try_login(index, call, current, is_first);
            }
            return CallStep::Wait;
        }
    }

    fn wait_or_fail(&self, index: usize, deadline: u64, why: &'static str) -> CallStep {
        let may_succeed = match self.next_attempt(index) {
            NextAttempt::Running => true,
            NextAttempt::Due(next) => self.clocks.micros(next) < deadline,
            NextAttempt::Never => false,
        };
        if may_succeed {
            CallStep::Wait
        } else {
            CallStep::Fail(why)
        }
    }

    /// Returns whether an idle connection still works, and closes it if not.
    fn is_alive(
        &mut self,
        index: usize,
        current: Current,
        secret: SecretId,
        is_serving: bool,
    ) -> bool {
        let true_time = self.clocks.true_time();
        let role = self.db.secrets.get(secret).map(|known| known.role_ends);
        if role.is_some_and(|ends| true_time < ends) {
            return true;
        }
        self.connection_closed(index, current.instance);
        if current.old != OldConnections::EndWithLease {
            return false;
        }
        let generation = current.generation;
        let is_probed = current.is_unverified || !is_serving;
        if role.is_some() && is_probed && secret == current.secret {
            self.db.secrets[secret].last_rejected = Some(true_time);
            self.checks.hazard("callers rejected without a login", 1);
            self.feed_pool(index, PoolInput::CallerRejected { generation });
        } else {
            self.checks.hazard("connections that were unverified", 1);
            self.feed_pool(index, PoolInput::Unverified { generation });
        }
        false
    }

    fn give_back(&mut self, index: usize, instance: u64, secret: SecretId) {
        match self.pools[index].instances.get_mut(&instance) {
            Some(instance) if !instance.is_closing => instance.idle.push(secret),
            _ => self.connection_closed(index, instance),
        }
    }

    fn serve_call(&mut self, index: usize, call: u64, current: Current, secret: SecretId) {
        let holds = match self.rng.u16(..200) {
            0 => self.rng.u64(61 * SEC..200 * SEC),
            1..12 => self.rng.u64(SEC..50 * SEC),
            _ => self.rng.u64(2 * MS..500 * MS),
        };
        let (node, mono) = (self.pools[index].node, self.clocks.mono);
        let pool = &mut self.pools[index];
        pool.waiting.retain(|waiting| *waiting != call);
        if let Some(known) = pool.calls.get_mut(&call) {
            if current.since > known.start {
                self.checks
                    .hazard("callers that waited through a handover", 1);
            }
            known.holds = Some((current.instance, current.generation, secret));
        }
        self.checks.hazard("calls served", 1);
        self.queue
            .add(mono + holds, SimulatedEvent::Returned { node, call });
    }

    pub(super) fn returned(&mut self, node: NodeId, call: u64) {
        let index = node.index;
        let Some(call) = self.pools[index].calls.remove(&call) else {
            return;
        };
        let Some((instance, generation, secret)) = call.holds else {
            return;
        };
        self.check_returned(index, generation, secret);
        self.give_back(index, instance, secret);
        self.callers_poll(node);
    }

    /// Ends a call at its deadline, or because it is cancelled.
    pub(super) fn caller_leaves(&mut self, node: NodeId, call: u64, cancelled: bool) {
        if !self.pools[node.index].waiting.contains(&call) {
            return;
        }
        if cancelled {
            self.checks.hazard("calls cancelled while they waited", 1);
            self.forget_call(node.index, call);
        } else {
            self.fail_call(node.index, call, "timed out");
        }
    }

    fn fail_call(&mut self, index: usize, call: u64, why: &'static str) {
        self.checks.trace.line(why, self.pools[index].node, call, 0);
        self.check_failed_call(index, call, why);
        self.forget_call(index, call);
    }

    fn forget_call(&mut self, index: usize, call: u64) {
        let now = self.clocks.mono;
        let pool = &mut self.pools[index];
        pool.waiting.retain(|waiting| *waiting != call);
        if let Some(call) = pool.calls.remove(&call)
            && let Some(login) = call.login.and_then(|login| pool.logins.get_mut(&login))
        {
            login.call_left = Some(now);
        }
    }
}
