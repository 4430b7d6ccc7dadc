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

/// Probes one idle connection, or logs in where none is idle.
pub(super) fn spawn<F: PoolFactory>(slot: &Arc<PoolSlot<F>>, number: u64) {
    let slot = Arc::clone(slot);
    let report = move |slot: &PoolSlot<F>, result, error: Option<&ConnectError>| {
        let input = PoolInput::Probed {
            generation: number,
            result,
        };
        slot.feed(input, error);
        slot.settled();
    };
    let generation = slot.shared.current();
    let Some(lease) = slot.active_lease().filter(|_| generation.number == number) else {
        return report(&slot, ProbeResult::Unknown, None);
    };
    tokio::spawn(async move {
        let work = {
            let slot = Arc::clone(&slot);
            async move {
                let (outcome, if_rejected) = match probe_idle(&slot, &generation.pool).await {
                    Some(result) => (result, ProbeResult::Rejected),
                    // While old connections are open there may be no room for one more.
                    None if !slot.shared.admission.is_open() => {
                        return Ok((ProbeResult::Unknown, None));
                    }
                    None => {
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
        match run_in_task(work, Span::none(), &slot.context, "the probe").await {
            Ok((result, error)) => report(&slot, result, error.as_ref()),
            Err(error) => {
                tracing::debug!(pool = %slot.name(), error = %error, "a probe failed");
                report(&slot, ProbeResult::Unknown, None);
            }
        }
    });
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
