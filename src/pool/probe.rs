//! Asking an open connection whether its role still exists: a dropped role's connections answer
//! pings.

use std::sync::Arc;

use tracing::Span;

use super::task::in_a_task;
use super::{PoolFactory, PoolSlot};
use crate::error::ConnectErrorKind;

/// Probes one idle connection, or logs in where none is idle. A rejection ends the generation as a
/// caller's would.
pub(super) fn spawn<F: PoolFactory>(slot: &Arc<PoolSlot<F>>) {
    let slot = Arc::clone(slot);
    let generation = slot.shared().current();
    let Some(lease) = slot.served_lease() else {
        return;
    };
    let seen = generation.end.suspicions();
    let is_late_enough = slot.lock().is_suspicion_old(slot.clock().mono());
    tokio::spawn(async move {
        let work = {
            let (slot, pool) = (Arc::clone(&slot), generation.pool.clone());
            async move {
                let probed = match slot.factory().probe(&pool).await {
                    Some(answer) => answer,
                    // While old connections are open there may be no room for one more.
                    None if !slot.shared().gate.is_open() => return Ok(false),
                    None => slot.factory().verify(lease.secret()).await,
                };
                probed.map(|()| true)
            }
        };
        let answer = in_a_task(work, Span::none(), slot.context(), "the probe").await;
        slot.lock().probed();
        match answer {
            Err(error) if error.kind() == ConnectErrorKind::Rejected => {
                slot.end_rejected(generation.number, error)
            }
            Err(error) => {
                tracing::debug!(pool = %slot.name(), error = %error, "a probe was not answered")
            }
            Ok(true) if is_late_enough && generation.end.settle(seen) => {}
            // The backend may end the connections before it drops the role.
            Ok(_) if generation.end.is_unsettled() => slot.lock().note_unsettled(),
            Ok(_) => {}
        }
        slot.settled();
    });
}
