//! Returns a pool to its previous lease: takes the lease, waits for the attempt, holds the
//! provider.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::factory::PoolFactory;
use super::machine::{NoRollBack, PoolInput};
use super::slot::PoolSlot;
use crate::error::{ConnectError, ConnectErrorKind};
use crate::lease::{Lease, Revision};
use crate::provider::{LeaseGuard, schedule};
use crate::report::{RotationOutcome, RotationReport, RotationTrigger};
use crate::rotation::Rotation;
use crate::telemetry::Caller;

/// Margins before the previous lease's expiry at which the pool leaves it: one for the handover to
/// the current lease, one for the drain.
const MARGINS: u32 = 2;

/// A rollback whose lease is not published yet.
pub(super) struct PendingRollBack<S: Send + Sync + 'static> {
    /// Keeps the lease until an attempt has its own guard.
    _lease_guard: LeaseGuard<S>,
    rotation: Arc<Rotation>,
    reply: oneshot::Sender<Result<(), ConnectError>>,
}

/// Receives the outcome of a rollback.
type Outcome = oneshot::Receiver<Result<(), ConnectError>>;

/// Reason why a pool did not return to its previous lease.
pub(crate) enum NotRolledBack {
    NotPossible(NoRollBack),
    NotVerified(ConnectError),
    /// The pool was closed, or the previous lease expired before the attempt.
    Ended,
}

impl<F: PoolFactory> PoolSlot<F> {
    /// Returns to the previous lease and holds the provider. Waits up to the start deadline for the
    /// begin of the attempt.
    pub(crate) async fn roll_back(
        self: Arc<Self>,
        caller: Caller,
    ) -> Result<RotationReport, NotRolledBack> {
        let (rotation, mut outcome) = self
            .begin_roll_back(&caller)
            .map_err(NotRolledBack::NotPossible)?;
        let deadline = self.context.settings.start_deadline;
        let outcome = match timeout(deadline, &mut outcome).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let error = ConnectError::new(
                    ConnectErrorKind::Other,
                    format!(
                        "no login was possible within {}; the user's failed logins are limited",
                        humantime::format_duration(deadline)
                    ),
                );
                self.feed(PoolInput::AbandonRollBack, Some(&error));
                outcome.await
            }
        };
        match outcome {
            Ok(Ok(())) => Ok(rotation.report(self.clock().now())),
            Ok(Err(error)) => Err(NotRolledBack::NotVerified(error)),
            Err(_) => Err(NotRolledBack::Ended),
        }
    }

    fn begin_roll_back(&self, caller: &Caller) -> Result<(Arc<Rotation>, Outcome), NoRollBack> {
        let current = self.upstream.current_lease();
        let current = current.as_ref().map(Lease::revision);
        let previous = self.lock().machine.previous_lease(current)?.clone();
        let lease_guard = self.upstream.use_unreleased(&previous.revision);
        let lease_guard = lease_guard.ok_or(NoRollBack::Released)?;
        let now = self.clock().now();
        let margin = lease_guard.lifetime.map(schedule::drain_margin);
        let until = lease_guard
            .lease
            .expiry()
            .earlier_by(MARGINS * margin.unwrap_or_default());
        if until.is_expired(now) {
            return Err(NoRollBack::Expires);
        }
        let rotation = Rotation::new(self.upstream.name(), RotationTrigger::RollBack, now);
        rotation.adopted(&previous.revision, [Arc::clone(self.name())]);
        let (reply, outcome) = oneshot::channel();
        let pending = PendingRollBack {
            _lease_guard: lease_guard,
            rotation: Arc::clone(&rotation),
            reply,
        };
        let mut inner = self.lock();
        // Another call may have begun, or another lease may be published, meanwhile.
        if inner.machine.previous_lease(current)?.revision != previous.revision {
            drop(inner);
            return self.begin_roll_back(caller);
        }
        inner.roll_back = Some(pending);
        let input = PoolInput::RollBack {
            lease: previous,
            until,
        };
        let (_wakes, returned) = inner.handle(&self.shared, input, None);
        drop(inner);
        self.roll_back_failed(returned.roll_back, None);
        rotation.open();
        rotation.record_revision();
        rotation.requested_by(caller, now);
        self.notify_and_wake();
        Ok((rotation, outcome))
    }

    /// Returns whether the pool is, or is being, returned to this revision, and the rotation of a
    /// rollback that waits for its publication.
    pub(super) fn roll_back_to(&self, revision: &Revision) -> (bool, Option<Arc<Rotation>>) {
        let inner = self.lock();
        let rolls_back = inner.machine.rolls_back_to(revision);
        let pending = inner.roll_back.as_ref().filter(|_| rolls_back);
        (rolls_back, pending.map(|one| Arc::clone(&one.rotation)))
    }

    /// Holds the provider and ends the rotation, once the previous lease is published.
    pub(super) fn finish_roll_back(&self) {
        let pending = {
            let mut inner = self.lock();
            let is_published = inner.machine.is_rolled_back();
            inner.roll_back.take_if(|_| is_published)
        };
        let Some(pending) = pending else {
            return;
        };
        let hold = self.upstream.hold();
        self.feed(PoolInput::Hold(hold), None);
        // The provider's own rotation, if one is under way, does not wait for this pool.
        self.leave_rotation();
        self.upstream
            .close_rotation(&pending.rotation, RotationOutcome::Adopted);
        let _ = pending.reply.send(Ok(()));
    }

    /// Finishes a rollback whose attempt panicked after its publication, and ends one whose
    /// provider is no longer in its hold.
    pub(super) fn reconcile_roll_back(&self) {
        let is_reported = {
            let machine = &self.lock().machine;
            machine.is_rolled_back() && !machine.is_reporting()
        };
        if is_reported {
            self.finish_roll_back();
            self.feed(PoolInput::Hold(self.upstream.hold_number()), None);
        }
    }

    /// Ends the rotation of a rollback that was not published.
    pub(super) fn roll_back_failed(
        &self,
        pending: Option<PendingRollBack<F::Secret>>,
        error: Option<&ConnectError>,
    ) {
        let Some(pending) = pending else {
            return;
        };
        // The lease is not tried again.
        pending.rotation.stop_waiting_for(self.name());
        self.upstream
            .close_rotation(&pending.rotation, RotationOutcome::Unfinished);
        // Without an error, the reply is dropped.
        if let Some(error) = error {
            let _ = pending.reply.send(Err(error.clone()));
        }
    }
}
