//! The acquire loop: how a caller gets a connection while generations change.
//!
//! A caller reads the generation *before* it connects. While it waits for a connection it also
//! waits for the generation's end, and then moves to the next one at once. Only the acquire is
//! repeated, never a statement. One deadline holds for the call, however many generations pass.

use std::pin::Pin;
use std::sync::Arc;

use sqlx::pool::PoolConnection;
use sqlx::{Connection, Database, Error, Executor, Pool};
use tokio::sync::futures::Notified;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::login::{Got, login};
use super::queue::{Place, queue, share};
use super::shared_error::SharedError;
use crate::error::{ConnectError, ConnectErrorKind};
use crate::lease::OldConnections;
use crate::pool::{Generation, Phase, Shared};
use crate::telemetry::Wait;

/// A connection with the generation that it belongs to.
pub(super) struct Acquired<DB: Database> {
    pub(super) connection: PoolConnection<DB>,
    pub(super) generation: u64,
    pub(super) old_connections: OldConnections,
}

/// What became of one turn with one generation.
pub(super) enum Turn<DB: Database> {
    Got(PoolConnection<DB>),
    /// The generation is over, or another may be served: look again.
    Next,
    Failed(Error),
}

/// State that one call keeps across generations.
pub(super) struct Call {
    pub(super) deadline: Instant,
    /// First rejection of a login of its own.
    pub(super) rejection: Option<Error>,
    /// Connections from before the call that may be broken. When these are used up, a connection
    /// that fails was just opened, and its error is returned.
    maybe_broken: Option<u32>,
}

/// Returns a connection of the current generation.
pub(super) async fn acquire<DB: Database>(
    shared: &Arc<Shared<Pool<DB>>>,
) -> Result<Acquired<DB>, Error>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    let deadline = Instant::from_std(shared.clock.mono()) + shared.terms.acquire_timeout;
    let mut call = Call {
        deadline,
        rejection: None,
        maybe_broken: None,
    };
    // The caller's place in the queue, which it keeps from one generation to the next.
    let mut place: Option<Place<'_, Pool<DB>>> = None;
    let mut wait = Wait::default();
    let now = || shared.clock.mono();
    loop {
        let generation = shared.current();
        // Created before the phase is read: no end is missed.
        let over = std::pin::pin!(generation.end.over());
        // The ways off the happy path are boxed: every query's future would have room for them.
        let turn = match generation.end.phase() {
            // A newer one is published before an older one retires: the same number again means
            // that the pool is gone.
            Phase::Retired if shared.current().number == generation.number => {
                Turn::Failed(Error::PoolClosed)
            }
            Phase::Retired => Turn::Next,
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
        match turn {
            Turn::Got(connection) => {
                let by = (generation.end.phase() != Phase::Rejected).then_some(&generation.origin);
                wait.served(&shared.meters, &shared.name, now, by);
                let (generation, old_connections) = (generation.number, generation.old_connections);
                return Ok(Acquired {
                    connection,
                    generation,
                    old_connections,
                });
            }
            // A broken connection is replaced without waiting for a generation.
            Turn::Next if Instant::now() < deadline && generation.end.phase() == Phase::Serving => {
            }
            Turn::Next if Instant::now() < deadline => wait.goes_on(now),
            ended => {
                let error = match ended {
                    Turn::Failed(error) => error,
                    _ => call
                        .rejection
                        .unwrap_or_else(|| SharedError::at_the_deadline(shared)),
                };
                if matches!(error, Error::PoolTimedOut) {
                    shared.meters.timed_out(&shared.name);
                }
                wait.failed(&shared.meters, &shared.name, now, || {
                    error_type(shared, &error)
                });
                return Err(error);
            }
        }
    }
}

/// Returns whether open connections of this generation may belong to an expired user without
/// reporting it.
pub(super) fn are_doomed<P>(shared: &Shared<P>, generation: &Generation<P>) -> bool {
    generation.old_connections == OldConnections::EndWithLease
        && !shared.terms.probe_tells
        && is_expired(shared, generation)
}

/// The word for telemetry, for what a caller is told after it has waited.
fn error_type<P>(shared: &Shared<P>, error: &Error) -> &'static str {
    let is_full = || {
        shared
            .keeper()
            .is_some_and(|keeper| keeper.classify(error).kind() == ConnectErrorKind::Overloaded)
    };
    match error {
        Error::PoolTimedOut => "timed_out",
        Error::PoolClosed => "closed",
        Error::Database(_) if is_full() => ConnectErrorKind::Overloaded.as_str(),
        Error::Database(_) => "rejected",
        error => SharedError::connect_error(error)
            .map_or("other", |connect_error| connect_error.kind().as_str()),
    }
}

fn is_expired<P>(shared: &Shared<P>, generation: &Generation<P>) -> bool {
    !generation.expiry.is_never() && generation.expiry.is_expired(shared.clock.now())
}

/// Returns until when a caller waits with this generation: the deadline, or the lease's expiry,
/// because nobody logs in with expired credentials.
pub(super) fn limit<P>(generation: &Generation<P>, call: &Call) -> Instant {
    generation
        .expiry
        .mono()
        .map_or(call.deadline, |end| call.deadline.min(end.into()))
}

/// Waits in the pool of the current generation for a connection; logins are not limited.
async fn serve<DB: Database>(
    shared: &Arc<Shared<Pool<DB>>>,
    generation: &Arc<Generation<Pool<DB>>>,
    mut over: Pin<&mut Notified<'_>>,
    call: &mut Call,
) -> Turn<DB>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    let limit = limit(generation, call);
    // With an idle connection, no login is expected.
    let got = if generation.pool.num_idle() > 0 && !shared.terms.finishes_logins {
        let mut result = tokio::select! {
            biased;
            () = over.as_mut() => return moved(shared),
            got = generation.pool.acquire() => got,
            () = sleep_until(limit) => return Turn::Next,
        };
        if let Err(error) = &mut result {
            hear_login(shared, generation.number, error);
        }
        Got {
            result,
            opened: false,
        }
    } else {
        match Box::pin(login(shared, generation, over, limit)).await {
            Some(got) => got,
            None => return Turn::Next,
        }
    };
    take_in(shared, generation, got, call).await
}

/// Checks the connection that the pool returned, or classifies its error.
pub(super) async fn take_in<DB: Database>(
    shared: &Arc<Shared<Pool<DB>>>,
    generation: &Generation<Pool<DB>>,
    got: Got<DB>,
    call: &mut Call,
) -> Turn<DB>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    let error = match got.result {
        Ok(connection) => {
            let check = Check {
                probe: generation.end.is_unsettled(),
                opened: got.opened,
            };
            return checked(shared, generation, connection, call, check).await;
        }
        Err(Error::PoolTimedOut) => {
            return Turn::Failed(call.rejection.take().unwrap_or(Error::PoolTimedOut));
        }
        Err(Error::PoolClosed) if generation.end.phase() == Phase::Retired => return moved(shared),
        Err(error) => error,
    };
    match shared.keeper().map(|keeper| keeper.classify(&error).kind()) {
        Some(ConnectErrorKind::Rejected | ConnectErrorKind::Overloaded) => {
            call.rejection.get_or_insert(error);
            Turn::Next
        }
        kind => {
            verify_in_background(shared, generation.number, kind, &error);
            Turn::Failed(error)
        }
    }
}

/// Requests a verification in the background after an error that every login may get: a missing
/// right or database, or a database error of an unknown kind.
fn verify_in_background<P>(
    shared: &Shared<P>,
    generation: u64,
    kind: Option<ConnectErrorKind>,
    error: &Error,
) {
    let is_every_logins = match kind {
        Some(ConnectErrorKind::Misconfigured) => true,
        Some(ConnectErrorKind::Other) => matches!(error, Error::Database(_)),
        _ => false,
    };
    if is_every_logins && let Some(keeper) = shared.keeper() {
        keeper.unheard(generation);
    }
}

pub(super) fn moved<DB: Database>(shared: &Shared<Pool<DB>>) -> Turn<DB> {
    shared.note_moved();
    Turn::Next
}

/// How a connection is checked.
#[derive(Clone, Copy)]
pub(super) struct Check {
    /// By the probe instead of the ping.
    pub(super) probe: bool,
    /// It was opened for this call: if it fails, another login would fail in the same way.
    pub(super) opened: bool,
}

/// Pings a connection after the acquire. A ping that is cancelled inside of the acquire would cost
/// the connection.
pub(super) async fn checked<DB: Database>(
    shared: &Shared<Pool<DB>>,
    generation: &Generation<Pool<DB>>,
    mut connection: PoolConnection<DB>,
    call: &mut Call,
    Check { probe, opened }: Check,
) -> Turn<DB>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    let statement = if probe {
        Some(&shared.terms.probe)
    } else {
        shared.terms.ping.as_ref()
    };
    if !shared.terms.test_before_acquire && !probe {
        return Turn::Got(connection);
    }
    let alive = async {
        match statement {
            Some(sql) => connection.execute(&**sql).await.map(drop),
            None => connection.ping().await,
        }
    };
    // A frozen server takes no longer than the call may.
    let failed = match timeout_at(call.deadline, alive).await {
        Ok(Ok(())) => return Turn::Got(connection),
        Ok(Err(error)) => Some(error),
        Err(_) => None,
    };
    let before = generation.pool.size();
    // Not returned to the pool; its place is free.
    drop(connection.detach());
    let Some(mut error) = failed else {
        return Turn::Next;
    };
    let kind = hear(shared, generation.number, &mut error);
    if kind == ConnectErrorKind::Rejected {
        call.rejection.get_or_insert(error);
        return Turn::Next;
    }
    // The connection works and returned this error; another login would return the same.
    if kind == ConnectErrorKind::Other && matches!(error, Error::Database(_)) && !probe {
        verify_in_background(shared, generation.number, Some(kind), &error);
        return Turn::Failed(error);
    }
    // The backend may have ended it, and be about to drop the role.
    if generation.old_connections == OldConnections::EndWithLease
        && let Some(keeper) = shared.keeper()
    {
        keeper.suspect(generation.number);
    }
    // An idle connection may have broken meanwhile. When all of those are used up, another login
    // does not help.
    let maybe_broken = call.maybe_broken.get_or_insert(before);
    if (opened || *maybe_broken == 0) && !probe {
        return Turn::Failed(error);
    }
    *maybe_broken = maybe_broken.saturating_sub(1);
    Turn::Next
}

/// Classifies an error. A rejection is reported to the control plane, once for all callers. The
/// error is then replaced by one that callers share and that leads to the original.
pub(super) fn hear<P>(shared: &Shared<P>, generation: u64, error: &mut Error) -> ConnectErrorKind {
    hear_with(shared, error, |keeper, connect_error| {
        keeper.rejected(generation, connect_error)
    })
}

/// Classifies the error of a login: counts each rejected one, and notes a full server.
pub(super) fn hear_login<P>(
    shared: &Shared<P>,
    generation: u64,
    error: &mut Error,
) -> ConnectErrorKind {
    if matches!(error, Error::PoolTimedOut)
        && let Some(keeper) = shared.keeper()
    {
        keeper.unheard(generation);
    }
    hear_with(shared, error, |keeper, connect_error| {
        keeper.login_rejected(generation, connect_error)
    })
}

fn hear_with<P>(
    shared: &Shared<P>,
    error: &mut Error,
    rejected: impl FnOnce(&dyn crate::pool::Keeper, ConnectError),
) -> ConnectErrorKind {
    let Some(keeper) = shared.keeper() else {
        return ConnectErrorKind::Other;
    };
    let connect_error = keeper.classify(error);
    let kind = connect_error.kind();
    if !matches!(
        kind,
        ConnectErrorKind::Rejected | ConnectErrorKind::Overloaded
    ) {
        return kind;
    }
    let original = std::mem::replace(error, Error::PoolTimedOut);
    let connect_error = connect_error.with_source(original);
    *error = SharedError::of(&connect_error);
    if kind == ConnectErrorKind::Rejected {
        rejected(&*keeper, connect_error);
    } else {
        shared.gate.full(connect_error, shared.clock.mono());
    }
    kind
}
