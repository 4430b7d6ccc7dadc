//! One call in the acquire loop: its state, and the check of the pool's result.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::checks::Taken;
use super::connection_guard;
use super::explain::{error_of_full_server, note_error, verify_in_background, wait_error};
use super::factory::{AcquireError, Check, PoolFactory};
use super::generation::{Generation, Phase, Shared};
use crate::error::ConnectErrorKind;
use crate::lease::OldConnections;

/// Outcome of one try with one generation.
pub(super) enum TryOutcome<F: PoolFactory> {
    Got(F::Connection),
    /// The generation is over, or another may be current: the caller tries again.
    Again,
    Failed(F::Error),
}

/// State that one call keeps across generations.
pub(super) struct Call<F: PoolFactory> {
    pub(super) deadline: Instant,
    /// First rejection of this call's own login.
    pub(super) rejection: Option<F::Error>,
    /// Time for which this call waited while credentials were rejected or expired.
    pub(super) waited: Duration,
    /// Error that explains this wait, if it left less than a quarter of `acquire_timeout`.
    pub(super) wait_error: Option<F::Error>,
    /// Number of older connections that may be broken. At zero, a connection that fails was just
    /// opened, and its error is returned.
    pub(super) maybe_broken: Option<u32>,
}

impl<F: PoolFactory> Call<F> {
    /// Notes that the call waited for a successor of this generation.
    pub(super) fn note_wait(
        &mut self,
        shared: &Shared<F>,
        generation: &Generation<F::Pool>,
        waited: Duration,
    ) {
        self.waited += waited;
        if self.waited > shared.settings.acquire_timeout.mul_f64(0.75) {
            self.wait_error = wait_error(shared, generation).or(self.wait_error.take());
        }
    }

    /// Returns the error of a call that timed out. The first of these counts: its own rejection, a
    /// full server, the error that explains its wait, the timeout.
    pub(super) fn time_out(&mut self, shared: &Shared<F>, timeout: Option<F::Error>) -> F::Error {
        self.rejection
            .take()
            .or_else(|| error_of_full_server(shared))
            .or_else(|| self.wait_error.take())
            .or(timeout)
            .unwrap_or_else(|| shared.factory.error(AcquireError::TimedOut))
    }
}

/// Result of the pool, and whether the connection was opened for this call.
pub(super) struct PoolResult<F: PoolFactory> {
    pub(super) result: Result<Taken<F::Connection>, F::Error>,
    pub(super) opened: bool,
}

/// Returns whether open connections of this generation can no longer be handed out. The server ends
/// them about now, or they may belong to an expired user without reporting it.
pub(crate) fn are_expired<F: PoolFactory>(
    shared: &Shared<F>,
    generation: &Generation<F::Pool>,
) -> bool {
    let is_probed = generation.old_connections == OldConnections::EndWithLease
        && shared.settings.probe_detects_expiry;
    !is_probed && generation.connections_until.is_expired(shared.clock.now())
}

/// Returns until when a caller waits for this generation: its deadline, or the lease's expiry if
/// that is earlier.
pub(super) fn wait_deadline<F: PoolFactory>(
    generation: &Generation<F::Pool>,
    call: &Call<F>,
) -> Instant {
    until_expiry(generation, call.deadline)
}

pub(super) fn until_expiry<P>(generation: &Generation<P>, deadline: Instant) -> Instant {
    let expiry = generation.expiry.mono();
    expiry.map_or(deadline, |end| deadline.min(end.into()))
}

/// Polls an acquire once. An idle connection is returned at once, without a timer or a waiter.
pub(super) async fn poll_once<T>(mut acquiring: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    poll_fn(|context| Poll::Ready(acquiring.as_mut().poll(context))).await
}

/// Checks the connection that the pool returned, or classifies its error.
pub(super) async fn check_result<F: PoolFactory>(
    shared: &Arc<Shared<F>>,
    generation: &Generation<F::Pool>,
    got: PoolResult<F>,
    call: &mut Call<F>,
) -> TryOutcome<F> {
    let error = match got.result {
        Ok(connection) => {
            let check = generation.lifecycle.check();
            return check_taken(shared, generation, connection, call, check, got.opened).await;
        }
        Err(error) => error,
    };
    if shared.factory.is_timeout(&error) {
        return TryOutcome::Failed(call.time_out(shared, Some(error)));
    }
    if shared.factory.is_closed(&error) && generation.lifecycle.phase() >= Phase::Superseded {
        return retry_on_next_generation(shared);
    }
    let Some(control_plane) = shared.control_plane() else {
        return TryOutcome::Failed(error);
    };
    // A login's error was wrapped already; `classify` finds the shared error in it.
    let classified = control_plane.classify(&error);
    if matches!(
        classified.kind(),
        ConnectErrorKind::Rejected | ConnectErrorKind::Overloaded
    ) {
        call.rejection.get_or_insert(error);
        return TryOutcome::Again;
    }
    verify_in_background(shared, generation.number, &classified);
    TryOutcome::Failed(error)
}

/// Counts a caller whose generation is over. It tries again with the next one.
pub(super) fn retry_on_next_generation<F: PoolFactory>(shared: &Shared<F>) -> TryOutcome<F> {
    shared.note_moved();
    TryOutcome::Again
}

/// Checks a connection after the acquire, because a check cancelled inside of it would cost the
/// connection. `opened` is true if the connection was opened for this call. If its check fails,
/// another login would fail, too.
pub(super) async fn check_taken<F: PoolFactory>(
    shared: &Arc<Shared<F>>,
    generation: &Generation<F::Pool>,
    Taken {
        connection,
        idle_for,
    }: Taken<F::Connection>,
    call: &mut Call<F>,
    check: Check,
    opened: bool,
) -> TryOutcome<F> {
    let is_probe = check == Check::Probe;
    if !is_probe && !shared.checks.is_due(idle_for, || shared.clock.mono()) {
        return TryOutcome::Got(connection);
    }
    // An idle time that the pool returns is exact, and zero for a connection that was just opened.
    let opened = opened || idle_for.is_some_and(|idle_for| idle_for.is_zero());
    // A server that hangs delays the caller until its deadline at most.
    let failed = match connection_guard::check(shared, connection, check, call.deadline).await {
        Ok(connection) => return TryOutcome::Got(connection),
        Err(error) => error,
    };
    shared.checks.found_broken(shared.clock.mono());
    let Some(error) = failed else {
        return TryOutcome::Again;
    };
    let (error, classified) = note_error(shared, error, |control_plane, rejection| {
        control_plane.rejected(generation.number, rejection);
    });
    if let Some(classified) = &classified {
        if classified.kind() == ConnectErrorKind::Rejected {
            call.rejection.get_or_insert(error);
            return TryOutcome::Again;
        }
        // The connection works and returned this error; another login would return the same.
        if classified.kind() == ConnectErrorKind::Other && classified.code().is_some() && !is_probe
        {
            verify_in_background(shared, generation.number, classified);
            return TryOutcome::Failed(error);
        }
    } else if shared.factory.classify(&error).code().is_some() {
        return TryOutcome::Failed(error);
    }
    // The backend may have ended the connection before it drops the role.
    if generation.old_connections == OldConnections::EndWithLease
        && let Some(control_plane) = shared.control_plane()
    {
        control_plane.note_unverified(generation.number);
    }
    // Idle connections may have broken. When all of them were tried, another login does not help.
    let maybe_broken = call
        .maybe_broken
        .get_or_insert_with(|| shared.factory.connections(&generation.pool) + 1);
    let ends_with_lease = generation.old_connections == OldConnections::EndWithLease;
    if *maybe_broken == 0 || (opened && !is_probe && !ends_with_lease) {
        return TryOutcome::Failed(error);
    }
    // The backend may end a new connection together with the role. That happens once.
    if opened {
        *maybe_broken = 1;
    }
    *maybe_broken = maybe_broken.saturating_sub(1);
    TryOutcome::Again
}
