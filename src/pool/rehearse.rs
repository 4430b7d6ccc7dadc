//! Verifies a lease for a rehearsal, and publishes nothing.

use std::sync::Arc;

use tracing::Span;

use super::factory::PoolFactory;
use super::machine::PoolInput;
use super::slot::PoolSlot;
use super::task::run_in_task;
use crate::error::{ConnectError, ConnectErrorKind};
use crate::lease::Lease;
use crate::report::{HandoverMode, PoolRehearsal};

impl<F: PoolFactory> PoolSlot<F> {
    /// Logs in with the lease as a handover does, and returns what a handover would do.
    pub(crate) async fn verify_rehearsal(&self, lease: &Lease<F::Secret>) -> PoolRehearsal {
        let guard = self.rehearsal.lock().await;
        let began = self.clock().mono();
        let error = self.log_in_with(lease).await.err();
        let took = self.since(began);
        drop(guard);
        let (settings, revision) = (self.settings(), lease.revision());
        let has_old = self.shared.admission.has_old();
        let (mode, opens) = {
            let inner = self.lock();
            if inner.machine.tries_in_place(revision, settings.policy) {
                (HandoverMode::InPlace, 0)
            } else {
                let warm = settings.warm_connections;
                let ahead = inner
                    .machine
                    .ahead_of_demand(has_old, warm, settings.overlap);
                (HandoverMode::Replace, ahead)
            }
        };
        let overlap = match mode {
            HandoverMode::InPlace => 1,
            HandoverMode::Replace => settings.overlap,
        };
        let pool = self.shared.current().pool.clone();
        let connections = self.factory().connections(&pool);
        PoolRehearsal {
            pool: Arc::clone(self.name()),
            error,
            took,
            mode,
            opens,
            at_most: settings.max_connections + overlap,
            max_connections: settings.max_connections,
            connections,
            in_use: connections.saturating_sub(self.factory().idle(&pool)),
        }
    }

    async fn log_in_with(&self, lease: &Lease<F::Secret>) -> Result<(), ConnectError> {
        self.factory().check(lease)?;
        let mut rehearsal = self.begin_rehearsal(lease)?;
        let result = self.log_in_as_handover(lease).await;
        let error = result.as_ref().err();
        rehearsal.rejected = error.is_some_and(|error| error.kind() == ConnectErrorKind::Rejected);
        result
    }

    /// Reserves the login budget for the rehearsal, until the guard is dropped.
    fn begin_rehearsal(
        &self,
        lease: &Lease<F::Secret>,
    ) -> Result<RehearsalGuard<'_, F>, ConnectError> {
        let lease = self.lease_facts(lease);
        let now = self.clock().mono();
        let mut inner = self.lock();
        let allowed_at = inner.machine.rehearsal_allowed_at(&lease, now);
        let wait = allowed_at.saturating_duration_since(now);
        if inner.machine.is_closed() {
            return Err(closed());
        }
        if !wait.is_zero() {
            let message = format!(
                "not verified, because the failed logins of the user are limited; the next is \
                 allowed in {}",
                humantime::format_duration(wait)
            );
            return Err(ConnectError::new(ConnectErrorKind::Other, message));
        }
        let begins = PoolInput::RehearsalBegins { lease };
        let _applied = inner.handle(&self.shared, begins, None);
        Ok(RehearsalGuard {
            slot: self,
            rejected: false,
        })
    }

    /// Makes the logins of a handover: the bare one, and one with the pool's hooks.
    async fn log_in_as_handover(&self, lease: &Lease<F::Secret>) -> Result<(), ConnectError> {
        let context = &self.context;
        let within = context.settings.verify_deadline;
        let _permit = self.permit_to_verify().await;
        let login = {
            let (factory, lease) = (Arc::clone(&self.shared.factory), lease.clone());
            async move { factory.verify(lease.secret()).await }
        };
        run_in_task(login, Span::none(), context, "the verification").await?;
        if self.lock().machine.is_closed() {
            return Err(closed());
        }
        let login = {
            let (factory, lease) = (Arc::clone(&self.shared.factory), lease.clone());
            async move { factory.verify_as_pool(lease.secret(), within).await }
        };
        let operation = "opening a connection with the pool's hooks";
        run_in_task(login, Span::none(), context, operation).await
    }
}

fn closed() -> ConnectError {
    let message = "not verified, because the pool was closed";
    ConnectError::new(ConnectErrorKind::Other, message)
}

/// Ends the rehearsal's logins on drop.
struct RehearsalGuard<'s, F: PoolFactory> {
    slot: &'s PoolSlot<F>,
    /// Whether one of them was rejected.
    rejected: bool,
}

impl<F: PoolFactory> Drop for RehearsalGuard<'_, F> {
    fn drop(&mut self) {
        let rejected = self.rejected;
        self.slot.feed(PoolInput::RehearsalEnded { rejected }, None);
    }
}
