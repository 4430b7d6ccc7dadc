//! A trouble that lasts is said three times, then once an hour with how often it was met; that it is over is said once.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often it is said at once.
const AT_ONCE: u64 = 3;
/// How often it is said afterwards.
const THEN_EVERY: Duration = Duration::from_secs(3_600);

/// One trouble, of which the log tells. It lies in a slot: an actor's restart does not make it new.
#[derive(Debug, Default)]
pub(crate) struct Trouble(Mutex<Met>);

#[derive(Debug, Default)]
struct Met {
    times: u64,
    said: Option<Instant>,
}

impl Trouble {
    /// It was met once more. Answers how often so far, if that is to be said.
    pub(crate) fn met(&self, now: Instant) -> Option<u64> {
        let mut met = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        met.times += 1;
        let due = met.times <= AT_ONCE || met.said.is_none_or(|said| now >= said + THEN_EVERY);
        due.then(|| {
            met.said = Some(now);
            met.times
        })
    }

    /// It is over. Answers how often it was met, if it was.
    pub(crate) fn over(&self) -> Option<u64> {
        let met = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        (met.times > 0).then_some(met.times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_times_then_once_an_hour_and_its_end_once() {
        let trouble = Trouble::default();
        let start = tokio::time::Instant::now().into_std();
        let said: Vec<_> =
            (0..=1_000).filter_map(|tens| trouble.met(start + Duration::from_secs(10 * tens)).map(|times| (tens, times))).collect();
        // Every ten seconds for nearly three hours: at 0, 10, 20 s, and an hour after that, and two.
        assert_eq!(said, [(0, 1), (1, 2), (2, 3), (362, 363), (722, 723)]);
        assert_eq!(trouble.over(), Some(1_001));
        assert_eq!(trouble.over(), None);
        assert_eq!(trouble.met(start), Some(1), "a new one is said again");
    }
}
