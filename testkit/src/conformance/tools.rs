//! Functions that the checks of pools and of providers share.

use std::error::Error as StdError;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::runner::{CheckResult, WATCH, failed, panic_text};

/// Returns whether the future is pending for a while.
pub(super) async fn is_pending(work: impl Future) -> bool {
    timeout(WATCH, pin!(work)).await.is_err()
}

/// Polls the future up to `polls` times within 20 ms, and drops it. Returns whether it was still
/// pending.
pub(super) async fn drop_after_polls(polls: u32, work: impl Future) -> bool {
    let mut work = pin!(work);
    let mut left = polls;
    let polled = poll_fn(|context| {
        left = left.saturating_sub(1);
        match work.as_mut().poll(context) {
            Poll::Pending if left > 0 => Poll::Pending,
            polled => Poll::Ready(polled.is_pending()),
        }
    });
    let polled = timeout(Duration::from_millis(20), polled).await;
    polled.unwrap_or(true)
}

/// Awaits work of the subject in a task of its own. A panic fails the check, and does not end it
/// before the controls are reset.
pub(super) async fn caught<T: Send + 'static>(
    work: impl Future<Output = CheckResult<T>> + Send + 'static,
) -> CheckResult<T> {
    match tokio::spawn(work).await {
        Ok(result) => result,
        Err(error) => Err(failed("the subject does not panic", panic_text(error))),
    }
}

/// Awaits the future. Returns the longest time that one poll took, too.
pub(super) async fn longest_poll<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let mut work = pin!(work);
    let mut longest = Duration::ZERO;
    let output = poll_fn(|context| {
        let began = Instant::now();
        let polled = work.as_mut().poll(context);
        longest = longest.max(began.elapsed());
        polled
    });
    (output.await, longest)
}

/// Returns the text of an error with its causes.
pub(super) fn show(error: &(dyn StdError + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    let texts: Vec<_> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}

/// Returns everything that an error and its causes print.
pub(super) fn texts(error: &(dyn StdError + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    let texts: Vec<_> = causes.map(|error| format!("{error} {error:?}")).collect();
    texts.join(": ")
}
