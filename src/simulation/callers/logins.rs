//! Logins of callers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::clock::{MS, SEC};
use super::super::event::SimulatedEvent;
use super::super::node::NodeId;
use super::super::pool::state::{Current, Login};
use super::super::world::World;
use super::WITHOUT_CALLER;
use crate::error::{ConnectError, ConnectErrorKind};
use crate::pool::machine::PoolInput;

impl World {
    pub(super) fn try_login(&mut self, index: usize, call: u64, current: Current, is_first: bool) {
        let (mono, now, true_time) = (self.clocks.mono, self.clocks.now(), self.clocks.true_time());
        let pool = &mut self.pools[index];
        let Some(instance) = pool.instances.get(&current.instance) else {
            return;
        };
        let count = Arc::clone(&instance.count);
        let mut permit = None;
        if pool.admission.is_open() {
            let has_worked = pool.last_login_worked.is_some_and(|at| mono - at < SEC);
            let places = if has_worked { pool.max.div_ceil(4) } else { 1 } as usize;
            let recent = pool
                .logins
                .values()
                .filter(|login| mono - login.began < 100 * MS);
            if recent.count() >= places {
                return;
            }
        } else {
            if is_first {
                permit = pool.admission.enter(&count, now.mono());
            }
            if permit.is_none() {
                return;
            }
        }
        count.fetch_add(1, Ordering::Relaxed);
        let login = pool.number();
        pool.logins.insert(
            login,
            Login {
                generation: current.generation,
                instance: current.instance,
                secret: current.secret,
                began: mono,
                call,
                call_left: None,
                permit,
            },
        );
        if let Some(call) = pool.calls.get_mut(&call) {
            call.login = Some(login);
        }
        let node = pool.node;
        let provider = pool.provider.index;
        let (takes, _) = self.db.latency(provider, true_time, &mut self.rng);
        self.checks
            .trace
            .line("login", node, login, current.generation);
        self.queue
            .add(mono + takes, SimulatedEvent::LoggedIn { node, login });
        self.check_connections(index);
    }

    pub(in crate::simulation) fn logged_in(&mut self, node: NodeId, login: u64) {
        let (index, now, true_time) = (node.index, self.clocks.now(), self.clocks.true_time());
        let Some(login) = self.pools[index].logins.remove(&login) else {
            return;
        };
        let mono = self.clocks.mono;
        let Login {
            generation,
            instance,
            secret,
            call,
            call_left,
            permit,
            ..
        } = login;
        if let Some(call) = self.pools[index].calls.get_mut(&call) {
            call.login = None;
        }
        if call_left.is_some_and(|left| mono - left > WITHOUT_CALLER) {
            self.checks.hazard("logins of unknown result", 1);
            drop(permit);
            self.connection_closed(index, instance);
            self.feed_pool(index, PoolInput::LoginUnknown { generation });
            return;
        }
        let result = self.db.login(secret, true_time, &mut self.rng);
        match result {
            Ok(()) => {
                self.login_worked();
                self.pools[index].last_login_worked = Some(mono);
                self.feed_pool(index, PoolInput::LoginWorked { generation });
                self.pools[index]
                    .admission
                    .note_opened(generation, now.mono());
                drop(permit);
                self.give_back(index, instance, secret);
            }
            Err(kind) => {
                self.connection_closed(index, instance);
                self.checks
                    .trace
                    .line(kind.as_str(), node, generation, secret as u64);
                match kind {
                    ConnectErrorKind::Rejected => {
                        self.checks.hazard("callers' logins rejected", 1);
                        self.login_failed(index, secret, true);
                        self.feed_pool(index, PoolInput::LoginRejected { generation });
                    }
                    ConnectErrorKind::Overloaded => {
                        let error = ConnectError::new(kind, "simulated");
                        self.pools[index].admission.note_full(error, now.mono());
                    }
                    ConnectErrorKind::Misconfigured | ConnectErrorKind::Other => {
                        self.feed_pool(index, PoolInput::LoginUnknown { generation });
                    }
                    ConnectErrorKind::Unreachable => {}
                }
                drop(permit);
                let is_final = !matches!(
                    kind,
                    ConnectErrorKind::Rejected | ConnectErrorKind::Overloaded
                );
                if is_final && self.pools[index].waiting.contains(&call) {
                    self.checks.hazard("callers failed by a server error", 1);
                    self.forget_call(index, call);
                }
            }
        }
        self.callers_poll(node);
    }
}
