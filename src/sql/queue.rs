//! The queue of callers that may not simply log in: old connections are still open, logins are limited, the server is full, or the database rejects the credentials.
//!
//! Only the first in the queue looks for a connection, when it is told of one that came back, when a caller joins, and from time to time; the others wait for nothing
//! but their turn, their deadline and news.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{Database, Executor, Pool};
use tokio::sync::SemaphorePermit;
use tokio::sync::futures::Notified;
use tokio::time::{Instant, sleep_until};

use super::acquire::{Call, Turn, are_doomed, checked, limit, moved, take_in};
use super::login::open;
use super::refusal::Refusal;
use crate::lease::Sessions;
use crate::pool::{Gate, Generation, Phase, Shared, Waiting};

/// How soon the first in the queue looks again of its own accord, for sqlx does not say when a connection comes back; doubled each time up to the longest.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
const LOOK_LONGEST: Duration = Duration::from_millis(16);

/// A caller's place in the queue; given up on drop.
pub(super) struct Place<'g, P> {
    gate: &'g Gate<P>,
    turn: Option<SemaphorePermit<'g>>,
    _waiting: Waiting<'g>,
}

impl<'g, P> Place<'g, P> {
    fn join(gate: &'g Gate<P>) -> Self {
        Self { gate, turn: None, _waiting: gate.join() }
    }

    /// Resolves when the caller is the first.
    async fn first(&mut self) {
        if self.turn.is_none() {
            self.turn = self.gate.turn().await;
        }
    }
}

/// The pauses between looks for a connection that came back.
pub(super) struct Pace(Duration);

impl Default for Pace {
    fn default() -> Self {
        Self(LOOK_AGAIN)
    }
}

impl Pace {
    pub(super) fn next(&mut self) -> Instant {
        let at = Instant::now() + self.0;
        self.0 = (self.0 * 2).min(LOOK_LONGEST);
        at
    }
}

/// The generation is served, and its connections are counted: takes an idle one, or waits for a permit to open one.
pub(super) async fn queue<'g, DB: Database>(
    shared: &'g Arc<Shared<Pool<DB>>>,
    generation: &Arc<Generation<Pool<DB>>>,
    mut over: Pin<&mut Notified<'_>>,
    call: &mut Call,
    place: &mut Option<Place<'g, Pool<DB>>>,
) -> Turn<DB>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    let limit = limit(generation, call);
    let queued = place.get_or_insert_with(|| Place::join(&shared.gate));
    tokio::select! {
        biased;
        () = queued.first() => {}
        () = over.as_mut() => return moved(shared),
        () = sleep_until(limit) => return Turn::Next,
    }
    let mut pace = Pace::default();
    loop {
        // Created before anything is looked at: no request to look is missed.
        let asked = std::pin::pin!(shared.gate.asked_to_look());
        if is_over(shared, generation) || generation.end.phase() != Phase::Serving || shared.gate.is_open() {
            return Turn::Next;
        }
        if let Some(session) = generation.pool.try_acquire() {
            *place = None;
            return checked(shared, generation, session, call, generation.end.is_unsettled()).await;
        }
        if let Some(permit) = shared.gate.enter(&generation.pool, shared.clock.mono()) {
            *place = None;
            return match open(shared, generation, permit, over, limit).await {
                Some(got) => take_in(shared, generation, got, call).await,
                None => Turn::Next,
            };
        }
        let again = limit.min(pace.next());
        tokio::select! {
            biased;
            () = over.as_mut() => return moved(shared),
            () = asked => pace = Pace::default(),
            () = sleep_until(again) => if again == limit { return Turn::Next },
        }
    }
}

/// Nobody logs in with this generation: share its live connections until a newer one is served, the deadline comes, or nothing is to be expected.
pub(super) async fn share<'g, DB: Database>(
    shared: &'g Arc<Shared<Pool<DB>>>,
    generation: &Arc<Generation<Pool<DB>>>,
    call: &mut Call,
    place: &mut Option<Place<'g, Pool<DB>>>,
) -> Turn<DB>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    // The connections of a role that the backend drops may be dead though they answer pings.
    let doubtful = generation.sessions == Sessions::EndWithLease;
    let queued = place.get_or_insert_with(|| Place::join(&shared.gate));
    let mut pace = Pace::default();
    loop {
        // Created before anything is read: no news and no request to look is missed.
        let news = std::pin::pin!(shared.next_news());
        let asked = std::pin::pin!(shared.gate.asked_to_look());
        if is_over(shared, generation) {
            return Turn::Next;
        }
        let doomed = are_doomed(shared, generation);
        let is_first = queued.turn.is_some();
        if is_first
            && !doomed
            && let Some(session) = generation.pool.try_acquire()
        {
            *place = None;
            return checked(shared, generation, session, call, doubtful).await;
        }
        let hopeless = (doomed || generation.pool.size() == 0) && !shared.outlook().is_before(call.deadline.into_std());
        // Check again: a new generation may have been published since the outlook was read.
        if hopeless && is_over(shared, generation) {
            return Turn::Next;
        }
        if hopeless || Instant::now() >= call.deadline {
            return Turn::Failed(call.refusal.take().unwrap_or_else(|| Refusal::explaining(shared, generation)));
        }
        if is_first {
            tokio::select! {
                biased;
                () = news => {}
                () = asked => pace = Pace::default(),
                () = sleep_until(call.deadline.min(pace.next())) => {}
            }
        } else {
            tokio::select! {
                biased;
                () = news => {}
                () = queued.first() => {}
                () = sleep_until(call.deadline) => {}
            }
        }
    }
}

/// Another generation is served, or the same one with a later expiry; or none will be.
fn is_over<P>(shared: &Shared<P>, generation: &Arc<Generation<P>>) -> bool {
    !Arc::ptr_eq(&shared.current(), generation) || generation.end.phase() == Phase::Retired
}
