//! A limit on the rate of requests.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A token bucket: `burst` requests at once, then one in each `interval`.
#[derive(Debug)]
pub(super) struct Limit {
    burst: u32,
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The time at which the bucket is full again; `None` while it is full.
    full_at: Option<Instant>,
    /// Number of requests beyond the limit since the last one within it.
    beyond: u64,
}

impl Limit {
    pub(super) fn new(burst: u32, interval: Duration) -> Self {
        Self {
            burst,
            interval,
            state: Mutex::default(),
        }
    }

    /// Takes a request from the bucket. Returns how many were beyond the limit since the last one
    /// that was taken.
    ///
    /// # Errors
    /// The time until there is one, if the bucket is empty.
    pub(super) fn take(&self) -> Result<u64, Duration> {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = state.full_at.map_or(now, |full_at| full_at.max(now));
        let missing = begin + self.interval - now;
        let most = self.interval * self.burst;
        if missing > most {
            state.beyond = state.beyond.saturating_add(1);
            return Err(missing - most);
        }
        state.full_at = Some(begin + self.interval);
        Ok(std::mem::take(&mut state.beyond))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_followed_by_one_request_in_each_interval() {
        let limit = Limit::new(3, Duration::from_secs(2));
        for _ in 0..3 {
            assert_eq!(limit.take(), Ok(0));
        }
        assert_eq!(limit.take(), Err(Duration::from_secs(2)));
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(limit.take(), Err(Duration::from_millis(1_500)));
        tokio::time::advance(Duration::from_millis(1_500)).await;
        assert_eq!(limit.take(), Ok(2), "the ones beyond it are counted");
        assert_eq!(limit.take(), Err(Duration::from_secs(2)));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(limit.take(), Ok(1));
        for _ in 0..2 {
            assert_eq!(limit.take(), Ok(0), "it is full again, and not more");
        }
        assert!(limit.take().is_err());
    }
}
