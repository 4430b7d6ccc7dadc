//! One attempt in a task: verifies a lease, then hands over to it.

use std::sync::Arc;
use std::time::Duration;

use tracing::Span;

use super::factory::PoolFactory;
use super::handover::{self, Times};
use super::machine::{PoolEffect, PoolInput};
use super::slot::PoolSlot;
use super::task::{TaskGuard, retry_with_room, run_in_task};
use crate::error::{ConnectError, ConnectErrorKind};
use crate::lease::Revision;
use crate::provider::LeaseGuard;
use crate::rotation::Rotation;
use crate::telemetry;

const PANICKED: &str = "the attempt panicked; see its own output";

/// The span of an attempt, marked as failed if the attempt panics.
struct MarkedByPanic(Span);

impl Drop for MarkedByPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            telemetry::failed(&self.0, ConnectErrorKind::Other.as_str(), PANICKED);
        }
    }
}

/// Starts an attempt to verify the lease with this revision.
pub(super) fn spawn<F: PoolFactory>(slot: &Arc<PoolSlot<F>>, attempt: u64, revision: &Revision) {
    let guard = TaskGuard {
        slot: Arc::clone(slot),
        if_lost: PoolInput::Lost { attempt },
    };
    // If the provider has another lease by now, the next wake handles that one.
    let Some(lease_guard) = slot
        .upstream
        .use_lease()
        .filter(|lease_guard| lease_guard.lease.revision() == revision)
    else {
        return;
    };
    let rotation = slot.upstream.rotation();
    let parent = rotation.as_ref().map_or_else(Span::none, |rotation| {
        rotation.span_for_attempt(slot.clock().now())
    });
    let span = telemetry::handover(&parent, slot.name(), &revision.digest());
    if parent.is_none() {
        lease_guard.origin.link(&span);
    }
    drop(parent);
    let work = tokio::spawn(run_attempt(
        Arc::clone(slot),
        attempt,
        lease_guard,
        rotation,
        span,
    ));
    tokio::spawn(async move {
        // A panic counts as a failed attempt.
        if work.await.is_err() {
            let error = ConnectError::new(ConnectErrorKind::Other, PANICKED);
            guard.slot.attempt_failed(attempt, &error);
        }
    });
}

async fn run_attempt<F: PoolFactory>(
    slot: Arc<PoolSlot<F>>,
    attempt: u64,
    lease_guard: LeaseGuard<F::Secret>,
    rotation: Option<Arc<Rotation>>,
    span: Span,
) {
    let span = MarkedByPanic(span);
    let began = slot.clock().mono();
    let verified = verify(&slot, &lease_guard, &span.0).await;
    let verify = slot.clock().mono().saturating_duration_since(began);
    slot.context
        .failpoints
        .panic_if_set(slot.name(), "pool.verified");
    let outcome = match verified {
        Err(error) => Err(error),
        Ok(()) => {
            slot.recovered();
            let effects = slot.feed(PoolInput::Verified { attempt }, None);
            if effects.contains(&PoolEffect::Open) {
                let times = Times {
                    began,
                    verify,
                    open: Duration::ZERO,
                    warm: Duration::ZERO,
                };
                handover::hand_over(
                    &slot,
                    attempt,
                    lease_guard,
                    times,
                    &span.0,
                    rotation.as_ref(),
                )
                .await
            } else {
                slot.settled();
                Ok(())
            }
        }
    };
    if let Err(error) = outcome {
        telemetry::failed(&span.0, error.kind().as_str(), &error.to_string());
        let took = slot.clock().mono().saturating_duration_since(began);
        slot.context
            .meters
            .handover_failed(slot.name(), error.kind().as_str(), took);
        if let Some(rotation) = rotation {
            rotation.handover_failed(slot.name(), &error);
        }
        // Ends before the failure is reported.
        drop(span);
        slot.attempt_failed(attempt, &error);
    }
}

impl<F: PoolFactory> PoolSlot<F> {
    fn attempt_failed(&self, attempt: u64, error: &ConnectError) {
        let kind = error.kind();
        self.feed(PoolInput::Failed { attempt, kind }, Some(error));
        self.settled();
        self.update_next_attempt();
    }
}

/// Verifies a lease by a login without a pool and a probe. The handover opens connections as the
/// pool does, with its hooks; a lease that the pool serves already may have none.
async fn verify<F: PoolFactory>(
    slot: &Arc<PoolSlot<F>>,
    lease_guard: &LeaseGuard<F::Secret>,
    parent: &Span,
) -> Result<(), ConnectError> {
    let lease = &lease_guard.lease;
    slot.factory().check(lease)?;
    let span = telemetry::verify(parent);
    let permit = slot.permit_to_verify().await;
    let task = {
        let (slot, lease) = (Arc::clone(slot), lease.clone());
        async move {
            retry_with_room(&slot, lease.secret(), || {
                slot.factory().verify(lease.secret())
            })
            .await
        }
    };
    run_in_task(task, span, &slot.context, "the verification").await?;
    drop(permit);
    let active = slot.active_lease();
    if active.is_some_and(|active| active.revision() == lease.revision()) {
        handover::try_out(slot, lease_guard).await?;
    }
    Ok(())
}
