//! The pool's driver: feeds the machine, and carries out its effects.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tracing::Span;

use super::factory::PoolFactory;
use super::generation::Phase;
use super::machine::{LeaseFacts, PoolEffect, PoolInput};
use super::slot::PoolSlot;
use super::state::Draining;
use super::{attempt, drain, probe};
use crate::actor::{Mailbox, Slot};
use crate::error::ConnectError;
use crate::events::Event;
use crate::lease::{Lease, Revision};
use crate::next_attempt::NextAttempt;

impl<F: PoolFactory> PoolSlot<F> {
    /// Feeds the machine, and carries out the effects that need no task; returns the others.
    /// `error` is the cause of a failure.
    pub(super) fn feed(&self, input: PoolInput, error: Option<&ConnectError>) -> Vec<PoolEffect> {
        let mut inner = self.lock();
        // A cause may have a `Drop` of its own, which runs without the lock.
        let replaced = inner.error.clone();
        let (effects, returned) = inner.handle(&self.shared, input, error);
        drop(inner);
        self.roll_back_failed(returned.roll_back, error);
        drop((returned.leases, replaced));
        effects
            .into_iter()
            .filter_map(|effect| self.carry_out(effect, error))
            .collect()
    }

    /// Carries out an effect, or returns it if it needs a task or the caller's values.
    fn carry_out(&self, effect: PoolEffect, error: Option<&ConnectError>) -> Option<PoolEffect> {
        match effect {
            PoolEffect::Wake => self.notify_and_wake(),
            PoolEffect::Reject { generation } => {
                if let Some(error) = error {
                    self.reject(generation, error);
                }
            }
            PoolEffect::ReportFailure { revision, is_early } => {
                if let Some(error) = error {
                    self.report_failure(&revision, is_early, error);
                }
            }
            PoolEffect::ReportRejected { revision } => self.upstream.rejected(&revision),
            PoolEffect::NotifyPoolsOfLogin { revision, account } => {
                self.upstream.notify_pools_of_login(&revision, &account);
            }
            PoolEffect::ReportServing { revision } => self.report_serving(&revision),
            PoolEffect::ReportRollBackEnd => {
                tracing::warn!(
                    pool = %self.name(), provider = %self.upstream.name(),
                    "the previous lease is rejected or expires soon; the rollback ends"
                );
            }
            // The expiry was published under the lock.
            PoolEffect::Extend { .. } => self.shared.notify_waiting(),
            // Carried out under the lock.
            PoolEffect::LimitLogins { .. }
            | PoolEffect::ProbeBeforeUse { .. }
            | PoolEffect::StopProbing { .. }
            | PoolEffect::RollBackFailed
            | PoolEffect::ReturnLease { .. } => {}
            PoolEffect::StartAttempt { .. }
            | PoolEffect::Probe { .. }
            | PoolEffect::StartDrain { .. }
            | PoolEffect::Open
            | PoolEffect::Publish(_)
            | PoolEffect::ReportAbandoned { .. } => return Some(effect),
        }
        None
    }

    /// Marks a generation as rejected, so that no caller logs in to it any more.
    fn reject(&self, generation: u64, error: &ConnectError) {
        let current = self.shared.current();
        if current.number != generation {
            return;
        }
        // Under the lock of the next attempt, so that callers read both together, even if the actor
        // changes the next attempt at the same time.
        let mut is_first = false;
        self.shared.set_next_attempt(|| {
            is_first = current.lifecycle.reject(error.clone());
            NextAttempt::Running
        });
        if is_first {
            tracing::info!(
                pool = %self.name(), provider = %self.upstream.name(), generation, error = %error,
                "the database rejected the credential"
            );
            self.events().send(Event::Rejected {
                pool: Arc::clone(self.name()),
                generation,
                error: error.clone(),
            });
        }
    }

    /// Logs that a lease was not verified. A first login that comes too early is expected, and not
    /// a failure.
    fn report_failure(&self, revision: &Revision, is_early: bool, error: &ConnectError) {
        let (pool, provider) = (self.name(), self.upstream.name());
        let lease = self.upstream.current_lease();
        if is_early && lease.is_none_or(|lease| lease.revision() != revision) {
            tracing::debug!(
                pool = %pool, provider = %provider, revision = %revision, error = %error,
                "a superseded lease was not verified"
            );
        } else if is_early && self.failures.is_first_expected() {
            tracing::info!(
                pool = %pool, provider = %provider, revision = %revision, error = %error,
                "the database does not accept the next lease yet; it is verified again"
            );
        } else if let Some(times) = self
            .failures
            .failed(self.clock().mono(), error.kind().as_str())
        {
            tracing::warn!(
                pool = %pool, provider = %provider, revision = %revision, times, error = %error,
                "a lease could not be verified"
            );
        }
        self.events().send(Event::VerificationFailed {
            pool: Arc::clone(self.name()),
            error: error.clone(),
        });
    }

    /// Logs that the next verification waits because failed logins have used up their budget.
    fn report_budget(&self) {
        let now = self.clock().now();
        let until = self.lock().machine.waits_for_budget_until(now);
        let waited = self
            .waits_for_budget
            .swap(until.is_some(), Ordering::AcqRel);
        let Some(until) = until.filter(|_| !waited) else {
            return;
        };
        if let Some(times) = self.used_up_budgets.failed(now.mono(), "used up") {
            let left = until.saturating_duration_since(now.mono()).as_secs() + 1;
            let next = humantime::format_duration(Duration::from_secs(left));
            tracing::warn!(
                pool = %self.name(), provider = %self.upstream.name(), times, next_login_in = %next,
                "failed logins have used up their budget; the next verification waits"
            );
        }
    }

    /// Logs that a lease was verified, and handed over if it is a new one, after failures.
    pub(super) fn recovered(&self) {
        self.used_up_budgets.succeeded();
        if let Some(times) = self.failures.succeeded() {
            tracing::info!(
                pool = %self.name(), provider = %self.upstream.name(), times,
                "verification succeeds again"
            );
        }
    }

    /// Notes that the pool uses the provider's current lease.
    fn report_serving(&self, revision: &Revision) {
        if self.lock().machine.failure().is_none() {
            // A wrong secret was replaced by the active one, which needs no verification.
            self.failures.succeeded();
        }
        if let Some(rotation) = self.upstream.rotation()
            && rotation.waits_for(self.name(), &revision.digest())
        {
            self.leave_rotation();
        }
    }

    /// Removes this pool from those that the rotation waits for.
    pub(super) fn leave_rotation(&self) {
        if let Some(rotation) = self.upstream.rotation() {
            rotation.stop_waiting_for(self.name());
            self.upstream.pool_done(&rotation);
        }
    }

    /// Starts the tasks that carry out these effects.
    pub(super) fn start_tasks(self: &Arc<Self>, effects: Vec<PoolEffect>) {
        for effect in effects {
            match effect {
                PoolEffect::StartAttempt {
                    attempt, revision, ..
                } => attempt::spawn(self, attempt, &revision),
                PoolEffect::Probe { generation } => probe::spawn(self, generation),
                PoolEffect::StartDrain {
                    generation,
                    since,
                    deadline,
                } => drain::spawn(self, generation, since, deadline),
                // Carried out without a task: by `handle` or `carry_out`.
                PoolEffect::Wake
                | PoolEffect::Extend { .. }
                | PoolEffect::Reject { .. }
                | PoolEffect::ReportFailure { .. }
                | PoolEffect::ReportRejected { .. }
                | PoolEffect::NotifyPoolsOfLogin { .. }
                | PoolEffect::ReportServing { .. }
                | PoolEffect::LimitLogins { .. }
                | PoolEffect::RollBackFailed
                | PoolEffect::ReportRollBackEnd
                | PoolEffect::ProbeBeforeUse { .. }
                | PoolEffect::StopProbing { .. }
                | PoolEffect::ReturnLease { .. } => {}
                // Carried out by the task that fed the input. None of these inputs is fed here.
                PoolEffect::Open | PoolEffect::Publish(_) | PoolEffect::ReportAbandoned { .. } => {}
            }
        }
    }

    /// Returns the provider's current lease. Calls the factory: not to be called under a lock.
    fn current_lease(&self) -> Option<LeaseFacts> {
        let lease = self.upstream.current_lease()?;
        Some(self.lease_facts(&lease))
    }

    /// Calls the factory: not to be called under a lock.
    pub(super) fn lease_facts(&self, lease: &Lease<F::Secret>) -> LeaseFacts {
        let old_connections = lease
            .old_connections()
            .by_pool(self.settings().reauthenticates);
        LeaseFacts {
            account: self.factory().account(lease.secret()).into(),
            revision: lease.revision().clone(),
            expiry: lease.expiry(),
            old_connections,
            connection_expiry: lease.connection_expiry(),
        }
    }

    /// Updates when the next attempt that may help callers begins.
    pub(super) fn update_next_attempt(&self) {
        self.shared.set_next_attempt(|| {
            let now = self.clock().now();
            self.own_next_attempt()
                .or(self.upstream.next_attempt(now.mono()))
        });
    }

    /// Returns when this pool's next attempt that may help callers begins.
    pub(super) fn own_next_attempt(&self) -> NextAttempt {
        let lease = self.upstream.current_lease();
        let known = lease
            .as_ref()
            .map(|lease| (lease.revision(), lease.expiry()));
        self.lock().machine.next_attempt(known, self.clock().now())
    }

    /// Starts nothing new, fails callers with `PoolClosed`, and drains the current generation.
    pub(crate) fn close(self: &Arc<Self>) {
        let mut inner = self.lock();
        let is_first = !inner.machine.is_closed();
        let generation = self.shared.current();
        if is_first && generation.lifecycle.phase() != Phase::Vacant {
            let draining = Draining {
                pool: generation.pool.clone(),
                cause: Span::none(),
            };
            inner.draining.insert(generation.number, draining);
        }
        let (effects, returned) = inner.handle(&self.shared, PoolInput::Close, None);
        drop(inner);
        self.roll_back_failed(returned.roll_back, None);
        drop(returned.leases);
        if is_first {
            generation.lifecycle.close();
            if self.upstream.is_closing() {
                // A rotation that ends with the supervisor is not reported as complete.
                self.upstream.all_pools_leave();
            } else {
                self.leave_rotation();
                self.upstream.pool_left();
            }
        }
        // Not left to the actor, which may be waiting for its restart. Includes drains whose
        // runtime ended.
        self.start_tasks(effects);
        if is_first {
            self.shared.notify_waiting();
            self.notify_and_wake();
        }
    }

    /// Starts a task for each drain that has none.
    pub(super) fn start_drains(self: &Arc<Self>) {
        let effects = self.feed(PoolInput::StartDrains, None);
        self.start_tasks(effects);
    }
}

impl<F: PoolFactory> Slot for PoolSlot<F> {
    fn name(&self) -> &Arc<str> {
        Self::name(self)
    }

    fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    fn reconcile(self: &Arc<Self>) -> Option<Duration> {
        self.context
            .failpoints
            .panic_if_set(self.name(), "pool.wake");
        self.reconcile_roll_back();
        let lease = self.current_lease();
        let effects = self.feed(PoolInput::Wake { lease }, None);
        self.start_tasks(effects);
        self.report_budget();
        self.update_next_attempt();
        self.notifier.notify();
        let now = self.clock().mono();
        let next = self.lock().machine.next_deadline();
        next.map(|at| at.saturating_duration_since(now))
    }
}
