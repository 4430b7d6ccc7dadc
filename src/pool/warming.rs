//! Connections that are opened ahead of demand: before a publication, and as old ones close.

use std::sync::Arc;
use std::time::Duration;

use super::admission::logins_at_once;
use super::factory::PoolFactory;
use super::generation::{ControlPlane, Phase};
use super::login_limits::LoginLimits;
use super::machine::PoolInput;
use super::slot::PoolSlot;
use super::task::retry_with_room;
use crate::error::{ConnectError, ConnectErrorKind};

/// Pause between two requests for a permit to open one more connection ahead of demand.
const TOP_UP_EVERY: Duration = Duration::from_millis(20);

/// Opens one connection alone, because its login may be rejected, and then the others in steps.
/// Only the first one needs room: if the server has no more, [`top_up`] opens the rest. Each step
/// permits one login for each connection, and no more.
pub(super) async fn open_ahead<F: PoolFactory>(
    slot: &PoolSlot<F>,
    attempt: u64,
    pool: &F::Pool,
    login_limits: &LoginLimits,
    secret: &F::Secret,
    connections: u32,
) -> Result<u32, ConnectError> {
    let within = slot.context.settings.verify_deadline;
    let began = slot.clock().mono();
    let factory = slot.factory();
    let mut open = retry_with_room(slot, secret, || {
        login_limits.permit_before_publication(1);
        factory.warm(pool, 1, within)
    })
    .await?;
    let step = logins_at_once(slot.settings().max_connections);
    while open < connections {
        let wanted = connections.min(open + step);
        let left = within.saturating_sub(slot.since(began));
        login_limits.permit_before_publication(wanted - open);
        match factory.warm(pool, wanted, left).await {
            Ok(opened) if opened > open => open = opened,
            Err(error) if error.kind() == ConnectErrorKind::Rejected => {
                // The server may have rejected all logins of this step.
                let logins = wanted - open - 1;
                slot.feed(PoolInput::MoreRejected { attempt, logins }, None);
                return Err(error);
            }
            Ok(_) | Err(_) => break,
        }
    }
    Ok(open)
}

/// Opens the remaining connections ahead of demand as old connections close, while this generation
/// is current.
pub(super) fn top_up<F: PoolFactory>(slot: &Arc<PoolSlot<F>>, number: u64, pool: F::Pool) {
    let wanted = slot.settings().warm_connections;
    if slot.factory().connections(&pool) >= wanted {
        return;
    }
    let slot = Arc::clone(slot);
    tokio::spawn(async move {
        let give_up_at = slot.clock().mono() + slot.context.settings.drain;
        loop {
            let generation = slot.shared.current();
            let open = slot.factory().connections(&pool);
            let now = slot.clock().mono();
            if generation.number != number
                || generation.lifecycle.phase() != Phase::Serving
                || generation.is_expired(&slot.shared.clock)
                || open >= wanted
                || now >= give_up_at
            {
                return;
            }
            // A pool with its own queue requests the permit itself.
            let own_queue = slot.settings().own_queue;
            let permit = (!own_queue)
                .then(|| slot.shared.admission.enter(&pool, now))
                .flatten();
            if own_queue || permit.is_some() {
                let deadline = slot.context.settings.verify_deadline;
                let warmed = slot.factory().warm(&pool, open + 1, deadline);
                match tokio::time::timeout(deadline, warmed).await {
                    Ok(Ok(opened)) if opened > open => continue,
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) if error.kind() == ConnectErrorKind::Rejected => {
                        // A pool with its own queue has reported it.
                        if !own_queue {
                            slot.login_rejected(number, error);
                        }
                        return;
                    }
                    // Callers get the same error, and report it.
                    Ok(Err(_)) | Err(_) => return,
                }
            }
            tokio::time::sleep(TOP_UP_EVERY).await;
        }
    });
}
