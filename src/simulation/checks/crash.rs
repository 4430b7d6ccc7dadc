//! Law 12: the next actor resumes the machine's state and meets its deadline.
//!
//! A crash loses the actor's alarm and its mailbox. The machine gets the results of running tasks
//! meanwhile, and starts nothing.

use std::time::Instant;

use crate::lease::Revision;
use crate::pool::machine::{LeaseFacts, PoolEffect};
use crate::provider::machine::ProviderEffect;
use crate::simulation::clock::MS;
use crate::simulation::models::{CrashModel, MachineState};
use crate::simulation::node::NodeId;
use crate::simulation::report::Law;
use crate::simulation::world::World;

impl CrashModel {
    /// Handles a reconciliation. Returns the state from before its start if it is the first since a
    /// crash, and whether it missed a deadline.
    fn reconciles(&mut self, now: u64) -> (Option<MachineState>, bool) {
        let is_late = self.next.take().is_some_and(|next| now > next);
        (self.state.take(), is_late)
    }

    fn crashed(&mut self, state: MachineState) {
        self.state = Some(state);
        self.next = None;
    }
}

impl World {
    pub(in crate::simulation) fn provider_crashed(&mut self, index: usize) {
        let provider = &mut self.providers[index];
        let state = provider.machine_state();
        self.checks.hazard(
            "crashes of a provider with a lease",
            u64::from(state.lease.is_some()),
        );
        provider.model.crash.crashed(state);
    }

    pub(in crate::simulation) fn pool_crashed(&mut self, index: usize) {
        let pool = &mut self.pools[index];
        let state = pool.machine_state();
        self.checks.hazard(
            "crashes of a pool that serves",
            u64::from(state.lease.is_some()),
        );
        pool.model.crash.crashed(state);
    }

    /// Checks that nothing starts without an actor, and notes the machine's state after an input.
    pub(in crate::simulation) fn check_crashed_provider(
        &mut self,
        index: usize,
        effects: &[ProviderEffect],
    ) {
        let provider = &mut self.providers[index];
        if provider.model.crash.state.is_some() {
            provider.model.crash.state = Some(provider.machine_state());
            let node = provider.node;
            let starts = |effect: &ProviderEffect| {
                matches!(
                    effect,
                    ProviderEffect::StartFetch { .. } | ProviderEffect::StartRehearsal { .. }
                )
            };
            if effects.iter().any(starts) {
                self.broken(Law(12), node, "a fetch began while the actor was down");
            }
        }
    }

    /// The same for a pool.
    pub(in crate::simulation) fn check_crashed_pool(
        &mut self,
        index: usize,
        effects: &[PoolEffect],
    ) {
        let pool = &mut self.pools[index];
        if pool.model.crash.state.is_some() {
            pool.model.crash.state = Some(pool.machine_state());
            let node = pool.node;
            let starts = |effect: &PoolEffect| {
                matches!(
                    effect,
                    PoolEffect::StartAttempt { .. } | PoolEffect::Probe { .. }
                )
            };
            if effects.iter().any(starts) {
                self.broken(Law(12), node, "an attempt began while the actor was down");
            }
        }
    }

    /// Checks the machine before a reconciliation. Returns whether it is the first after a crash,
    /// and if so, whether something is due.
    pub(in crate::simulation) fn provider_resumes(&mut self, index: usize) -> Option<bool> {
        let (now, mono) = (self.clocks.mono, self.clocks.now().mono());
        let provider = &mut self.providers[index];
        let (before, is_late) = provider.model.crash.reconciles(now);
        let (node, state) = (provider.node, provider.machine_state());
        let modelled = provider.model.current.map(|(lease, ..)| lease.0);
        let lease = state.lease.as_ref().map(|(lease, ..)| *lease);
        if before.is_some() && lease != modelled && !provider.is_closed {
            self.broken(Law(12), node, "the current lease was lost with the actor");
        }
        self.check_resumed(node, before.as_ref(), &state, is_late);
        let is_due = state.deadline.is_some_and(|at| at <= mono);
        before.map(|_| is_due)
    }

    /// The same for a pool. `lease` is the provider's, unless it has expired. A deadline counts if
    /// the lease is the one that it was set for.
    pub(in crate::simulation) fn pool_resumes(
        &mut self,
        index: usize,
        lease: Option<&LeaseFacts>,
    ) -> Option<bool> {
        let (now, mono) = (self.clocks.mono, self.clocks.now().mono());
        let revision: Option<Revision> = lease.map(|lease| lease.revision.clone());
        let pool = &mut self.pools[index];
        let (before, is_late) = pool.model.crash.reconciles(now);
        let is_same = revision.is_some() && revision == pool.model.last_lease;
        pool.model.last_lease = revision;
        let (node, state) = (pool.node, pool.machine_state());
        let modelled = pool.current.map(|current| current.generation);
        let generation = state.lease.as_ref().map(|(generation, ..)| *generation);
        if before.is_some() && generation != modelled {
            self.broken(Law(12), node, "the generation was lost with the actor");
        }
        self.check_resumed(node, before.as_ref(), &state, is_late);
        let is_due = is_same && state.deadline.is_some_and(|at| at <= mono);
        before.map(|_| is_due)
    }

    fn check_resumed(
        &mut self,
        node: NodeId,
        before: Option<&MachineState>,
        state: &MachineState,
        is_late: bool,
    ) {
        if is_late {
            self.broken(Law(12), node, "a restarted actor missed its next deadline");
        }
        if let Some(before) = before.filter(|before| *before != state) {
            let text = format!("the state was {before:?} and is {state:?} after the restart");
            self.broken(Law(12), node, text);
        }
    }

    /// Checks that the first reconciliation after a crash acts on what is due.
    pub(in crate::simulation) fn provider_resumed(
        &mut self,
        index: usize,
        resumes: Option<bool>,
        effects: usize,
    ) {
        let provider = &self.providers[index];
        let (node, deadline) = (provider.node, provider.machine.next_deadline());
        if let Some(was_due) = resumes {
            let next = self.check_acted(node, was_due, effects > 0, deadline);
            self.providers[index].model.crash.next = next;
        }
    }

    /// The same for a pool.
    pub(in crate::simulation) fn pool_resumed(
        &mut self,
        index: usize,
        resumes: Option<bool>,
        effects: &[PoolEffect],
    ) {
        let pool = &self.pools[index];
        let (node, deadline) = (pool.node, pool.machine.next_deadline());
        if let Some(was_due) = resumes {
            let next = self.check_acted(node, was_due, !effects.is_empty(), deadline);
            self.pools[index].model.crash.next = next;
        }
    }

    /// Returns when the actor has to reconcile again at the latest.
    fn check_acted(
        &mut self,
        node: NodeId,
        was_due: bool,
        acts: bool,
        deadline: Option<Instant>,
    ) -> Option<u64> {
        let (now, mono) = (self.clocks.mono, self.clocks.now().mono());
        self.checks.hazard("actors restarted", 1);
        self.checks
            .hazard("deadlines during a crash", u64::from(was_due));
        if was_due && !acts || deadline.is_some_and(|at| at <= mono) {
            self.broken(
                Law(12),
                node,
                "a restarted actor left a deadline in the past",
            );
        }
        deadline.map(|at| self.clocks.micros(at).max(now + 5 * MS))
    }
}
