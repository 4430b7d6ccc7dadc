//! Checks on an open connection whether its role still exists. Pings succeed on connections of a
//! dropped role.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::Span;

use super::connection_guard;
use super::factory::{Check, PoolFactory};
use super::machine::{PoolInput, ProbeResult};
use super::slot::PoolSlot;
use super::task::run_in_task;
use crate::error::{ConnectError, ConnectErrorKind};

/// Probes this generation in a task.
pub(super) fn spawn<F: PoolFactory>(slot: &Arc<PoolSlot<F>>, generation: u64) {
    let slot = Arc::clone(slot);
    tokio::spawn(async move {
        let (result, error) = probe(&slot, generation).await;
        slot.feed(PoolInput::Probed { generation, result }, error.as_ref());
        slot.notify_and_wake();
    });
}

/// Probes one idle connection, or logs in if none is idle. Returns the result, and the error if it
/// is a rejection.
async fn probe<F: PoolFactory>(
    slot: &Arc<PoolSlot<F>>,
    number: u64,
) -> (ProbeResult, Option<ConnectError>) {
    let generation = slot.shared.current();
    let Some(lease) = slot.active_lease().filter(|_| generation.number == number) else {
        return (ProbeResult::Unknown, None);
    };
    let work = {
        let slot = Arc::clone(slot);
        async move {
            let (outcome, if_rejected) = match probe_idle(&slot, &generation.pool).await {
                Some(outcome) => (outcome, ProbeResult::Rejected),
                // While old connections are open there may be no room for one more.
                None if !slot.shared.admission.is_open() => {
                    return Ok((ProbeResult::Unknown, None));
                }
                None => {
                    let Some(_permit) = slot.permit_to_verify().await else {
                        return Ok((ProbeResult::Unknown, None));
                    };
                    let verified = slot.factory().verify(lease.secret()).await;
                    (verified, ProbeResult::LoginRejected)
                }
            };
            match outcome {
                Ok(()) => Ok((ProbeResult::Passed, None)),
                Err(error) if error.kind() == ConnectErrorKind::Rejected => {
                    Ok((if_rejected, Some(error)))
                }
                Err(error) => Err(error),
            }
        }
    };
    let outcome = run_in_task(work, Span::none(), &slot.context, "the probe").await;
    outcome.unwrap_or_else(|error| {
        tracing::debug!(pool = %slot.name(), error = %error, "a probe failed");
        (ProbeResult::Unknown, None)
    })
}

/// Probes an idle connection; `None` when there is none.
async fn probe_idle<F: PoolFactory>(
    slot: &PoolSlot<F>,
    pool: &F::Pool,
) -> Option<Result<(), ConnectError>> {
    let connection = slot.factory().try_get(pool)?.connection;
    let deadline = Instant::now() + slot.context.settings.verify_deadline;
    match connection_guard::check(&slot.shared, connection, Check::Probe, deadline).await {
        Ok(_) => Some(Ok(())),
        Err(error) => {
            let error = error?;
            let classified = slot.factory().classify_probe(&error);
            Some(Err(classified.with_source(error)))
        }
    }
}
