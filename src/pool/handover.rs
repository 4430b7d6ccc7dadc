//! Hands over to a verified lease: open → warm → publish → drain, or an update in place.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::Span;

use super::admission::logins_at_once;
use super::factory::PoolFactory;
use super::generation::{ControlPlane, Generation, Lifecycle, Phase};
use super::machine::{PoolEffect, PoolInput};
use super::openings::Openings;
use super::own_queue::login_permits;
use super::slot::PoolSlot;
use super::state::Draining;
use super::task::{retry_with_room, run_in_task};
use crate::error::{ConnectError, ConnectErrorKind};
use crate::events::Event;
use crate::lease::Lease;
use crate::provider::LeaseGuard;
use crate::report::{HandoverMode, HandoverReport};
use crate::rotation::Rotation;
use crate::telemetry::{self, Origin};

/// Duration of each step so far.
#[derive(Clone, Copy)]
pub(super) struct Times {
    pub(super) began: Instant,
    pub(super) verify: Duration,
    pub(super) open: Duration,
    pub(super) warm: Duration,
}

/// The handover's own span, the cause of a drain, and the origin for the spans of waiting callers.
struct Spans<'s> {
    handover: &'s Span,
    cause: Span,
    origin: Origin,
}

/// Pause between two requests for a permit to open one more connection ahead of demand.
const TOP_UP_EVERY: Duration = Duration::from_millis(20);

/// Hands over to a verified lease. An error leaves the old generation unchanged.
pub(super) async fn hand_over<F: PoolFactory>(
    slot: &Arc<PoolSlot<F>>,
    attempt: u64,
    lease_guard: LeaseGuard<F::Secret>,
    mut times: Times,
    span: &Span,
    rotation: Option<&Arc<Rotation>>,
) -> Result<(), ConnectError> {
    let revision = lease_guard.lease.revision();
    let active = slot.active_lease();
    let is_same = active.is_some_and(|active| active.revision() == revision);
    let settings = slot.settings();
    let tries_in_place = slot
        .lock()
        .machine
        .tries_in_place(revision, settings.policy);
    let try_out_began = slot.clock().mono();
    // Before the current pool gets the new options, because its callers would log in with them. The
    // verification has tried out a lease that the pool serves.
    if tries_in_place && !is_same {
        try_out(slot, &lease_guard).await?;
    }
    let open_began = slot.clock().mono();
    times.warm = open_began.saturating_duration_since(try_out_began);
    let open_span = telemetry::open(span);
    let refitted = tries_in_place.then(|| refit(slot, &lease_guard)).flatten();
    let (pool, openings) = match refitted {
        Some(pool) => (pool, None),
        None => {
            let openings = Openings::new(slot.settings().max_connections);
            let logins = login_permits(&slot.shared, Arc::clone(&openings));
            let pool = slot
                .factory()
                .open(lease_guard.lease.secret(), logins)
                .inspect_err(|error| {
                    telemetry::failed(&open_span, error.kind().as_str(), &error.to_string())
                })?;
            (pool, Some(openings))
        }
    };
    let mode = handover_mode(openings.as_ref());
    drop(open_span);
    times.open = slot.clock().mono().saturating_duration_since(open_began);
    span.record("mode", mode.as_str());

    let ahead = if mode == HandoverMode::Replace {
        let has_old = slot.shared.admission.has_old();
        let machine = &slot.lock().machine;
        machine.ahead_of_demand(has_old, settings.warm_connections, settings.overlap)
    } else {
        0
    };
    let warm_began = slot.clock().mono();
    let warmed = if ahead > 0 {
        warm(slot, attempt, &pool, lease_guard.lease.clone(), ahead, span).await
    } else if tries_in_place {
        Ok(())
    } else {
        try_out(slot, &lease_guard).await
    };
    if let Err(error) = warmed {
        discard(slot, pool, mode);
        return Err(error);
    }
    times.warm += slot.clock().mono().saturating_duration_since(warm_began);

    let origin = rotation.map_or_else(|| lease_guard.origin.clone(), |rotation| rotation.origin());
    let cause = rotation
        .map(|rotation| rotation.span())
        .filter(|root| !root.is_none())
        .unwrap_or_else(|| span.clone());
    let revision = lease_guard.lease.revision().clone();
    let Some((report, account)) = publish(
        slot,
        attempt,
        lease_guard,
        &pool,
        openings,
        times,
        Spans {
            handover: span,
            cause,
            origin,
        },
    ) else {
        discard(slot, pool, mode);
        slot.settled();
        return Ok(());
    };
    let number = report.generation;
    slot.context
        .failpoints
        .panic_if_set(slot.name(), "pool.published");
    // Not left to the actor, so that the span that the drain follows from need not stay open.
    slot.start_drains();
    slot.shared.notify_waiting();
    slot.context
        .meters
        .handed_over(slot.name(), mode.as_str(), report.took);
    slot.events().send(Event::HandedOver(report.clone()));
    tracing::debug!(pool = %slot.name(), generation = number, mode = mode.as_str(), "handed over");
    if let Some(rotation) = rotation {
        rotation.handed_over(report, &revision.digest());
    }
    // After `handed_over`: a rotation that ends with the verification includes this handover.
    slot.feed(PoolInput::Reported { attempt }, None);
    slot.upstream.verified(&revision, &account);
    if let Some(rotation) = rotation {
        slot.upstream.pool_settled(rotation);
    }
    slot.settled();
    if mode == HandoverMode::Replace {
        top_up(slot, number, pool);
    }
    Ok(())
}

/// Returns the mode of a handover. Only a pool that replaces another has its own login limits.
fn handover_mode(openings: Option<&Arc<Openings>>) -> HandoverMode {
    match openings {
        None => HandoverMode::InPlace,
        Some(_) => HandoverMode::Replace,
    }
}

/// Returns the current pool with new options, where the factory allows it.
fn refit<F: PoolFactory>(
    slot: &Arc<PoolSlot<F>>,
    lease_guard: &LeaseGuard<F::Secret>,
) -> Option<F::Pool> {
    let active = slot.active_lease()?;
    let pool = slot.shared.current().pool.clone();
    slot.factory()
        .refit(&pool, active.secret(), lease_guard.lease.secret())
        .then_some(pool)
}

/// Verifies requirements beyond a login, if no connection is opened before publication.
pub(super) async fn try_out<F: PoolFactory>(
    slot: &Arc<PoolSlot<F>>,
    lease_guard: &LeaseGuard<F::Secret>,
) -> Result<(), ConnectError> {
    let _permit = slot.permit_to_verify().await;
    let work = {
        let (slot, lease) = (Arc::clone(slot), lease_guard.lease.clone());
        let within = slot.context.settings.verify_deadline;
        async move {
            retry_with_room(&slot, lease.secret(), || {
                slot.factory().try_out(lease.secret(), within)
            })
            .await
        }
    };
    run_in_task(
        work,
        Span::none(),
        &slot.context,
        "opening a connection with the pool's hooks",
    )
    .await
}

/// Opens connections before publication.
async fn warm<F: PoolFactory>(
    slot: &Arc<PoolSlot<F>>,
    attempt: u64,
    pool: &F::Pool,
    lease: Lease<F::Secret>,
    connections: u32,
    parent: &Span,
) -> Result<(), ConnectError> {
    let span = telemetry::warm(parent);
    let work = {
        let (slot, pool, span) = (Arc::clone(slot), pool.clone(), span.clone());
        async move {
            let opened = open_ahead(&slot, attempt, &pool, lease.secret(), connections).await?;
            span.record("connections", opened);
            Ok(())
        }
    };
    run_in_task(work, span, &slot.context, "warming").await
}

/// Opens one connection alone, because its login may be rejected, and then the others in steps.
/// Only the first one needs room: if the server has no more, [`top_up`] opens the rest.
async fn open_ahead<F: PoolFactory>(
    slot: &PoolSlot<F>,
    attempt: u64,
    pool: &F::Pool,
    secret: &F::Secret,
    connections: u32,
) -> Result<u32, ConnectError> {
    let within = slot.context.settings.verify_deadline;
    let began = slot.clock().mono();
    let factory = slot.factory();
    let mut open = retry_with_room(slot, secret, || factory.warm(pool, 1, within)).await?;
    let step = logins_at_once(slot.settings().max_connections);
    while open < connections {
        let wanted = connections.min(open + step);
        let left = within.saturating_sub(slot.clock().mono().saturating_duration_since(began));
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

/// Publishes in one step under the slot's lock: callers get the new generation, and the old one
/// drains. Returns the report and the account, or nothing if the pool was retired meanwhile.
fn publish<F: PoolFactory>(
    slot: &Arc<PoolSlot<F>>,
    attempt: u64,
    lease_guard: LeaseGuard<F::Secret>,
    pool: &F::Pool,
    openings: Option<Arc<Openings>>,
    times: Times,
    Spans {
        handover,
        cause,
        origin,
    }: Spans<'_>,
) -> Option<(HandoverReport, Arc<str>)> {
    let span = telemetry::publish(handover);
    let mode = handover_mode(openings.as_ref());
    let now = slot.clock().now();
    // The factory's code runs without the lock.
    let server: Arc<str> = slot.factory().server(lease_guard.lease.secret()).into();
    let admission = &slot.shared.admission;
    let mut inner = slot.lock();
    let current = slot.shared.current();
    let opened = PoolInput::Opened {
        attempt,
        mode,
        lifetime: lease_guard.lifetime,
    };
    // In place, the lease of the current generation is returned.
    let (effects, returned) = inner.handle(&slot.shared, opened, None);
    let publication = effects.into_iter().find_map(|effect| match effect {
        PoolEffect::Publish(publication) => Some(publication),
        _ => None,
    })?;
    let active = inner.machine.current()?;
    let number = publication.generation;
    let (expiry, old_connections) = (active.lease.expiry, active.lease.old_connections);
    let account = Arc::clone(&active.lease.account);
    inner.leases.insert(number, lease_guard);
    if publication.after_rejection {
        admission.give_head_start(now.mono());
    }
    if let Some(old) = publication.replaced {
        let pool = current.pool.clone();
        admission.begin_drain(old, pool.clone());
        inner.draining.insert(old, Draining { pool, cause });
    }
    // After `begin_drain`, because the old generation's connections are to the previous server.
    admission.set_server(server, publication.limited);
    let lifecycle = match openings {
        None => current.lifecycle.successor(),
        Some(openings) => Lifecycle::new(Phase::Serving, openings),
    };
    lifecycle
        .openings
        .set_limited_until(publication.limited.map(|(_, until)| until));
    lifecycle.openings.publish();
    slot.shared.publish(Generation {
        number,
        pool: pool.clone(),
        expiry,
        old_connections,
        lifecycle: Arc::new(lifecycle),
        origin,
    });
    current.lifecycle.retire(mode == HandoverMode::InPlace);
    let report = HandoverReport {
        pool: Arc::clone(slot.name()),
        generation: number,
        mode,
        verify: times.verify,
        open: times.open,
        warm: times.warm,
        took: now.mono().saturating_duration_since(times.began),
    };
    inner.last_handover = Some(report.clone());
    drop(inner);
    span.record("generation", number);
    handover.record("generation", number);
    drop(span);
    // It locks the provider.
    drop(returned);
    Some((report, account))
}

/// Closes a pool that was opened and never published. One that was updated in place belongs to the
/// current generation.
fn discard<F: PoolFactory>(slot: &Arc<PoolSlot<F>>, pool: F::Pool, mode: HandoverMode) {
    if mode == HandoverMode::Replace {
        let slot = Arc::clone(slot);
        tokio::spawn(async move { slot.factory().drain(pool).await });
    }
}

/// Opens the remaining connections ahead of demand as old connections close, while this generation
/// is current.
fn top_up<F: PoolFactory>(slot: &Arc<PoolSlot<F>>, number: u64, pool: F::Pool) {
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
