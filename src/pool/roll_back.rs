//! Returns a pool to its previous lease: takes the lease, waits for the attempt, holds the
//! provider.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::factory::PoolFactory;
use super::machine::{NoRollBack, PoolInput};
use super::slot::PoolSlot;
use crate::error::{ConnectError, ConnectErrorKind};
use crate::lease::Revision;
use crate::provider::{LeaseGuard, schedule};
use crate::report::{RotationOutcome, RotationReport, RotationTrigger};
use crate::rotation::Rotation;
use crate::telemetry::Caller;

/// Margins before the previous lease's expiry at which the pool leaves it: one for the handover to
/// the current lease, one for the drain.
const MARGINS: u32 = 2;

/// A roll-back whose lease is not published yet.
pub(super) struct PendingRollBack<S: Send + Sync + 'static> {
    /// Keeps the lease until an attempt has its own guard.
    _lease_guard: LeaseGuard<S>,
    rotation: Arc<Rotation>,
    reply: oneshot::Sender<Result<(), ConnectError>>,
}

/// Receives the outcome of a roll-back.
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
        let previous = self.lock().machine.previous_lease()?.clone();
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
        // Another call may have begun meanwhile.
        inner.machine.previous_lease()?;
        inner.roll_back = Some(pending);
        let input = PoolInput::RollBack {
            lease: previous,
            until,
        };
        let (_wakes, returned) = inner.handle(&self.shared, input, None);
        drop(inner);
        drop(returned);
        rotation.open();
        rotation.record_revision();
        rotation.requested_by(caller, now);
        self.notify_and_wake();
        Ok((rotation, outcome))
    }

    /// Returns whether the pool is, or is being, returned to this revision, and the rotation of a
    /// roll-back that waits for its publication.
    pub(super) fn roll_back_to(&self, revision: &Revision) -> (bool, Option<Arc<Rotation>>) {
        let inner = self.lock();
        let rolls_back = inner.machine.rolls_back_to(revision);
        let pending = inner.roll_back.as_ref().filter(|_| rolls_back);
        (rolls_back, pending.map(|one| Arc::clone(&one.rotation)))
    }

    /// Holds the provider and ends the rotation, once the previous lease is published.
    pub(super) fn finish_roll_back(&self, revision: &Revision) {
        let pending = {
            let mut inner = self.lock();
            let rolls_back = inner.machine.rolls_back_to(revision);
            inner.roll_back.take_if(|_| rolls_back)
        };
        let Some(pending) = pending else {
            return;
        };
        self.upstream.hold();
        // The provider's own rotation, if one is under way, does not wait for this pool.
        self.leave_rotation();
        self.upstream
            .close_rotation(&pending.rotation, RotationOutcome::Adopted);
        let _ = pending.reply.send(Ok(()));
    }

    pub(super) fn roll_back_failed(&self, error: Option<&ConnectError>) {
        let Some(pending) = self.lock().roll_back.take() else {
            return;
        };
        pending
            .rotation
            .close(RotationOutcome::Unfinished, self.clock().now());
        // Without an error, the reply is dropped.
        if let Some(error) = error {
            let _ = pending.reply.send(Err(error.clone()));
        }
    }
}
