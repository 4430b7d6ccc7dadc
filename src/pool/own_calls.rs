//! Warming and making room for pools with a queue of their own, by the pool's own calls.

use std::future::{Future, poll_fn};
use std::iter::from_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::timeout;

use super::factory::PoolFactory;
use crate::error::{ConnectError, ConnectErrorKind};

/// Longest wait for a connection to be returned, if all are in use.
const ROOM_WAIT: Duration = Duration::from_secs(1);

/// Opens connections concurrently until the pool has this number. Returns the number that it has.
/// A rejection takes precedence over other errors. Each login ends, so that its result is recorded.
pub(super) async fn warm<F: PoolFactory + ?Sized>(
    factory: &F,
    pool: &F::Pool,
    connections: u32,
    within: Duration,
) -> Result<u32, ConnectError> {
    // Shorter than the deadline, to report the cause.
    let within = within * 4 / 5;
    // Idle connections are kept until each call has begun to connect. Otherwise a call would take
    // one of them. Callers can use them again before the first login completes.
    let idle: Vec<_> = from_fn(|| factory.try_get(pool))
        .take(connections as usize)
        .collect();
    let missing = connections.saturating_sub(factory.connections(pool));
    let mut calls: Vec<_> = (0..missing)
        .map(|_| (Box::pin(factory.get(pool)), None))
        .collect();
    let mut poll_calls = |context: &mut Context<'_>| {
        let mut all_ended = Poll::Ready(());
        for (call, result) in &mut calls {
            if result.is_none() {
                match call.as_mut().poll(context) {
                    Poll::Ready(ended) => *result = Some(ended),
                    Poll::Pending => all_ended = Poll::Pending,
                }
            }
        }
        all_ended
    };
    let begun = poll_fn(|context| Poll::Ready(poll_calls(context))).await;
    drop(idle);
    let in_time = match begun {
        Poll::Ready(()) => true,
        Poll::Pending => timeout(within, poll_fn(&mut poll_calls)).await.is_ok(),
    };
    let errors = calls
        .iter()
        .filter_map(|(_, result)| result.as_ref()?.as_ref().err());
    let error = errors
        .filter(|error| !factory.is_timeout(error))
        .map(|error| factory.classify(error))
        .max_by_key(|error| error.kind() == ConnectErrorKind::Rejected);
    let all_opened = calls
        .iter()
        .all(|(_, result)| matches!(result, Some(Ok(_))));
    match error {
        Some(error) => Err(error),
        None if in_time && all_opened => Ok(factory.connections(pool)),
        None => Err(never_ready(within)),
    }
}

/// Returns the error of a pool that has no connection ready although the credentials work.
fn never_ready(within: Duration) -> ConnectError {
    let within = humantime::format_duration(within);
    let message = format!(
        "no connection was ready within {within}, although the login works; check the pool's \
         hooks and the server's limit"
    );
    ConnectError::new(ConnectErrorKind::Other, message)
}

/// Closes an idle connection. If all are in use, closes the next one that is returned within a
/// second. Returns whether it closed one.
pub(super) async fn make_room<F: PoolFactory + ?Sized>(factory: &F, pool: &F::Pool) -> bool {
    let taken = match factory.try_get(pool) {
        Some(taken) => taken,
        // A pool below its maximum would open a connection.
        None if factory.connections(pool) < factory.settings().max_connections => return false,
        None => match timeout(ROOM_WAIT, factory.get(pool)).await {
            Ok(Ok(taken)) => taken,
            _ => return false,
        },
    };
    factory.discard(taken.connection);
    true
}
