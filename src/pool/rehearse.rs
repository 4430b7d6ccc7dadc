//! Verifies a lease for a rehearsal, and publishes nothing.

use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore};
use tracing::Span;

use super::admission::{Admission, RehearsalPermit};
use super::factory::PoolFactory;
use super::machine::PoolInput;
use super::slot::PoolSlot;
use super::state::SlotState;
use super::task::run_in_task;
use crate::error::{ConnectError, ConnectErrorKind};
use crate::lease::{Lease, Revision};
use crate::report::{HandoverMode, PoolRehearsal};

/// Rehearsals of one pool: one logs in, and one waits for it. Each uses a lease, so that more of
/// them would keep many leases unreleased while the database hangs.
pub(super) struct Rehearsals {
    places: Semaphore,
    /// Held while a rehearsal logs in, so that the next one knows its failed logins. The last
    /// rejection of a rehearsed revision.
    rejected: Mutex<Option<(Revision, ConnectError)>>,
}

impl Default for Rehearsals {
    fn default() -> Self {
        Self {
            places: Semaphore::new(2),
            rejected: Mutex::default(),
        }
    }
}

impl<F: PoolFactory> PoolSlot<F> {
    /// Logs in with the lease as a handover does, and returns what a handover would do.
    pub(crate) async fn verify_rehearsal(&self, lease: &Lease<F::Secret>) -> PoolRehearsal {
        let (error, took) = self.rehearse_in_turn(lease).await;
        let settings = self.settings();
        let has_old = self.shared.admission.has_old();
        let (mode, opens, overlap) = if self.would_update_in_place(lease) {
            (HandoverMode::InPlace, 0, 1)
        } else {
            let (warm, overlap) = (settings.warm_connections, settings.overlap);
            let opens = self.lock().machine.ahead_of_demand(has_old, warm, overlap);
            (HandoverMode::Replace, opens, overlap)
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

    /// Returns whether a handover would update the pool in place. Only the factory knows it, and
    /// decides when it is called. No pool is updated to another server.
    fn would_update_in_place(&self, lease: &Lease<F::Secret>) -> bool {
        let (revision, policy) = (lease.revision(), self.settings().policy);
        let tries_in_place = self.lock().machine.tries_in_place(revision, policy);
        let server = |lease: &Lease<F::Secret>| self.factory().server(lease.secret());
        let active = self.active_lease().filter(|_| tries_in_place);
        active.is_some_and(|active| server(&active) == server(lease))
    }

    /// Returns the error, and the time of the logins.
    async fn rehearse_in_turn(&self, lease: &Lease<F::Secret>) -> (Option<ConnectError>, Duration) {
        let Ok(_place) = self.rehearsals.places.try_acquire() else {
            let error = not_verified("another rehearsal waits for one that logs in");
            return (Some(error), Duration::ZERO);
        };
        let mut rejected = self.rehearsals.rejected.lock().await;
        let began = self.clock().mono();
        let error = self.log_in_with(lease, &rejected).await.err();
        if let Some(error) = error.as_ref().filter(|error| is_rejected(error)) {
            *rejected = Some((lease.revision().clone(), error.clone()));
        }
        (error, self.since(began))
    }

    async fn log_in_with(
        &self,
        lease: &Lease<F::Secret>,
        last_rejected: &Option<(Revision, ConnectError)>,
    ) -> Result<(), ConnectError> {
        self.factory().check(lease)?;
        let mut rehearsal = self.begin_rehearsal(lease, last_rejected)?;
        let result = self.log_in_as_handover(lease).await;
        rehearsal.rejected = result.as_ref().is_err_and(is_rejected);
        result
    }

    /// Reserves the login budget for the rehearsal, until the guard is dropped.
    fn begin_rehearsal(
        &self,
        lease: &Lease<F::Secret>,
        last_rejected: &Option<(Revision, ConnectError)>,
    ) -> Result<RehearsalGuard<'_, F>, ConnectError> {
        let facts = self.lease_facts(lease);
        let now = self.clock().mono();
        let mut inner = self.lock();
        self.may_log_in(&inner, lease)?;
        let allowed_at = inner.machine.rehearsal_allowed_at(&facts, now);
        let wait = allowed_at.saturating_duration_since(now);
        if !wait.is_zero() {
            let is_paused = inner.machine.is_paused_until(&facts, allowed_at);
            let known = last_rejected.as_ref().filter(|_| is_paused);
            if let Some((_, error)) = known.filter(|(known, _)| known == lease.revision()) {
                return Err(error.clone());
            }
            let problem = if is_paused {
                "the database rejected the same credential before"
            } else {
                "the failed logins of the user are limited"
            };
            let wait = humantime::format_duration(wait);
            let problem = format!("{problem}; the next login is allowed in {wait}");
            return Err(not_verified(problem));
        }
        let begins = PoolInput::RehearsalBegins { lease: facts };
        let _applied = inner.handle(&self.shared, begins, None);
        Ok(RehearsalGuard {
            slot: self,
            rejected: false,
        })
    }

    /// Returns an error if no login with this lease may begin.
    fn may_log_in(
        &self,
        inner: &SlotState<F>,
        lease: &Lease<F::Secret>,
    ) -> Result<(), ConnectError> {
        if inner.machine.is_closed() {
            return Err(not_verified("the pool was closed"));
        }
        self.check_expiry(lease)
    }

    /// Makes the logins of a handover: the bare one, and one with the pool's hooks.
    async fn log_in_as_handover(&self, lease: &Lease<F::Secret>) -> Result<(), ConnectError> {
        let within = self.context.settings.verify_deadline;
        let login = {
            let (factory, lease) = (Arc::clone(&self.shared.factory), lease.clone());
            async move { factory.verify(lease.secret()).await }
        };
        self.log_in(lease, "the verification", login).await?;
        let login = {
            let (factory, lease) = (Arc::clone(&self.shared.factory), lease.clone());
            async move { factory.verify_as_pool(lease.secret(), within).await }
        };
        let operation = "opening a connection with the pool's hooks";
        self.log_in(lease, operation, login).await
    }

    /// Makes one login, if there is room for its connection.
    async fn log_in(
        &self,
        lease: &Lease<F::Secret>,
        operation: &str,
        login: impl Future<Output = Result<(), ConnectError>> + Send + 'static,
    ) -> Result<(), ConnectError> {
        let _permit = self.permit_to_rehearse(lease).await?;
        self.may_log_in(&self.lock(), lease)?;
        let result = run_in_task(login, Span::none(), &self.context, operation).await;
        result.map_err(|error| self.explain(lease, error))
    }

    /// Waits up to 1 s for a permit. A login to another server than the current one needs none.
    async fn permit_to_rehearse(
        &self,
        lease: &Lease<F::Secret>,
    ) -> Result<Option<RehearsalPermit<F::Pool>>, ConnectError> {
        let server = self.factory().server(lease.secret());
        if !self.shared.admission.is_current_server(&server) {
            return Ok(None);
        }
        let permit = self.wait_for_room(Admission::enter_rehearsal).await;
        if permit.is_none() {
            return Err(not_verified(
                "the pool has no room for another connection beside those of its callers, of old \
                 generations and of an attempt; try again when old generations have drained",
            ));
        }
        Ok(permit)
    }
}

/// Returns the error of a rehearsal that did not log in, and why.
fn not_verified(why: impl Display) -> ConnectError {
    let message = format!("not verified, because {why}");
    ConnectError::new(ConnectErrorKind::Other, message)
}

fn is_rejected(error: &ConnectError) -> bool {
    error.kind() == ConnectErrorKind::Rejected
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
