//! Asking an open session whether its role still exists: a dropped role's sessions answer pings.

use std::sync::Arc;

use super::{PoolFactory, PoolSlot};
use crate::error::{Fault, FaultKind};

/// Probes one idle session, or logs in where none is idle. A refusal ends the generation as a caller's would.
pub(super) fn spawn<F: PoolFactory>(slot: &Arc<PoolSlot<F>>) {
    let slot = Arc::clone(slot);
    let generation = slot.shared().current();
    let Some(lease) = slot.served_lease() else { return };
    tokio::spawn(async move {
        let deadline = slot.context().settings.prove_deadline;
        let task = tokio::spawn({
            let (slot, pool) = (Arc::clone(&slot), generation.pool.clone());
            async move {
                match slot.factory().probe(&pool).await {
                    Some(answer) => answer,
                    None => slot.factory().prove(lease.secret()).await,
                }
            }
        });
        let answer = match tokio::time::timeout(deadline, task).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(Fault::new(FaultKind::Other, "the probe panicked or hung")),
        };
        slot.lock().probed();
        match answer {
            Err(fault) if fault.kind() == FaultKind::Refused => slot.end_refused(generation.number, fault, 0),
            Err(fault) => tracing::debug!(pool = %slot.name(), error = %fault, "a probe was not answered"),
            Ok(()) => {}
        }
        slot.settled();
    });
}
