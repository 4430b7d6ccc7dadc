//! Drains a generation in a task.

use std::sync::Arc;
use std::time::Instant;

use super::factory::PoolFactory;
use super::machine::{PoolEffect, PoolInput};
use super::slot::PoolSlot;
use super::task::TaskGuard;
use crate::error::ConnectErrorKind;
use crate::events::Event;
use crate::telemetry::{self, InSpan};

/// Drains a generation, reports it at its deadline, and returns its lease when it has drained.
pub(super) fn spawn<F: PoolFactory>(
    slot: &Arc<PoolSlot<F>>,
    generation: u64,
    since: Instant,
    deadline: Instant,
) {
    let Some((pool, cause)) = slot.lock().draining.get_mut(&generation).map(|draining| {
        let cause = std::mem::replace(&mut draining.cause, tracing::Span::none());
        (draining.pool.clone(), cause)
    }) else {
        // The pool is gone already.
        return drop(slot.feed(PoolInput::Drained { generation }, None));
    };
    let guard = TaskGuard {
        slot: Arc::clone(slot),
        // The drain can be started on another runtime.
        if_lost: PoolInput::DrainLost { generation },
    };
    // Created here, where no lock is held.
    let span = telemetry::drain(&cause, slot.name(), generation);
    drop(cause);
    tokio::spawn(async move {
        let slot = &guard.slot;
        let inside = InSpan::new(&span);
        let drained = tokio::spawn(inside.clone().run({
            let (slot, pool) = (Arc::clone(slot), pool.clone());
            async move { slot.factory().drain(pool).await }
        }));
        tokio::pin!(drained);
        let outcome = tokio::select! {
            biased;
            ended = &mut drained => Some(ended),
            () = tokio::time::sleep_until(deadline.into()) => None,
            () = slot.context.shutdown_signal.received() => None,
        };
        inside.exit_span();
        match outcome {
            Some(ended) => {
                if ended.is_err() {
                    telemetry::failed(
                        &span,
                        ConnectErrorKind::Other.as_str(),
                        "the drain panicked; see the panic message",
                    );
                }
                telemetry::ended(span);
            }
            None => {
                let is_abandoned = report_overdue(slot, generation, &pool, span);
                let _ = drained.await;
                if is_abandoned {
                    tracing::info!(
                        pool = %slot.name(), generation,
                        "connections that outlived their drain deadline have closed"
                    );
                }
            }
        }
        slot.shared.admission.end_drain(generation);
        let old = slot.lock().draining.remove(&generation);
        drop(old);
        slot.feed(PoolInput::Drained { generation }, None);
        let took = slot.since(since);
        slot.context.meters.drained(slot.name(), took);
        slot.events().send(Event::Drained {
            pool: Arc::clone(slot.name()),
            generation,
            took,
        });
        slot.notify_and_wake();
    });
}

/// Reports connections that outlive the drain deadline, and ends the span. Returns whether there
/// are any.
fn report_overdue<F: PoolFactory>(
    slot: &Arc<PoolSlot<F>>,
    generation: u64,
    pool: &F::Pool,
    span: tracing::Span,
) -> bool {
    let input = PoolInput::DrainOverdue {
        generation,
        connections: slot.factory().connections(pool),
    };
    // `DrainOverdue` has no other effect.
    let effects = slot.feed(input, None);
    let Some(PoolEffect::ReportAbandoned { connections, .. }) = effects.into_iter().next() else {
        telemetry::ended(span);
        return false;
    };
    span.in_scope(|| {
        tracing::warn!(
            pool = %slot.name(), generation, connections,
            "connections outlive the drain deadline of their generation; they stay open, \
             and its lease is kept"
        );
    });
    telemetry::abandoned(&span);
    telemetry::ended(span);
    slot.context.meters.drain_abandoned(slot.name());
    slot.events().send(Event::DrainAbandoned {
        pool: Arc::clone(slot.name()),
        generation,
        connections,
    });
    slot.notify_and_wake();
    true
}
