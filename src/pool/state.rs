//! The machine and its side tables: lease guards, draining pools, the last error.

use std::collections::HashMap;

use tracing::Span;

use super::factory::PoolFactory;
use super::generation::{Generation, Shared};
use super::machine::{PoolEffect, PoolInput, PoolMachine};
use super::roll_back::PendingRollBack;
use crate::error::ConnectError;
use crate::expiry::Expiry;
use crate::lease::Lease;
use crate::provider::LeaseGuard;
use crate::report::HandoverReport;

/// The machine, and the values that it refers to by generation number.
pub(super) struct SlotState<F: PoolFactory> {
    pub(super) machine: PoolMachine,
    /// Lease guards by generation.
    pub(super) leases: HashMap<u64, LeaseGuard<F::Secret>>,
    /// Pools of the generations that drain.
    pub(super) draining: HashMap<u64, Draining<F::Pool>>,
    /// The rollback that waits for its publication.
    pub(super) roll_back: Option<PendingRollBack<F::Secret>>,
    pub(super) last_handover: Option<HandoverReport>,
    /// Error of the machine's last failure.
    pub(super) error: Option<ConnectError>,
}

/// Data for a drain's task.
pub(super) struct Draining<P> {
    pub(super) pool: P,
    /// Span that the drain's own span follows from, until that is created.
    pub(super) cause: Span,
}

/// Values that the machine no longer refers to. They lock the provider: to be used or dropped after
/// the pool's lock is released.
pub(super) struct Returned<S: Send + Sync + 'static> {
    pub(super) leases: Vec<LeaseGuard<S>>,
    /// A rollback that ended before its publication.
    pub(super) roll_back: Option<PendingRollBack<S>>,
}

impl<F: PoolFactory> SlotState<F> {
    pub(super) fn new(machine: PoolMachine) -> Self {
        Self {
            machine,
            leases: HashMap::new(),
            draining: HashMap::new(),
            roll_back: None,
            last_handover: None,
            error: None,
        }
    }

    /// Returns the lease of the current generation.
    pub(super) fn active_lease(&self) -> Option<&Lease<F::Secret>> {
        let active = self.machine.current()?;
        self.leases
            .get(&active.generation)
            .map(|lease_guard| &lease_guard.lease)
    }

    /// Returns the last error, until a verification works.
    pub(super) fn last_error(&self) -> Option<ConnectError> {
        self.machine.failure().and(self.error.clone())
    }

    /// Feeds the machine, and applies the effects that must be visible together with its state.
    pub(super) fn handle(
        &mut self,
        shared: &Shared<F>,
        input: PoolInput,
        error: Option<&ConnectError>,
    ) -> (Vec<PoolEffect>, Returned<F::Secret>) {
        let effects = self.machine.handle(input, shared.clock.now());
        let current = shared.current();
        let is_current = |generation: &u64| current.number == *generation;
        let mut leases = Vec::new();
        for effect in &effects {
            match effect {
                PoolEffect::ReturnLease { generation } => {
                    leases.extend(self.leases.remove(generation));
                }
                PoolEffect::Extend { generation, expiry } => {
                    if is_current(generation) {
                        current.lifecycle.login_limits.set_expiry(*expiry);
                        shared.publish(Generation {
                            expiry: *expiry,
                            connections_until: self
                                .machine
                                .current()
                                .map_or(Expiry::never(), |active| {
                                    active.lease.connections_until(shared.clock.now())
                                }),
                            ..Generation::clone(&current)
                        });
                    }
                }
                PoolEffect::LimitLogins { width, until } => {
                    shared.admission.limit(*width, *until);
                    let login_limits = &current.lifecycle.login_limits;
                    login_limits.set_limited_until(Some(*until));
                }
                PoolEffect::ProbeBeforeUse { generation } => {
                    if is_current(generation) {
                        current.lifecycle.set_unverified(true);
                    }
                }
                PoolEffect::StopProbing { generation } => {
                    if is_current(generation) {
                        current.lifecycle.set_unverified(false);
                    }
                }
                PoolEffect::Reject { .. } | PoolEffect::ReportFailure { .. } => {
                    self.error = error.cloned();
                }
                // Carried out after the lock is released.
                PoolEffect::Wake
                | PoolEffect::ReportRejected { .. }
                | PoolEffect::NotifyPoolsOfLogin { .. }
                | PoolEffect::ReportServing { .. }
                | PoolEffect::StartAttempt { .. }
                | PoolEffect::Probe { .. }
                | PoolEffect::StartDrain { .. }
                | PoolEffect::Open
                | PoolEffect::Publish(_)
                | PoolEffect::RollBackFailed
                | PoolEffect::ReportRollBackEnd
                | PoolEffect::ReportAbandoned { .. } => {}
            }
        }
        let has_rollback = self.machine.has_rollback();
        let roll_back = self.roll_back.take_if(|_| !has_rollback);
        (effects, Returned { leases, roll_back })
    }
}
