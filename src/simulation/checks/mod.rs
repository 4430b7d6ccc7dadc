//! Checks the laws against what databases rejected, and what backends returned and released.

mod crash;
mod pool;
mod provider;
mod release;

use super::clock::{MIN, SEC};
use super::database::SecretId;
use super::node::NodeId;
use super::report::Law;
use super::world::World;
use crate::error::ConnectErrorKind;

/// Longest exclusion of a rejected revision.
const EXCLUDED: u64 = 600 * SEC;
/// Time after the last fault until everything has recovered.
const RECOVERED: u64 = 40 * MIN;
/// Time within which a clock jump causes a check. The heartbeat is 15 s.
const JUMP_SEEN: u64 = 20 * SEC;

impl World {
    pub(super) fn broken(&mut self, law: Law, node: NodeId, text: impl Into<String>) {
        self.checks.broken(law, node, text);
    }

    /// Returns whether the current generation has been usable without interruption since `since`.
    pub(super) fn is_usable(&self, index: usize, since: u64) -> bool {
        let true_time = self.clocks.true_time();
        let since = true_time - (self.clocks.mono - since);
        let pool = &self.pools[index];
        let Some(current) = pool.current else {
            return false;
        };
        let server = pool.provider.index;
        let accepted = self.db.accepted_since(current.secret, true_time);
        let healthy = self.db.healthy_since(server, true_time);
        !current.expiry.is_expired(self.clocks.now())
            && accepted.is_some_and(|accepted| accepted <= since)
            && healthy.is_some_and(|healthy| healthy + 2 * MIN <= since)
            && self.quiet[server] <= since
    }

    /// Checks that a call did not fail while a generation was usable.
    pub(super) fn check_failed_call(&mut self, index: usize, call: u64, why: &'static str) {
        let pool = &self.pools[index];
        let node = pool.node;
        let Some(call) = pool.calls.get(&call) else {
            return;
        };
        let (start, was_usable) = (call.start, call.was_usable);
        if why == "closed" {
            self.checks.hazard("calls to a closed pool", 1);
            return;
        }
        let current = pool.current;
        let is_full = current.is_some_and(|current| pool.count(current.instance) >= pool.max)
            || pool.connections() + 1 >= pool.max + pool.overlap;
        self.checks.hazard("calls that failed", 1);
        // The current generation may be newer than the call.
        let since = current.map_or(start, |current| start.max(current.since));
        let is_rejected = current.is_some_and(|current| current.is_rejected);
        if was_usable
            && !is_full
            && !is_rejected
            && self.is_usable(index, since)
            && self.clocks.mono - since > 2 * SEC
        {
            self.broken(
                Law(1),
                node,
                format!("a caller failed ({why}) that had a usable generation"),
            );
        }
    }

    /// Checks that a returned connection did not end before its generation's drain deadline.
    pub(super) fn check_returned(&mut self, index: usize, generation: u64, secret: SecretId) {
        let true_time = self.clocks.true_time();
        let pool = &self.pools[index];
        let ended = self
            .db
            .secrets
            .get(secret)
            .map_or(u64::MAX, |role| role.role_ends);
        if true_time < ended {
            return;
        }
        let deadline = pool
            .drains
            .get(&generation)
            .and_then(|drain| drain.deadline);
        self.checks
            .hazard("connections that the backend ended in use", 1);
        let node = pool.node;
        if deadline.is_some_and(|deadline| self.clocks.mono < deadline)
            && self.quiet[pool.provider.index] + SEC < ended
        {
            self.broken(Law(1), node, "a connection ended before its drain deadline");
        }
    }

    /// Checks that everything has recovered some time after the last fault.
    pub(super) fn check_recovered(&mut self) {
        for index in 0..self.providers.len() {
            let (now, true_time) = (self.clocks.mono, self.clocks.true_time());
            let healthy = self.backends[index]
                .healthy_since(true_time)
                .zip(self.db.healthy_since(index, true_time));
            let Some((backend, server)) = healthy else {
                continue;
            };
            let quiet = backend.max(server).max(self.quiet[index]);
            if (quiet + 10 * MIN..quiet + 20 * MIN).contains(&true_time) {
                // An unused credential is not checked, so callers have to log in.
                self.end_connections(index);
                self.burst(index);
            }
            let provider = &self.providers[index];
            if true_time < quiet + RECOVERED || provider.model.is_stopped {
                continue;
            }
            self.checks.hazard("recoveries checked", 1);
            let node = provider.node;
            let adopted = provider.model.current.map(|(.., since)| since);
            let users: Vec<SecretId> = self
                .pools
                .iter()
                .filter(|pool| pool.provider == node)
                .flat_map(|pool| pool.leases.values().map(|(_, used)| *used))
                .collect();
            let left = provider
                .model
                .unused
                .iter()
                .find(|(secret, (since, expiry))| {
                    let role = &self.db.secrets[**secret];
                    since + RECOVERED < now
                        && !users.contains(secret)
                        && !expiry.is_expired(self.clocks.now())
                        && true_time < role.expires
                        && !role.release_given_up
                });
            let left = left.map(|(secret, _)| *secret);
            if let Some(secret) = left {
                self.broken(
                    Law(9),
                    node,
                    format!("lease {secret} is unused and was not released"),
                );
            }
            if adopted.is_some_and(|adopted| now < adopted + 3 * MIN) {
                continue;
            }
            for pool in self.subscribers(index) {
                let pool = &self.pools[pool];
                let node = pool.node;
                if pool.is_closed {
                    // No caller uses a connection for so long.
                    if pool.closed_at + RECOVERED < now {
                        self.broken(Law(14), node, "a removed pool has not ended");
                    }
                    continue;
                }
                let active = pool
                    .current
                    .filter(|active| !active.is_rejected)
                    .map(|active| active.secret);
                // It may be an older one, because repeated rollbacks are not adopted at once.
                let is_accepted = active.is_some_and(|secret| self.db.accepts(secret, true_time));
                let lags = !is_accepted && pool.since + RECOVERED < now;
                let stuck = pool
                    .drains
                    .values()
                    .any(|drain| pool.count(drain.instance) == 0);
                pool.admission.why_full(self.clocks.now().mono());
                // A wrong candidate is rejected again and again, which limits them.
                let shut = !pool.admission.is_open()
                    && !pool.admission.has_old()
                    && pool.machine.failure() != Some(ConnectErrorKind::Rejected);
                if lags {
                    self.broken(
                        Law(2),
                        node,
                        "the pool has no accepted lease long after the last fault",
                    );
                }
                if stuck {
                    self.broken(Law(9), node, "a drain without connections has not ended");
                }
                if shut {
                    self.broken(
                        Law(11),
                        node,
                        "logins are limited long after the last rejection",
                    );
                }
            }
        }
    }
}
