//! The queue of callers that may not log in at once. Either old connections are open, logins are
//! limited, the server is full, or the credentials are rejected.
//!
//! Only the callers at the front try for a connection: when one is returned, when a caller joins,
//! and from time to time. The others wait for the front, another generation or their deadline.

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::SemaphorePermit;
use tokio::sync::futures::Notified;
use tokio::time::{Instant, sleep_until};

use super::admission::{Admission, HEAD_START, Permit, QueueGuard};
use super::call::{
    Call, TryOutcome, are_expired, check_result, check_taken, retry_on_next_generation,
    wait_deadline,
};
use super::connect::open;
use super::explain::error_without_connection;
use super::factory::{Check, PoolFactory};
use super::generation::{Generation, Phase, Shared};
use super::returned::Backoff;
use crate::lease::OldConnections;

/// A caller's place in the queue, which it leaves on drop.
pub(super) struct Place<'g, P> {
    admission: &'g Admission<P>,
    front_permit: Option<SemaphorePermit<'g>>,
    _queued: QueueGuard<'g>,
}

impl<'g, P> Place<'g, P> {
    pub(super) fn join(admission: &'g Admission<P>) -> Self {
        Self {
            admission,
            front_permit: None,
            _queued: admission.join(),
        }
    }

    /// Resolves when the caller is at the front.
    async fn at_front(&mut self) {
        if self.front_permit.is_none() {
            self.front_permit = self.admission.front().await;
        }
    }
}

/// Takes an idle connection of the current generation, or waits for a permit to open one.
pub(super) async fn queue<'g, F: PoolFactory>(
    shared: &'g Arc<Shared<F>>,
    generation: &Arc<Generation<F::Pool>>,
    mut over: Pin<&mut Notified<'_>>,
    call: &mut Call<F>,
    place: &mut Option<Place<'g, F::Pool>>,
) -> TryOutcome<F> {
    let limit = wait_deadline(generation, call);
    let take = || shared.factory.try_get(&generation.pool);
    let queued = place.get_or_insert_with(|| Place::join(&shared.admission));
    let outcome = wait_at_front(shared, generation, over.as_mut(), limit, queued, take).await;
    match outcome {
        QueueOutcome::Moved => retry_on_next_generation(shared),
        QueueOutcome::Again => TryOutcome::Again,
        QueueOutcome::Taken(connection) => {
            *place = None;
            let check = generation.lifecycle.check();
            check_taken(shared, generation, connection, call, check, false).await
        }
        QueueOutcome::Permit(permit) => {
            *place = None;
            match open(shared, generation, permit, over, limit).await {
                Some(got) => check_result(shared, generation, got, call).await,
                None => TryOutcome::Again,
            }
        }
    }
}

/// Outcome of a wait in the queue.
pub(super) enum QueueOutcome<T, P> {
    /// An idle connection.
    Taken(T),
    /// A permit to open one.
    Permit(Permit<P>),
    /// The generation is over.
    Moved,
    /// The limit has passed, or the caller need not queue any more.
    Again,
}

/// Waits for the front of the queue, and there for an idle connection or a permit.
pub(super) async fn wait_at_front<'g, F: PoolFactory, T>(
    shared: &'g Arc<Shared<F>>,
    generation: &Arc<Generation<F::Pool>>,
    mut over: Pin<&mut Notified<'_>>,
    limit: Instant,
    place: &mut Place<'g, F::Pool>,
    take: impl Fn() -> Option<T>,
) -> QueueOutcome<T, F::Pool> {
    tokio::select! {
        biased;
        () = place.at_front() => {}
        () = over.as_mut() => return QueueOutcome::Moved,
        () = sleep_until(limit) => return QueueOutcome::Again,
    }
    let mut backoff = Backoff::default();
    let waits_until = Instant::now() + HEAD_START;
    loop {
        // Created before the state is read, so that no wake-up is missed.
        let woken = std::pin::pin!(shared.admission.woken());
        if is_over(shared, generation)
            || generation.lifecycle.phase() != Phase::Serving
            || generation.is_expired(&shared.clock)
            || shared.admission.is_open()
        {
            return QueueOutcome::Again;
        }
        if let Some(taken) = take() {
            return QueueOutcome::Taken(taken);
        }
        let admission = &shared.admission;
        // No login is needed while one without a caller runs for each caller in the queue.
        let may_log_in = generation.lifecycle.login_limits.logins_without_caller()
            < admission.queue_length()
            || Instant::now() >= waits_until;
        if may_log_in && let Some(permit) = admission.enter(&generation.pool, shared.clock.mono()) {
            return QueueOutcome::Permit(permit);
        }
        let again = limit.min(backoff.next());
        tokio::select! {
            biased;
            () = over.as_mut() => return QueueOutcome::Moved,
            () = woken => backoff = Backoff::default(),
            () = sleep_until(again) => if again == limit { return QueueOutcome::Again },
        }
    }
}

/// Shares the open connections of a generation that accepts no logins. Ends with a newer
/// generation, at the deadline, or when no attempt before the deadline can help.
pub(super) async fn wait_for_shared_connection<'g, F: PoolFactory>(
    shared: &'g Arc<Shared<F>>,
    generation: &Arc<Generation<F::Pool>>,
    call: &mut Call<F>,
    place: &mut Option<Place<'g, F::Pool>>,
) -> TryOutcome<F> {
    // Connections of a role that the backend drops may be unusable although pings succeed.
    let ends = generation.old_connections == OldConnections::EndWithLease;
    let check = if ends { Check::Probe } else { Check::Ping };
    let queued = place.get_or_insert_with(|| Place::join(&shared.admission));
    let mut backoff = Backoff::default();
    loop {
        // Created before the state is read, so that neither a notification nor a wake-up is missed.
        let notified = std::pin::pin!(shared.next_notification());
        let woken = std::pin::pin!(shared.admission.woken());
        if is_over(shared, generation) {
            return TryOutcome::Again;
        }
        let expired = are_expired(shared, generation);
        let is_at_front = queued.front_permit.is_some();
        if is_at_front
            && !expired
            && let Some(connection) = shared.factory.try_get(&generation.pool)
        {
            *place = None;
            return check_taken(shared, generation, connection, call, check, false).await;
        }
        let cannot_succeed = (expired || shared.factory.connections(&generation.pool) == 0)
            && !shared.next_attempt().is_before(call.deadline.into_std());
        // Check again: a new generation may have been published since the next attempt was read.
        if cannot_succeed && is_over(shared, generation) {
            return TryOutcome::Again;
        }
        if cannot_succeed || Instant::now() >= call.deadline {
            return TryOutcome::Failed(
                call.rejection
                    .take()
                    .unwrap_or_else(|| error_without_connection(shared, generation)),
            );
        }
        if is_at_front {
            tokio::select! {
                biased;
                () = notified => {}
                () = woken => backoff = Backoff::default(),
                () = sleep_until(call.deadline.min(backoff.next())) => {}
            }
        } else {
            tokio::select! {
                biased;
                () = notified => {}
                () = queued.at_front() => {}
                () = sleep_until(call.deadline) => {}
            }
        }
    }
}

/// Returns whether the generation was replaced, extended or closed.
fn is_over<F: PoolFactory>(shared: &Shared<F>, generation: &Arc<Generation<F::Pool>>) -> bool {
    let current = shared.current();
    current.number != generation.number
        || current.expiry != generation.expiry
        || generation.lifecycle.phase() >= Phase::Superseded
}
