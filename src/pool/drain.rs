//! Old generations that are being emptied.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{PoolFactory, PoolSlot};
use crate::clock::Timestamp;
use crate::error::ConnectErrorKind;
use crate::lease::OldConnections;
use crate::provider::{Loan, schedule};
use crate::supervisor::Event;
use crate::telemetry::{self, InSpan};

/// Shortest drain, also of an expired lease. Idle connections take a moment to close.
const SHORTEST: Duration = Duration::from_secs(2);

/// A generation that is being emptied. Its lease is in use until then.
pub(crate) struct Drain<S: Send + Sync + 'static, P> {
    pub(crate) number: u64,
    pub(crate) pool: P,
    /// Dropped with the entry: the lease goes back when its last connection has.
    loan: Option<Loan<S>>,
    /// The database user of its lease.
    pub(crate) user: Option<Arc<str>>,
    since: Instant,
    deadline: Instant,
    pub(crate) abandoned: bool,
    started: bool,
    /// Span that the drain's own span follows from, until that is created.
    cause: tracing::Span,
}

impl<S: Send + Sync + 'static, P> Drain<S, P> {
    /// Returns the lease that its connections were opened with.
    pub(crate) fn lease(&self) -> Option<&crate::lease::Lease<S>> {
        self.loan.as_ref().map(|loan| &loan.lease)
    }
}

/// The drain list: it outlives a crash of the actor, which then starts what was not started.
pub(crate) struct Drains<S: Send + Sync + 'static, P>(Vec<Drain<S, P>>);

impl<S: Send + Sync + 'static, P> Default for Drains<S, P> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<S: Send + Sync + 'static, P> Drains<S, P> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Drain<S, P>> {
        self.0.iter()
    }
}

impl<S: Send + Sync + 'static, P: Clone> Drains<S, P> {
    pub(crate) fn enter(
        &mut self,
        number: u64,
        pool: P,
        of: Option<(Loan<S>, Arc<str>)>,
        patience: Duration,
        now: Timestamp,
        cause: tracing::Span,
    ) {
        let (loan, user) = of.unzip();
        let deadline = now.mono()
            + loan
                .as_ref()
                .map_or(patience, |loan| budget(loan, patience, now));
        self.0.push(Drain {
            number,
            pool,
            loan,
            user,
            since: now.mono(),
            deadline,
            abandoned: false,
            started: false,
            cause,
        });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The drains that no task works on yet.
    fn start(&mut self) -> Vec<(u64, P, Instant, Instant, tracing::Span)> {
        self.0
            .iter_mut()
            .filter(|drain| !drain.started)
            .map(|drain| {
                drain.started = true;
                (
                    drain.number,
                    drain.pool.clone(),
                    drain.since,
                    drain.deadline,
                    std::mem::replace(&mut drain.cause, tracing::Span::none()),
                )
            })
            .collect()
    }

    /// The task that worked on this drain is gone. Returns whether the drain needs another one.
    fn lost(&mut self, number: u64) -> bool {
        let drain = self.0.iter_mut().find(|drain| drain.number == number);
        drain.map(|drain| drain.started = false).is_some()
    }

    fn abandon(&mut self, number: u64) {
        if let Some(drain) = self.0.iter_mut().find(|drain| drain.number == number) {
            drain.abandoned = true;
        }
    }

    fn leave(&mut self, number: u64) -> Option<Drain<S, P>> {
        let at = self.0.iter().position(|drain| drain.number == number)?;
        Some(self.0.swap_remove(at))
    }
}

/// How long the connections of a lease may take to go: the patience of the settings; for a lease
/// that ends them, until its death less a margin.
fn budget<S: Send + Sync + 'static>(
    loan: &Loan<S>,
    patience: Duration,
    now: Timestamp,
) -> Duration {
    match (
        loan.lease.old_connections(),
        loan.lease.expiry().remaining(now),
    ) {
        (OldConnections::EndWithLease, Some(left)) => left
            .saturating_sub(schedule::drain_margin(loan.life.unwrap_or(left)))
            .max(SHORTEST),
        _ => patience,
    }
}

/// Held by the task of a drain. If its runtime ends first, the drain can be started on another one.
struct LostGuard<F: PoolFactory> {
    slot: Arc<PoolSlot<F>>,
    number: u64,
}

impl<F: PoolFactory> Drop for LostGuard<F> {
    fn drop(&mut self) {
        // Nothing is left of one that has completed.
        let is_lost = self.slot.lock().drains.lost(self.number);
        if is_lost {
            self.slot.settled();
        }
    }
}

/// Starts a task for each drain that has none.
pub(super) fn start<F: PoolFactory>(slot: &Arc<PoolSlot<F>>) {
    let waiting = slot.lock().drains.start();
    for (number, pool, since, deadline, cause) in waiting {
        // Created here, where no lock is held.
        let span = telemetry::drain(&cause, slot.name(), number);
        drop(cause);
        let slot = Arc::clone(slot);
        let guard = LostGuard {
            slot: Arc::clone(&slot),
            number,
        };
        tokio::spawn(async move {
            let _guard = guard;
            let inside = InSpan::new(&span);
            let drained = tokio::spawn(inside.clone().run({
                let (slot, pool) = (Arc::clone(&slot), pool.clone());
                async move { slot.factory().drain(pool).await }
            }));
            tokio::pin!(drained);
            let outcome = tokio::select! {
                biased;
                ended = &mut drained => Some(ended),
                () = tokio::time::sleep_until(deadline.into()) => None,
                () = slot.context().end.has_come() => None,
            };
            inside.let_go();
            if let Some(ended) = outcome {
                if ended.is_err() {
                    telemetry::failed(
                        &span,
                        ConnectErrorKind::Other.as_str(),
                        "the drain panicked; see its own output",
                    );
                }
                telemetry::ended(span);
            } else if slot.factory().connections(&pool) == 0 {
                // The last connection has closed; `drained` resolves in a moment.
                telemetry::ended(span);
                let _ = drained.await;
            } else {
                let connections = slot.factory().connections(&pool);
                span.in_scope(|| {
                    tracing::warn!(
                        pool = %slot.name(), generation = number, connections,
                        "connections of an old generation outlive its drain deadline; they are not cut, and still counted"
                    );
                });
                telemetry::abandoned(&span);
                telemetry::ended(span);
                slot.lock().drains.abandon(number);
                slot.context().meters.drain_abandoned(slot.name());
                slot.events().send(Event::DrainAbandoned {
                    pool: Arc::clone(slot.name()),
                    generation: number,
                    connections,
                });
                slot.settled();
                let _ = drained.await;
                tracing::info!(pool = %slot.name(), generation = number, "connections that outlived their drain deadline have closed");
            }
            slot.shared().gate.drained(number);
            // Dropped outside of the lock: the lease goes back with it.
            let gone = slot.lock().drains.leave(number);
            drop(gone);
            let took = slot.clock().mono().saturating_duration_since(since);
            slot.context().meters.drained(slot.name(), took);
            slot.events().send(Event::Drained {
                pool: Arc::clone(slot.name()),
                generation: number,
                took,
            });
            slot.settled();
        });
    }
}
