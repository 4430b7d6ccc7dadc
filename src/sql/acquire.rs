//! The acquire loop: how a caller gets a session while generations come and go.
//!
//! A caller reads the generation *before* it connects, waits for its end while it waits for a session, and moves over at once when it comes. Only
//! the acquire is repeated, never a statement. One deadline holds for the call, however many generations pass.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{Connection, Database, Error, Executor, Pool};
use tokio::sync::futures::Notified;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::refusal::Refusal;
use crate::error::FaultKind;
use crate::lease::Sessions;
use crate::pool::{Generation, Phase, Shared};
use crate::telemetry::Wait;

/// How often a caller that may not log in looks for a session that came back.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A session, and the generation it is of.
pub(super) struct Acquired<DB: Database> {
    pub(super) session: PoolConnection<DB>,
    pub(super) generation: u64,
    pub(super) sessions: Sessions,
}

/// How often the first in the queue at the gate looks for a session that came back.
const AT_THE_DOOR: Duration = Duration::from_millis(1);

/// About how long a caller waits before it tries again to log in to a server that is full.
const ROOM_AGAIN: Duration = Duration::from_millis(200);

/// What became of one turn with one generation.
enum Turn<DB: Database> {
    Got(PoolConnection<DB>),
    /// The generation is over, or another may be served: look again.
    Next,
    Failed(Error),
}

/// Answers with a session of the generation that is served now.
pub(super) async fn acquire<DB: Database>(shared: &Arc<Shared<Pool<DB>>>) -> Result<Acquired<DB>, Error>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    let deadline = Instant::from_std(shared.clock.mono()) + shared.terms.acquire_timeout;
    let mut refusal: Option<Error> = None;
    let mut wait = Wait::default();
    let now = || shared.clock.mono();
    loop {
        let generation = shared.current();
        // Created before the phase is read: no end is missed.
        let over = std::pin::pin!(generation.end.over());
        // The ways off the happy path are boxed: every query's future would have room for them.
        let turn = match generation.end.phase() {
            // A newer one is published before an older one retires: the same number again means that the pool is gone.
            Phase::Retired if shared.current().number == generation.number => Turn::Failed(Error::PoolClosed),
            Phase::Retired => Turn::Next,
            Phase::Serving if !is_expired(shared, &generation) => serve(shared, &generation, over, deadline, &mut refusal).await,
            Phase::Serving | Phase::Refused | Phase::Vacant => {
                wait.goes_on(now);
                Box::pin(share(shared, &generation, deadline, &mut refusal)).await
            }
        };
        match turn {
            Turn::Got(session) => {
                let by = (generation.end.phase() != Phase::Refused).then_some(&generation.origin);
                wait.served(&shared.meters, &shared.name, now, by);
                let (generation, sessions) = (generation.number, generation.sessions);
                return Ok(Acquired { session, generation, sessions });
            }
            // A session that was found dead is replaced without a wait for anything of ours.
            Turn::Next if Instant::now() < deadline && generation.end.phase() == Phase::Serving => {}
            Turn::Next if Instant::now() < deadline => wait.goes_on(now),
            ended => {
                let error = if let Turn::Failed(error) = ended { error } else { refusal.unwrap_or(Error::PoolTimedOut) };
                if matches!(error, Error::PoolTimedOut) {
                    shared.meters.timed_out(&shared.name);
                }
                wait.failed(&shared.meters, &shared.name, now, || error_type(shared, &error));
                return Err(error);
            }
        }
    }
}

/// Whether open sessions of this generation may be those of a user that is gone, and would not say so.
pub(super) fn are_doomed<P>(shared: &Shared<P>, generation: &Generation<P>) -> bool {
    generation.sessions == Sessions::EndWithLease && !shared.terms.probe_tells && is_expired(shared, generation)
}

/// The word for telemetry, for what a caller is told after it has waited.
fn error_type<P>(shared: &Shared<P>, error: &Error) -> &'static str {
    let is_full = || shared.keeper().is_some_and(|keeper| keeper.fault(error).kind() == FaultKind::Overloaded);
    match error {
        Error::PoolTimedOut => "timed_out",
        Error::PoolClosed => "closed",
        Error::Database(_) if is_full() => FaultKind::Overloaded.as_str(),
        Error::Database(_) => "refused",
        _ => "other",
    }
}

fn is_expired<P>(shared: &Shared<P>, generation: &Generation<P>) -> bool {
    !generation.expiry.is_never() && generation.expiry.is_expired(shared.clock.now())
}

/// The generation is served: wait in its pool for a session, logging in where the pool opens one.
async fn serve<DB: Database>(
    shared: &Arc<Shared<Pool<DB>>>,
    generation: &Arc<Generation<Pool<DB>>>,
    mut over: Pin<&mut Notified<'_>>,
    deadline: Instant,
    refusal: &mut Option<Error>,
) -> Turn<DB>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    // Nobody logs in with a dead credential: whoever still waits at its death looks again.
    let limit = generation.expiry.mono().map_or(deadline, |death| deadline.min(death.into()));
    let unheard = Unheard { shared, generation: generation.number };
    let acquiring = async {
        if shared.gate.is_open() { generation.pool.acquire().await } else { Box::pin(through_the_gate(shared, generation)).await }
    };
    let got = tokio::select! {
        biased;
        got = acquiring => got,
        () = over.as_mut() => {
            unheard.nothing();
            return moved(shared);
        }
        () = sleep_until(limit) => {
            if limit < deadline {
                unheard.nothing();
            }
            return Turn::Next;
        }
    };
    if !matches!(got, Err(Error::PoolTimedOut)) {
        unheard.nothing();
    }
    match got {
        Ok(session) => checked(shared, generation.number, session, deadline, shared.terms.test_before_acquire, false, refusal).await,
        Err(Error::PoolTimedOut) => Turn::Failed(refusal.take().unwrap_or(Error::PoolTimedOut)),
        Err(Error::PoolClosed) if generation.end.phase() == Phase::Retired => moved(shared),
        Err(error) => match hear(shared, generation.number, &error) {
            FaultKind::Refused => {
                refusal.get_or_insert(error);
                Turn::Next
            }
            FaultKind::Overloaded => {
                refusal.get_or_insert(error);
                Box::pin(wait_for_room(shared, generation, over, deadline, refusal)).await
            }
            _ => Turn::Failed(error),
        },
    }
}

/// Held while a caller waits for a session. Dropped with the caller, it tells that an answer of the database may have gone unheard: a server may take longer to
/// refuse a log-in than its callers wait.
struct Unheard<'s, P> {
    shared: &'s Shared<P>,
    generation: u64,
}

impl<P> Unheard<'_, P> {
    /// The caller heard the answer, or had not asked.
    fn nothing(self) {
        std::mem::forget(self);
    }
}

impl<P> Drop for Unheard<'_, P> {
    fn drop(&mut self) {
        if let Some(keeper) = self.shared.keeper() {
            keeper.unheard(self.generation);
        }
    }
}

/// Old sessions are still open, or the credential is on probation: take an idle session, or wait for leave to open one.
async fn through_the_gate<DB: Database>(
    shared: &Arc<Shared<Pool<DB>>>,
    generation: &Arc<Generation<Pool<DB>>>,
) -> Result<PoolConnection<DB>, Error> {
    let turn = shared.gate.door().await;
    let pass = loop {
        if let Some(session) = generation.pool.try_acquire() {
            return Ok(session);
        }
        if let Some(pass) = shared.gate.enter(&generation.pool, shared.clock.mono()) {
            // Who had leave before may have been refused: the end of the generation is what is awaited then.
            if generation.end.phase() == Phase::Serving {
                break pass;
            }
        }
        sleep(AT_THE_DOOR).await;
    };
    drop(turn);
    // In a task of its own: a refusal is heard also when the caller has gone, and before the next one has leave.
    let (shared, generation) = (Arc::clone(shared), Arc::clone(generation));
    let log_in = tokio::spawn(async move {
        let got = generation.pool.acquire().await;
        if let Err(error) = &got {
            hear(&shared, generation.number, error);
        }
        drop(pass);
        got
    });
    match log_in.await {
        Ok(got) => got,
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Error::PoolClosed),
        },
    }
}

/// The server is full, and this driver says so at once: take a session that returns, or try to open one again after a while.
async fn wait_for_room<DB: Database>(
    shared: &Shared<Pool<DB>>,
    generation: &Generation<Pool<DB>>,
    mut over: Pin<&mut Notified<'_>>,
    deadline: Instant,
    refusal: &mut Option<Error>,
) -> Turn<DB>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    let end = Instant::now() + ROOM_AGAIN.mul_f64(0.5 + fastrand::f64());
    loop {
        if let Some(session) = generation.pool.try_acquire() {
            return checked(shared, generation.number, session, deadline, shared.terms.test_before_acquire, false, refusal).await;
        }
        let now = Instant::now();
        if now >= deadline {
            return Turn::Failed(refusal.take().unwrap_or(Error::PoolTimedOut));
        }
        if now >= end {
            return Turn::Next;
        }
        tokio::select! {
            biased;
            () = over.as_mut() => return moved(shared),
            () = sleep_until(deadline) => {}
            () = sleep(LOOK_AGAIN) => {}
        }
    }
}

fn moved<DB: Database>(shared: &Shared<Pool<DB>>) -> Turn<DB> {
    shared.note_moved();
    Turn::Next
}

/// Nobody logs in with this generation: share its live sessions until a newer one is served, the deadline comes, or nothing is to be hoped for.
async fn share<DB: Database>(
    shared: &Shared<Pool<DB>>,
    generation: &Arc<Generation<Pool<DB>>>,
    deadline: Instant,
    refusal: &mut Option<Error>,
) -> Turn<DB>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    // The sessions of a role that the issuer drops may be dead though they answer pings.
    let doubtful = generation.sessions == Sessions::EndWithLease;
    loop {
        // Created before anything is read: no ended attempt is missed.
        let attempt_ended = std::pin::pin!(shared.next_attempt_ended());
        if is_over(shared, generation) {
            return Turn::Next;
        }
        let doomed = are_doomed(shared, generation);
        if !doomed && let Some(session) = generation.pool.try_acquire() {
            let ping = shared.terms.test_before_acquire;
            match checked(shared, generation.number, session, deadline, ping, doubtful, refusal).await {
                Turn::Next => continue,
                turn => return turn,
            }
        }
        let hopeless = (doomed || generation.pool.size() == 0)
            && !shared.keeper().is_some_and(|keeper| keeper.outlook().is_before(deadline.into_std()));
        // Nothing is to be hoped for also when it has just been fulfilled.
        if hopeless && is_over(shared, generation) {
            return Turn::Next;
        }
        if hopeless || Instant::now() >= deadline {
            return Turn::Failed(refusal.take().unwrap_or_else(|| Refusal::explaining(shared, generation)));
        }
        tokio::select! {
            biased;
            () = attempt_ended => {}
            () = sleep_until(deadline) => {}
            () = sleep(LOOK_AGAIN) => {}
        }
    }
}

/// Another generation is served, or the same one with a later death; or none will be.
fn is_over<P>(shared: &Shared<P>, generation: &Arc<Generation<P>>) -> bool {
    !Arc::ptr_eq(&shared.current(), generation) || generation.end.phase() == Phase::Retired
}

/// Makes sure that a session lives, after the acquire: a ping that is cancelled inside of it would cost the session.
async fn checked<DB: Database>(
    shared: &Shared<Pool<DB>>,
    generation: u64,
    mut session: PoolConnection<DB>,
    deadline: Instant,
    ping: bool,
    probe: bool,
    refusal: &mut Option<Error>,
) -> Turn<DB>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    let statement = if probe { Some(&shared.terms.probe) } else { shared.terms.ping.as_ref() };
    if !ping && !probe {
        return Turn::Got(session);
    }
    let alive = async {
        match statement {
            Some(sql) => session.execute(&**sql).await.map(drop),
            None => session.ping().await,
        }
    };
    // A frozen server takes no longer than the call may.
    match timeout_at(deadline, alive).await {
        Ok(Ok(())) => return Turn::Got(session),
        Ok(Err(error)) => note_refusal(shared, generation, error, refusal),
        Err(_) => {}
    }
    // Not returned to the pool; its place is free.
    drop(session.detach());
    Turn::Next
}

/// A log-in that worked, and then nothing is allowed: an expired password is a refusal, too.
fn note_refusal<P>(shared: &Shared<P>, generation: u64, error: Error, refusal: &mut Option<Error>) {
    if hear(shared, generation, &error) == FaultKind::Refused {
        refusal.get_or_insert(error);
    }
}

/// What the database's answer says; that it refuses is told to the control plane, once however many hear it.
fn hear<P>(shared: &Shared<P>, generation: u64, error: &Error) -> FaultKind {
    let Some(keeper) = shared.keeper() else { return FaultKind::Other };
    let fault = keeper.fault(error);
    let kind = fault.kind();
    if kind == FaultKind::Refused {
        keeper.refused(generation, fault);
    }
    kind
}
