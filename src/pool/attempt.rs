//! One attempt in a task: verifies a lease, then hands over to it.

use std::sync::Arc;
use std::time::Instant;

use tracing::Span;

use super::factory::PoolFactory;
use super::machine::{PoolEffect, PoolInput};
use super::slot::PoolSlot;
use super::task::{TaskGuard, retry_with_room, run_in_task};
use crate::clock::rfc3339;
use crate::error::{ConnectError, ConnectErrorKind};
use crate::lease::{Lease, Revision};
use crate::provider::LeaseGuard;
use crate::rotation::Rotation;
use crate::telemetry;

const PANICKED: &str = "the attempt panicked; see the panic message";

/// An attempt in its task.
pub(super) struct AttemptTask<F: PoolFactory> {
    pub(super) slot: Arc<PoolSlot<F>>,
    pub(super) number: u64,
    pub(super) rotation: Option<Arc<Rotation>>,
    /// Span of the handover, marked as failed if the attempt panics.
    pub(super) span: Span,
    pub(super) began: Instant,
}

impl<F: PoolFactory> Drop for AttemptTask<F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            telemetry::failed(&self.span, ConnectErrorKind::Other.as_str(), PANICKED);
        }
    }
}

/// Starts an attempt to verify the lease with this revision.
pub(super) fn spawn<F: PoolFactory>(slot: &Arc<PoolSlot<F>>, number: u64, revision: &Revision) {
    let guard = TaskGuard {
        slot: Arc::clone(slot),
        if_lost: PoolInput::Lost { attempt: number },
    };
    // If the provider has another lease by now, the next wake handles that one.
    let (rolls_back, roll_back) = slot.roll_back_to(revision);
    let lease_guard = if rolls_back {
        slot.upstream.use_unreleased(revision)
    } else {
        slot.upstream
            .use_lease()
            .filter(|lease_guard| lease_guard.lease.revision() == revision)
    };
    let Some(lease_guard) = lease_guard else {
        return;
    };
    let rotation = roll_back.or_else(|| slot.upstream.rotation());
    let parent = rotation.as_ref().map_or_else(Span::none, |rotation| {
        rotation.span_for_attempt(slot.clock().now())
    });
    let span = telemetry::handover(&parent, slot.name(), &revision.digest());
    if parent.is_none() {
        lease_guard.origin.link(&span);
    }
    drop(parent);
    let attempt = AttemptTask {
        slot: Arc::clone(slot),
        number,
        rotation,
        span,
        began: slot.clock().mono(),
    };
    let work = tokio::spawn(attempt.run(lease_guard));
    tokio::spawn(async move {
        // A panic counts as a failed attempt.
        if work.await.is_err() {
            let error = ConnectError::new(ConnectErrorKind::Other, PANICKED);
            guard.slot.attempt_failed(number, &error);
        }
    });
}

impl<F: PoolFactory> AttemptTask<F> {
    async fn run(self, lease_guard: LeaseGuard<F::Secret>) {
        let Err(error) = self.verify_and_hand_over(lease_guard).await else {
            return;
        };
        let (slot, number, kind) = (Arc::clone(&self.slot), self.number, error.kind().as_str());
        telemetry::failed(&self.span, kind, &error.to_string());
        let took = slot.since(self.began);
        slot.context.meters.handover_failed(slot.name(), kind, took);
        if let Some(rotation) = &self.rotation {
            rotation.handover_failed(slot.name(), &error);
        }
        // Its span ends before the failure is reported.
        drop(self);
        slot.attempt_failed(number, &error);
    }

    async fn verify_and_hand_over(
        &self,
        lease_guard: LeaseGuard<F::Secret>,
    ) -> Result<(), ConnectError> {
        let (slot, attempt) = (&self.slot, self.number);
        let verified = self.verify(&lease_guard).await;
        let took = slot.since(self.began);
        slot.context
            .failpoints
            .panic_if_set(slot.name(), "pool.verified");
        verified?;
        let effects = slot.feed(PoolInput::Verified { attempt }, None);
        if effects.contains(&PoolEffect::Open) {
            return self.hand_over(lease_guard, took).await;
        }
        slot.recovered();
        slot.notify_and_wake();
        Ok(())
    }

    /// Verifies a lease by a login and a probe, without a pool. The handover of another lease calls
    /// the pool's hooks. For a lease that the pool serves, they are called here, because it may
    /// have no handover.
    async fn verify(&self, lease_guard: &LeaseGuard<F::Secret>) -> Result<(), ConnectError> {
        let (slot, lease) = (&self.slot, &lease_guard.lease);
        slot.factory().check(lease)?;
        let span = telemetry::verify(&self.span);
        let permit = slot.permit_to_verify().await;
        slot.check_expiry(lease)?;
        let work = {
            let (slot, lease) = (Arc::clone(slot), lease.clone());
            async move {
                let secret = lease.secret();
                retry_with_room(&slot, secret, || slot.factory().verify(secret)).await
            }
        };
        let verified = run_in_task(work, span, &slot.context, "the verification").await;
        verified.map_err(|error| slot.explain(lease, error))?;
        drop(permit);
        let active = slot.active_lease();
        if active.is_some_and(|active| active.revision() == lease.revision()) {
            self.verify_as_pool(lease_guard).await?;
        }
        Ok(())
    }
}

impl<F: PoolFactory> PoolSlot<F> {
    /// Adds user and server to the error of a login, unless it has them.
    pub(super) fn explain(&self, lease: &Lease<F::Secret>, error: ConnectError) -> ConnectError {
        if error.target().is_some() {
            error
        } else {
            self.factory().explain(lease.secret(), error)
        }
    }

    /// Returns an error if the lease has expired, for example while its login waited for a permit.
    pub(super) fn check_expiry(&self, lease: &Lease<F::Secret>) -> Result<(), ConnectError> {
        let expiry = lease.expiry();
        if expiry.is_expired(self.clock().now()) {
            let at = expiry.wall().map(rfc3339).unwrap_or_default();
            let message =
                format!("not verified, because its lease expired at {at}, before the login");
            return Err(ConnectError::new(ConnectErrorKind::Other, message));
        }
        Ok(())
    }

    fn attempt_failed(&self, attempt: u64, error: &ConnectError) {
        let kind = error.kind();
        self.feed(PoolInput::Failed { attempt, kind }, Some(error));
        self.notify_and_wake();
        self.update_next_attempt();
    }
}
