//! One attempt: verify the held lease, then hand over to it. In a task of its own; the outcome
//! lands in the slot.

use std::sync::Arc;
use std::time::Duration;

use tracing::Span;

use super::decide::Attempt;
use super::gate::Pass;
use super::handover::{self, Times};
use super::task::in_a_task;
use super::{PoolFactory, PoolSlot};
use crate::error::{ConnectError, ConnectErrorKind};
use crate::lease::Lease;
use crate::provider::Loan;
use crate::rotation::Rotation;
use crate::telemetry;

/// How long a verification waits for room among the connections of old generations.
const AT_THE_GATE: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
const PANICKED: &str = "the attempt panicked; see its own output";

/// The span of an attempt, which says so when the attempt ends by a panic of ours.
struct MarkedByPanic(Span);

impl Drop for MarkedByPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            telemetry::failed(&self.0, ConnectErrorKind::Other.as_str(), PANICKED);
        }
    }
}

/// Starts the attempt that was decided on.
pub(super) fn spawn<F: PoolFactory>(slot: &Arc<PoolSlot<F>>, number: u64, check_only: bool) {
    let slot = Arc::clone(slot);
    let Some(mut attempt) = slot
        .lock()
        .attempt
        .clone()
        .filter(|attempt| attempt.number == number)
    else {
        return;
    };
    let Some(loan) = slot.upstream().lend() else {
        slot.lock().attempt = None;
        return;
    };
    // What is lent is what the provider holds now, which may be newer than what was decided on: the
    // latest lease wins.
    let renewed = attempt.revision != *loan.lease.revision();
    attempt.revision = loan.lease.revision().clone();
    attempt.user = slot.factory().account(loan.lease.secret()).into();
    attempt.check_only = check_only && !renewed;
    let rotation = slot.upstream().rotation();
    let parent = rotation.as_ref().map_or_else(Span::none, |rotation| {
        rotation.span_for_attempt(slot.clock().now())
    });
    let span = telemetry::handover(&parent, slot.name(), &attempt.revision.digest());
    if parent.is_none() {
        loan.origin.link(&span);
    }
    drop(parent);
    let work = tokio::spawn(run(
        Arc::clone(&slot),
        attempt.clone(),
        loan,
        rotation,
        span,
    ));
    let guard = LostGuard {
        slot: Arc::clone(&slot),
        number,
    };
    tokio::spawn(async move {
        let _guard = guard;
        // A panic of ours is one failed attempt, too: nothing may stay "in flight" for ever.
        let stuck = || {
            slot.lock()
                .attempt
                .as_ref()
                .is_some_and(|attempt| attempt.number == number)
        };
        if work.await.is_err() && stuck() {
            slot.attempt_failed(
                &attempt,
                ConnectError::new(ConnectErrorKind::Other, PANICKED),
            );
        }
    });
}

/// Held by the task that waits for an attempt. If its runtime ends first, no attempt remains.
struct LostGuard<F: PoolFactory> {
    slot: Arc<PoolSlot<F>>,
    number: u64,
}

impl<F: PoolFactory> Drop for LostGuard<F> {
    fn drop(&mut self) {
        let lost = {
            let mut state = self.slot.lock();
            state.reported();
            state
                .attempt
                .take_if(|attempt| attempt.number == self.number)
        };
        if lost.is_some() {
            self.slot.settled();
        }
    }
}

async fn run<F: PoolFactory>(
    slot: Arc<PoolSlot<F>>,
    attempt: Attempt,
    loan: Loan<F::Secret>,
    rotation: Option<Arc<Rotation>>,
    span: Span,
) {
    let span = MarkedByPanic(span);
    let began = slot.clock().mono();
    let verified = verify(&slot, &loan.lease, &span.0).await;
    let verify = slot.clock().mono().saturating_duration_since(began);
    slot.context().traps.spring(slot.name(), "pool.verified");
    if verified.is_ok() {
        slot.recovered();
    }
    let outcome = match verified {
        Ok(()) if attempt.check_only => {
            let now = slot.clock().now();
            slot.lock().checked(now);
            slot.upstream()
                .tell_verified(&attempt.revision, &attempt.user);
            slot.settled();
            Ok(())
        }
        Ok(()) => {
            handover::run(
                &slot,
                loan,
                Times {
                    began,
                    verify,
                    open: Duration::ZERO,
                    warm: Duration::ZERO,
                },
                &span.0,
                rotation.as_ref(),
            )
            .await
        }
        Err(error) => Err(error),
    };
    if let Err(error) = outcome {
        telemetry::failed(&span.0, error.kind().as_str(), &error.to_string());
        let took = slot.clock().mono().saturating_duration_since(began);
        slot.context()
            .meters
            .not_handed_over(slot.name(), error.kind().as_str(), took);
        if let Some(rotation) = rotation {
            rotation.not_handed_over(slot.name(), &error);
        }
        // Before anybody hears of it.
        drop(span);
        slot.attempt_failed(&attempt, error);
    }
}

/// While old connections are open, the verification's own one counts among them. A credential is
/// not left unverified for long on that account.
pub(super) async fn leave_to_log_in<F: PoolFactory>(slot: &PoolSlot<F>) -> Option<Pass<F::Pool>> {
    let shared = slot.shared();
    let end = slot.clock().mono() + AT_THE_GATE;
    while !shared.gate.is_open() && slot.clock().mono() < end {
        if let Some(leave) = shared.gate.enter_verification(&shared.current().pool) {
            return Some(leave);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    None
}

/// A bare login and the probe, under the verify deadline.
async fn verify<F: PoolFactory>(
    slot: &Arc<PoolSlot<F>>,
    lease: &Lease<F::Secret>,
    parent: &Span,
) -> Result<(), ConnectError> {
    slot.factory().check(lease)?;
    let span = telemetry::verify(parent);
    let _leave = leave_to_log_in(slot).await;
    let task = {
        let (slot, lease) = (Arc::clone(slot), lease.clone());
        async move {
            let verified = slot.factory().verify(lease.secret()).await;
            // A role whose limit is the pool's maximum has no room for a verification beside idle
            // connections.
            let is_full = verified
                .as_ref()
                .is_err_and(|error| error.kind() == ConnectErrorKind::Overloaded);
            if is_full
                && slot
                    .factory()
                    .make_room(&slot.shared().current().pool)
                    .await
            {
                return slot.factory().verify(lease.secret()).await;
            }
            verified
        }
    };
    in_a_task(task, span, slot.context(), "the verification").await
}
