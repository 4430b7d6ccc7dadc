//! Failure log: a failure that lasts is logged three times, then once an hour for each cause, with
//! its count. Its end is logged once.

use std::time::{Duration, Instant};

use crate::lock::Mutex;

/// Number of failures that are logged at once.
const AT_ONCE: u64 = 3;
/// Time between two lines of one cause afterwards.
const THEN_EVERY: Duration = Duration::from_secs(3_600);
/// Shortest time between the line of one cause and the first line of another.
const OTHER_CAUSE_AFTER: Duration = Duration::from_secs(60);

/// Decides which occurrences of a failure that lasts are logged: the first three, then each cause
/// once an hour with the count. The library uses it for its own lines. Providers can use it, too.
///
/// ```
/// use claviger::Credentials;
/// use claviger::provider::{FailureLog, FetchRequest};
///
/// let request = FetchRequest::<Credentials>::first();
/// let log = FailureLog::default();
/// if let Some(times) = log.failed(request.now().mono(), "unreachable") {
///     println!("no new token (failed {times} times)");
/// }
/// assert_eq!(log.succeeded(), Some(1));
/// ```
#[derive(Debug, Default)]
pub struct FailureLog(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    times: u64,
    /// Causes with the time of their last line. There are as many as kinds of errors.
    logged: Vec<(String, Instant)>,
    expected: bool,
}

impl FailureLog {
    /// Counts a failure of this cause, which is an error's kind. Returns the count if it is to be
    /// logged.
    pub fn failed(&self, now: Instant, cause: &str) -> Option<u64> {
        let mut seen = self.0.lock();
        seen.times += 1;
        let of_this = seen
            .logged
            .iter()
            .find(|(logged, _)| logged == cause)
            .map(|(_, at)| *at + THEN_EVERY);
        let of_any = seen
            .logged
            .iter()
            .map(|(_, at)| *at + OTHER_CAUSE_AFTER)
            .max();
        let due = seen.times <= AT_ONCE || of_this.or(of_any).is_none_or(|due| now >= due);
        due.then(|| {
            seen.logged.retain(|(logged, _)| logged != cause);
            seen.logged.push((cause.to_owned(), now));
            seen.times
        })
    }

    /// Notes a failure that is expected once. Returns whether it is the first since the last
    /// success.
    pub(crate) fn is_first_expected(&self) -> bool {
        let mut seen = self.0.lock();
        seen.times == 0 && !std::mem::replace(&mut seen.expected, true)
    }

    /// Ends the failure. Returns how often it occurred, if it did.
    pub fn succeeded(&self) -> Option<u64> {
        let seen = std::mem::take(&mut *self.0.lock());
        (seen.times > 0).then_some(seen.times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_times_then_once_an_hour_and_its_end_once() {
        let log = FailureLog::default();
        let start = tokio::time::Instant::now().into_std();
        let logged: Vec<_> = (0..=1_000)
            .filter_map(|tens| {
                log.failed(start + Duration::from_secs(10 * tens), "down")
                    .map(|times| (tens, times))
            })
            .collect();
        // Every ten seconds for nearly three hours: logged at 0, 10 and 20 s, then an hour later
        // and two.
        assert_eq!(logged, [(0, 1), (1, 2), (2, 3), (362, 363), (722, 723)]);
        assert_eq!(log.succeeded(), Some(1_001));
        assert_eq!(log.succeeded(), None);
        assert_eq!(
            log.failed(start, "down"),
            Some(1),
            "a new one is logged again"
        );
    }

    #[test]
    fn another_cause_is_logged_within_a_minute_and_each_once_an_hour() {
        let log = FailureLog::default();
        let start = tokio::time::Instant::now().into_std();
        // Two causes in turn, every ten seconds, and meanwhile another for some minutes.
        let cause = |tens: u64| match tens {
            4..20 => "denied",
            _ if tens % 2 == 1 => "slow",
            _ => "down",
        };
        let logged: Vec<_> = (0..400)
            .filter(|&tens| {
                log.failed(start + Duration::from_secs(10 * tens), cause(tens))
                    .is_some()
            })
            .collect();
        assert_eq!(logged, [0, 1, 2, 8, 361, 362]);
    }

    #[test]
    fn a_failure_that_is_first_expected_once_is_not_counted() {
        let log = FailureLog::default();
        assert!(log.is_first_expected() && !log.is_first_expected());
        assert_eq!(log.succeeded(), None);
        assert!(
            log.is_first_expected(),
            "the next time it is expected again"
        );
        assert_eq!(
            log.failed(tokio::time::Instant::now().into_std(), "rejected"),
            Some(1)
        );
        assert!(!log.is_first_expected());
    }
}
