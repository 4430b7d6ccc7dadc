//! The acquire loop: how a caller gets a connection while generations change.
//!
//! A caller reads the generation *before* it connects. While it waits for a connection it also
//! waits for the generation's end, and then moves to the next one at once. Only the acquire is
//! repeated, never a statement. One deadline holds for the call, however many generations pass.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::futures::Notified;
use tokio::time::{Instant, sleep_until};

use super::connect::{Got, connect};
use super::generation::{Generation, Keeper, Phase, Shared};
use super::queue::{Place, queue, share};
use super::{AcquireError, Check, PoolFactory, Taken, lent};
use crate::clock::rfc3339;
use crate::error::{ConnectError, ConnectErrorKind};
use crate::lease::OldConnections;
use crate::telemetry::Wait;

/// A connection with the generation that it belongs to.
pub(crate) struct Acquired<F: PoolFactory> {
    pub(crate) connection: F::Connection,
    pub(crate) generation: u64,
    pub(crate) old_connections: OldConnections,
}

/// Outcome of one try with one generation.
pub(super) enum Step<F: PoolFactory> {
    Got(F::Connection),
    /// The generation is over, or another may be served: try again.
    Again,
    Failed(F::Error),
}

/// State that one call keeps across generations.
pub(super) struct Call<F: PoolFactory> {
    pub(super) deadline: Instant,
    /// First rejection of a login of its own.
    pub(super) rejection: Option<F::Error>,
    /// Connections from before the call that may be broken. When these are used up, a connection
    /// that fails was just opened, and its error is returned.
    maybe_broken: Option<u32>,
}

/// Returns a connection of the current generation.
pub(crate) async fn acquire<F: PoolFactory>(
    shared: &Arc<Shared<F>>,
) -> Result<Acquired<F>, F::Error> {
    let deadline = Instant::from_std(shared.clock.mono()) + shared.settings.acquire_timeout;
    let mut call = Call {
        deadline,
        rejection: None,
        maybe_broken: None,
    };
    // The caller's place in the queue, which it keeps from one generation to the next.
    let mut place: Option<Place<'_, F::Pool>> = None;
    let mut wait = Wait::default();
    let now = || shared.clock.mono();
    loop {
        let generation = shared.current();
        // Created before the phase is read: no end is missed.
        let over = std::pin::pin!(generation.end.over());
        // The ways off the happy path are boxed: every query's future would have room for them.
        let step = match generation.end.phase() {
            // A newer one is published before an older one retires: the same number again means
            // that the pool is gone.
            Phase::Retired if shared.current().number == generation.number => {
                Step::Failed(shared.factory.error(AcquireError::Closed))
            }
            Phase::Retired => Step::Again,
            Phase::Serving if !is_expired(shared, &generation) && shared.gate.is_open() => {
                place = None;
                serve(shared, &generation, over, &mut call).await
            }
            Phase::Serving if !is_expired(shared, &generation) => {
                Box::pin(queue(shared, &generation, over, &mut call, &mut place)).await
            }
            Phase::Serving | Phase::Rejected | Phase::Vacant => {
                wait.goes_on(now);
                Box::pin(share(shared, &generation, &mut call, &mut place)).await
            }
        };
        let error = match step {
            Step::Got(connection) => {
                let by = (generation.end.phase() != Phase::Rejected).then_some(&generation.origin);
                wait.served(&shared.meters, &shared.name, now, by);
                return Ok(Acquired {
                    connection,
                    generation: generation.number,
                    old_connections: generation.old_connections,
                });
            }
            // A broken connection is replaced without waiting for a generation.
            Step::Again if Instant::now() < deadline => {
                if generation.end.phase() != Phase::Serving {
                    wait.goes_on(now);
                }
                continue;
            }
            Step::Again => call.rejection.unwrap_or_else(|| at_the_deadline(shared)),
            Step::Failed(error) => error,
        };
        if shared.factory.is_timeout(&error) {
            shared.meters.timed_out(&shared.name);
        }
        wait.failed(&shared.meters, &shared.name, now, || {
            error_type(shared, &error)
        });
        return Err(error);
    }
}

/// Returns whether open connections of this generation may belong to an expired user without
/// reporting it.
pub(crate) fn are_expired<F: PoolFactory>(
    shared: &Shared<F>,
    generation: &Generation<F::Pool>,
) -> bool {
    generation.old_connections == OldConnections::EndWithLease
        && !shared.settings.probe_tells
        && is_expired(shared, generation)
}

fn is_expired<F: PoolFactory>(shared: &Shared<F>, generation: &Generation<F::Pool>) -> bool {
    !generation.expiry.is_never() && generation.expiry.is_expired(shared.clock.now())
}

/// Returns until when a caller waits with this generation: the deadline, or the lease's expiry,
/// because nobody logs in with expired credentials.
pub(super) fn limit<F: PoolFactory>(generation: &Generation<F::Pool>, call: &Call<F>) -> Instant {
    let expiry = generation.expiry.mono();
    expiry.map_or(call.deadline, |end| call.deadline.min(end.into()))
}

/// Waits in the pool of the current generation for a connection; logins are not limited.
async fn serve<F: PoolFactory>(
    shared: &Arc<Shared<F>>,
    generation: &Arc<Generation<F::Pool>>,
    mut over: Pin<&mut Notified<'_>>,
    call: &mut Call<F>,
) -> Step<F> {
    let limit = limit(generation, call);
    // With an idle connection, no login is expected.
    let is_idle = shared.factory.idle(&generation.pool) > 0;
    let got = if is_idle && !shared.settings.finishes_logins {
        let mut acquiring = std::pin::pin!(shared.factory.get(&generation.pool));
        // An idle connection is returned at once: no timer, no waiter.
        let first = poll_fn(|context| Poll::Ready(acquiring.as_mut().poll(context))).await;
        let result = match first {
            Poll::Ready(result) => result,
            Poll::Pending => tokio::select! {
                biased;
                () = over.as_mut() => return moved(shared),
                result = acquiring => result,
                () = sleep_until(limit) => return Step::Again,
            },
        };
        let result = result.map_err(|error| note_login_error(shared, generation.number, error));
        Got {
            result,
            opened: false,
        }
    } else {
        match Box::pin(connect(shared, generation, over, limit)).await {
            Some(got) => got,
            None => return Step::Again,
        }
    };
    take_in(shared, generation, got, call).await
}

/// Checks the connection that the pool returned, or classifies its error.
pub(super) async fn take_in<F: PoolFactory>(
    shared: &Arc<Shared<F>>,
    generation: &Generation<F::Pool>,
    got: Got<F>,
    call: &mut Call<F>,
) -> Step<F> {
    let error = match got.result {
        Ok(connection) => {
            let check = if generation.end.is_unsettled() {
                Check::Probe
            } else {
                Check::Ping
            };
            return checked(shared, generation, connection, call, check, got.opened).await;
        }
        Err(error) => error,
    };
    if shared.factory.is_timeout(&error) {
        return Step::Failed(call.rejection.take().unwrap_or(error));
    }
    if shared.factory.is_closed(&error) && generation.end.phase() == Phase::Retired {
        return moved(shared);
    }
    let Some(known) = shared.classify(&error) else {
        return Step::Failed(error);
    };
    if matches!(
        known.kind(),
        ConnectErrorKind::Rejected | ConnectErrorKind::Overloaded
    ) {
        call.rejection.get_or_insert(error);
        return Step::Again;
    }
    verify_in_background(shared, generation.number, &known);
    Step::Failed(error)
}

/// Requests a verification in the background after an error that every login may get: a missing
/// right or database, or a database error of an unknown kind.
fn verify_in_background<F: PoolFactory>(shared: &Shared<F>, generation: u64, error: &ConnectError) {
    let is_every_logins = match error.kind() {
        ConnectErrorKind::Misconfigured => true,
        ConnectErrorKind::Other => error.code().is_some(),
        _ => false,
    };
    if is_every_logins && let Some(keeper) = shared.keeper() {
        keeper.unheard(generation);
    }
}

pub(super) fn moved<F: PoolFactory>(shared: &Shared<F>) -> Step<F> {
    shared.note_moved();
    Step::Again
}

/// Checks a connection after the acquire. A check that is cancelled inside of the acquire would
/// cost the connection. `opened`: for this call; if it fails, another login would fail in the same
/// way.
pub(super) async fn checked<F: PoolFactory>(
    shared: &Arc<Shared<F>>,
    generation: &Generation<F::Pool>,
    taken: Taken<F::Connection>,
    call: &mut Call<F>,
    check: Check,
    opened: bool,
) -> Step<F> {
    let is_probe = check == Check::Probe;
    let Taken {
        connection,
        idle_for,
    } = taken;
    if !is_probe && !shared.checks.is_due(idle_for, || shared.clock.mono()) {
        return Step::Got(connection);
    }
    // A frozen server takes no longer than the call may.
    let failed = match lent::check(shared, connection, check, call.deadline).await {
        Ok(connection) => return Step::Got(connection),
        Err(error) => error,
    };
    shared.checks.found_broken(shared.clock.mono());
    let Some(error) = failed else {
        return Step::Again;
    };
    let (error, known) = note_error(shared, error, |keeper, rejection| {
        keeper.rejected(generation.number, rejection);
    });
    if let Some(known) = &known {
        if known.kind() == ConnectErrorKind::Rejected {
            call.rejection.get_or_insert(error);
            return Step::Again;
        }
        // The connection works and returned this error; another login would return the same.
        if known.kind() == ConnectErrorKind::Other && known.code().is_some() && !is_probe {
            verify_in_background(shared, generation.number, known);
            return Step::Failed(error);
        }
    } else if shared.factory.classify(&error).code().is_some() {
        return Step::Failed(error);
    }
    // The backend may have ended it, and be about to drop the role.
    if generation.old_connections == OldConnections::EndWithLease
        && let Some(keeper) = shared.keeper()
    {
        keeper.suspect(generation.number);
    }
    // An idle connection may have broken meanwhile. When all of those are used up, another login
    // does not help.
    let maybe_broken = call
        .maybe_broken
        .get_or_insert_with(|| shared.factory.connections(&generation.pool) + 1);
    if (opened || *maybe_broken == 0) && !is_probe {
        return Step::Failed(error);
    }
    *maybe_broken = maybe_broken.saturating_sub(1);
    Step::Again
}

/// Reports the error of a login: counts each rejected one, and notes a full server. Returns the
/// error for the caller.
pub(super) fn note_login_error<F: PoolFactory>(
    shared: &Shared<F>,
    generation: u64,
    error: F::Error,
) -> F::Error {
    if shared.factory.is_timeout(&error)
        && let Some(keeper) = shared.keeper()
    {
        keeper.unheard(generation);
    }
    note_error(shared, error, |keeper, rejection| {
        keeper.login_rejected(generation, rejection)
    })
    .0
}

/// Classifies an error. A rejection and a full server are reported once for all callers; the error
/// is then one that callers share and that leads to the original.
fn note_error<F: PoolFactory>(
    shared: &Shared<F>,
    error: F::Error,
    rejected: impl FnOnce(&dyn Keeper, ConnectError),
) -> (F::Error, Option<ConnectError>) {
    let Some(keeper) = shared.keeper() else {
        return (error, None);
    };
    let known = keeper.classify(&error);
    let kind = known.kind();
    if !matches!(
        kind,
        ConnectErrorKind::Rejected | ConnectErrorKind::Overloaded
    ) {
        return (error, Some(known));
    }
    let known = known.with_source(error);
    if kind == ConnectErrorKind::Rejected {
        rejected(&*keeper, known.clone());
    } else {
        shared.gate.full(known.clone(), shared.clock.mono());
    }
    (
        shared.factory.error(AcquireError::Connect(&known)),
        Some(known),
    )
}

/// Returns the error for a caller whose deadline has passed: the server's own if it has no room,
/// else a time-out.
fn at_the_deadline<F: PoolFactory>(shared: &Shared<F>) -> F::Error {
    let full = shared.gate.why_full(shared.clock.mono());
    let error = full
        .as_ref()
        .map_or(AcquireError::TimedOut, AcquireError::Connect);
    shared.factory.error(error)
}

/// Returns the error for a caller of a generation that no connection can be expected of.
pub(super) fn explanation<F: PoolFactory>(
    shared: &Shared<F>,
    generation: &Generation<F::Pool>,
) -> F::Error {
    let last = shared.keeper().and_then(|keeper| keeper.last_error());
    let error = match generation.end.rejection() {
        // An error that leads to the original is preferred: the last verification was rejected,
        // too.
        Some(rejection) => last
            .filter(|last| {
                last.kind() == ConnectErrorKind::Rejected
                    && rejection.cause().is_none()
                    && last.cause().is_some()
            })
            .unwrap_or_else(|| rejection.clone()),
        None if generation.end.phase() == Phase::Vacant => match last {
            Some(last) => last,
            None => return shared.factory.error(AcquireError::TimedOut),
        },
        None => {
            let expired = generation.expiry.wall().map(rfc3339).unwrap_or_default();
            let why = last
                .map(|error| format!("; the last verification of a newer one failed: {error}"))
                .unwrap_or_default();
            ConnectError::new(
                ConnectErrorKind::Other,
                format!(
                    "the credentials of generation {} of pool {:?} expired at {expired}, and no \
                     newer ones are served yet{why}",
                    generation.number, shared.name
                ),
            )
        }
    };
    shared.factory.error(AcquireError::Connect(&error))
}

/// Returns the `error.type` of what a caller gets after it has waited.
fn error_type<F: PoolFactory>(shared: &Shared<F>, error: &F::Error) -> &'static str {
    if shared.factory.is_timeout(error) {
        "timed_out"
    } else if shared.factory.is_closed(error) {
        "closed"
    } else {
        shared.factory.classify(error).kind().as_str()
    }
}
