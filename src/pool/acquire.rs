//! The acquire loop: how a caller gets a connection while generations change.
//!
//! A caller reads the generation *before* it connects. While it waits for a connection it also
//! waits for the generation's end, and then moves to the next one at once. Only the acquire is
//! repeated, never a statement. The call has one deadline, however many generations pass.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::futures::Notified;
use tokio::time::{Instant, sleep_until};

use super::call::{
    Call, PoolResult, TryOutcome, check_result, poll_once, retry_on_next_generation, wait_deadline,
};
use super::connect::connect;
use super::explain::{error_type, note_login_error};
use super::factory::{AcquireError, PoolFactory};
use super::generation::{Generation, Phase, Shared};
use super::own_queue::get_in_pool;
use super::queue::{Place, queue, wait_for_shared_connection};
use super::returned::take_next_returned;
use crate::lease::OldConnections;
use crate::telemetry::Wait;

/// A connection with the generation that it belongs to.
pub(crate) struct Acquired<F: PoolFactory> {
    pub(crate) connection: F::Connection,
    pub(crate) generation: u64,
    pub(crate) old_connections: OldConnections,
}

/// Returns a connection of the current generation.
pub(crate) async fn acquire<F: PoolFactory>(
    shared: &Arc<Shared<F>>,
) -> Result<Acquired<F>, F::Error> {
    let deadline = Instant::from_std(shared.clock.mono()) + shared.settings.acquire_timeout;
    let mut call = Call {
        deadline,
        rejection: None,
        waited: Duration::ZERO,
        wait_error: None,
        maybe_broken: None,
    };
    // The caller's place in the queue, which it keeps from one generation to the next.
    let mut place: Option<Place<'_, F::Pool>> = None;
    let mut wait = Wait::default();
    let now = || shared.clock.mono();
    loop {
        let generation = shared.current();
        // Created before the phase is read, so that no end is missed.
        let over = std::pin::pin!(generation.lifecycle.ended());
        // The rare paths are boxed, to keep the future of every query small.
        let outcome = match generation.lifecycle.phase() {
            Phase::Closed => TryOutcome::Failed(shared.factory.error(AcquireError::Closed)),
            // A newer generation was published before.
            Phase::Superseded => TryOutcome::Again,
            Phase::Serving
                if shared.settings.own_queue && !generation.is_expired(&shared.clock) =>
            {
                place = None;
                Box::pin(get_in_pool(shared, &generation, over, &mut call)).await
            }
            Phase::Serving
                if !generation.is_expired(&shared.clock) && shared.admission.is_open() =>
            {
                place = None;
                serve(shared, &generation, over, &mut call).await
            }
            Phase::Serving if !generation.is_expired(&shared.clock) => {
                Box::pin(queue(shared, &generation, over, &mut call, &mut place)).await
            }
            Phase::Serving | Phase::Rejected | Phase::Vacant => {
                wait.keep_waiting(now);
                let began = Instant::now();
                let waiting =
                    wait_for_shared_connection(shared, &generation, &mut call, &mut place);
                let outcome = Box::pin(waiting).await;
                call.note_wait(shared, &generation, began.elapsed());
                outcome
            }
        };
        let error = match outcome {
            TryOutcome::Got(connection) => {
                let origin =
                    (generation.lifecycle.phase() != Phase::Rejected).then_some(&generation.origin);
                wait.got_connection(&shared.meters, &shared.name, now, origin);
                return Ok(Acquired {
                    connection,
                    generation: generation.number,
                    old_connections: generation.old_connections,
                });
            }
            // A broken connection is replaced without waiting for a generation.
            TryOutcome::Again if Instant::now() < deadline => {
                if generation.lifecycle.phase() != Phase::Serving {
                    wait.keep_waiting(now);
                }
                continue;
            }
            TryOutcome::Again => call.time_out(shared, None),
            TryOutcome::Failed(error) => error,
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

/// Waits in the pool of the current generation for a connection; logins are not limited.
async fn serve<F: PoolFactory>(
    shared: &Arc<Shared<F>>,
    generation: &Arc<Generation<F::Pool>>,
    mut over: Pin<&mut Notified<'_>>,
    call: &mut Call<F>,
) -> TryOutcome<F> {
    let limit = wait_deadline(generation, call);
    // With an idle connection, no login is needed.
    let (factory, pool) = (&shared.factory, &generation.pool);
    let got = if factory.idle(pool) > 0 && !shared.settings.finishes_logins {
        let mut acquiring = std::pin::pin!(factory.get(pool));
        let result = match poll_once(acquiring.as_mut()).await {
            Poll::Ready(result) => result,
            Poll::Pending => tokio::select! {
                biased;
                () = over.as_mut() => return retry_on_next_generation(shared),
                result = acquiring => result,
                result = Box::pin(take_next_returned(shared, generation)) => result,
                () = sleep_until(limit) => return TryOutcome::Again,
            },
        };
        let result = result.map_err(|error| note_login_error(shared, generation.number, error));
        PoolResult {
            result,
            opened: false,
        }
    } else {
        match Box::pin(connect(shared, generation, over, limit)).await {
            Some(got) => got,
            None => return TryOutcome::Again,
        }
    };
    check_result(shared, generation, got, call).await
}
