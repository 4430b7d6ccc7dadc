//! The laws of a pool: attempts, failed logins, drains, connections.

use std::sync::Arc;

use super::JUMP_SEEN;
use crate::pool::machine::{LeaseFacts, PoolEffect};
use crate::simulation::backend::Kind;
use crate::simulation::clock::{MIN, MS, SEC};
use crate::simulation::database::SecretId;
use crate::simulation::pool::state::{Current, DRAIN_DEADLINE};
use crate::simulation::report::Law;
use crate::simulation::world::World;

/// Failed logins per window beyond the maximum of connections.
const RESERVED_LOGINS: u32 = 3;

impl World {
    pub(in crate::simulation) fn check_pool_after_jump(&mut self, index: usize) {
        let now = self.clocks.mono;
        let provider = self.providers[self.pools[index].provider.index].secret();
        let pool = &mut self.pools[index];
        let Some(jumped) = pool.model.jumped.filter(|jumped| now > jumped + JUMP_SEEN) else {
            return;
        };
        pool.model.jumped = None;
        let is_checked = pool
            .model
            .last_attempt
            .is_some_and(|last| last + MIN >= jumped);
        let is_calm = pool
            .model
            .last_failed_login
            .is_none_or(|last| last + 3 * MIN < jumped)
            && pool.actor.crashed_until < jumped
            && !pool.has_attempt()
            && pool.current.is_some_and(|current| {
                !current.is_rejected
                    && Some(current.secret) == provider
                    && !current.expiry.is_expired(self.clocks.now())
            });
        if is_calm && !is_checked {
            let node = pool.node;
            self.broken(
                Law(8),
                node,
                "the active lease was not checked after a clock jump",
            );
        }
    }

    pub(in crate::simulation) fn attempt_starts(&mut self, index: usize, facts: &LeaseFacts) {
        let time = self.clocks.now();
        let pool = &mut self.pools[index];
        pool.model.last_attempt = Some(self.clocks.mono);
        pool.model.verified = None;
        let (node, is_closed) = (pool.node, pool.is_closed);
        if facts.expiry.is_expired(time) {
            self.broken(Law(8), node, "a verification with an expired lease");
        }
        if is_closed {
            self.broken(
                Law(14),
                node,
                "a verification began after the pool was closed",
            );
        }
        self.checks.hazard("attempts", 1);
    }

    pub(in crate::simulation) fn pool_effects(&mut self, index: usize, effects: &[PoolEffect]) {
        let now = self.clocks.mono;
        for effect in effects {
            if let PoolEffect::Probe { generation } = effect {
                let pool = &mut self.pools[index];
                let node = pool.node;
                let entry = pool.model.probes.get(generation).copied();
                let is_early = entry.is_some_and(|(last, _)| now - last + MS < 10 * SEC);
                // The first such error in a new generation causes a probe at once.
                let was_early = entry.is_some_and(|(_, was)| was);
                pool.model.probes.clear();
                pool.model
                    .probes
                    .insert(*generation, (now, was_early || is_early));
                self.checks.hazard("probes", 1);
                if is_early && was_early {
                    self.broken(Law(6), node, "two probes within ten seconds");
                }
            }
        }
    }

    /// Notes a rejection of the current generation when the actor reconciles. Without a failed
    /// login, it opens no window.
    pub(in crate::simulation) fn note_rejection(&mut self, index: usize) {
        let now = self.clocks.mono;
        let pool = &mut self.pools[index];
        if let Some(current) = pool.current.filter(|current| current.is_rejected)
            && pool.model.noted < current.generation
            && let Some(known) = self.db.secrets.get(current.secret)
        {
            pool.model.noted = current.generation;
            pool.model
                .rejected(Arc::clone(&known.account), current.secret, now);
        }
    }

    /// Counts a failed login of this pool: of a caller, or of an attempt or probe.
    pub(in crate::simulation) fn login_failed(
        &mut self,
        index: usize,
        secret: SecretId,
        of_caller: bool,
    ) {
        let now = self.clocks.mono;
        let pool = &mut self.pools[index];
        let (node, most) = (pool.node, pool.max + RESERVED_LOGINS);
        let is_served = pool.current.is_some_and(|current| current.secret == secret);
        let Some(known) = self.db.secrets.get(secret) else {
            return;
        };
        let account = Arc::clone(&known.account);
        let failed = pool
            .model
            .login_failed(account, secret, !of_caller && !is_served, now);
        self.checks.hazard("failed logins", 1);
        self.checks.hazard(
            "windows of failed logins that were used up",
            u64::from(failed == most),
        );
        if failed > most {
            let text = format!("{failed} failed logins in a window, {most} are allowed");
            self.broken(Law(11), node, text);
        }
    }

    pub(in crate::simulation) fn login_worked(&mut self) {
        self.checks.hazard("logins that worked", 1);
    }

    /// Refunds failed logins that a rotation explains.
    fn refund(&mut self, index: usize, secret: SecretId, superseded: bool) {
        let now = self.clocks.mono;
        let account = &self.db.secrets[secret].account;
        let model = &mut self.pools[index].model;
        let mut refunds = model.worked(account, secret, now);
        if superseded {
            refunds += model.superseded(account, secret);
        }
        self.checks.hazard("refunds of failed logins", refunds);
    }

    pub(in crate::simulation) fn published(
        &mut self,
        index: usize,
        attempt: u64,
        secret: SecretId,
        old: Option<Current>,
    ) {
        let pool = &mut self.pools[index];
        let node = pool.node;
        let verified = pool.model.verified.take();
        self.checks.hazard("handovers", 1);
        if verified != Some((attempt, secret)) {
            self.broken(Law(2), node, "published without a verification");
        }
        if let Some(old) = old {
            if old.secret == secret && !old.is_rejected {
                self.broken(Law(4), node, "an equal revision was published again");
            }
            self.checks
                .hazard("handovers after a rejection", u64::from(old.is_rejected));
        }
        let waiting = self.pools[index].waiting.len() as u64;
        let busy = self.pools[index].calls.len() as u64 - waiting;
        self.checks
            .hazard("calls that waited during a handover", waiting);
        self.checks
            .hazard("connections in use during a handover", busy);
        self.refund(index, secret, old.is_some_and(|old| old.secret != secret));
    }

    pub(in crate::simulation) fn checked_again(&mut self, index: usize, secret: SecretId) {
        if !self.pools[index].is_closed {
            self.refund(index, secret, false);
        }
    }

    pub(in crate::simulation) fn drain_starts(
        &mut self,
        index: usize,
        generation: u64,
        since: u64,
        deadline: u64,
    ) {
        let (now, true_time) = (self.clocks.mono, self.clocks.true_time());
        let pool = &self.pools[index];
        let node = pool.node;
        let Some(drain) = pool.drains.get(&generation) else {
            return;
        };
        let role = &self.db.secrets[drain.secret];
        let longest = DRAIN_DEADLINE.as_micros() as u64;
        let is_dynamic = self.backends[role.provider].kind == Kind::Dynamic;
        let is_late = if is_dynamic {
            let undetected = role
                .clock_faults
                .map_or(0, |since| self.clocks.undetected(since));
            deadline > since + 3 * SEC
                && true_time + deadline.saturating_sub(now) > role.expires + undetected
        } else {
            deadline > since + longest + SEC
        };
        self.checks.hazard("drains", 1);
        if is_late {
            self.broken(
                Law(9),
                node,
                "a drain's deadline is after the lease's expiry or the drain deadline",
            );
        }
    }

    pub(in crate::simulation) fn drain_overdue(
        &mut self,
        index: usize,
        generation: u64,
        effects: &[PoolEffect],
    ) {
        let pool = &mut self.pools[index];
        let node = pool.node;
        let is_first = pool.model.abandoned.insert(generation);
        let is_reported = effects
            .iter()
            .any(|effect| matches!(effect, PoolEffect::ReportAbandoned { .. }));
        self.checks.hazard("drains past their deadline", 1);
        if is_first != is_reported {
            self.broken(
                Law(9),
                node,
                "a drain past its deadline was not reported once",
            );
        }
    }

    pub(in crate::simulation) fn check_connections(&mut self, index: usize) {
        let pool = &self.pools[index];
        let (connections, most) = (pool.connections(), pool.max + pool.overlap);
        let (node, is_over) = (pool.node, connections > pool.max);
        self.checks
            .hazard("connections beyond the maximum", u64::from(is_over));
        if connections > most {
            self.broken(
                Law(10),
                node,
                format!("{connections} connections, {most} are allowed"),
            );
        }
    }
}
