//! Restart budget of an actor: five times a minute, then once a minute as long as it keeps failing.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

const RESTARTS: usize = 5;
const WINDOW: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Restarts {
    recent: VecDeque<Instant>,
    /// End of the time over budget: one window after the last delayed start.
    over_until: Option<Instant>,
}

impl Restarts {
    /// Notes a failure. Returns how long to wait before the restart.
    pub(super) fn failed(&mut self, now: Instant) -> Duration {
        while self
            .recent
            .front()
            .is_some_and(|at| now.saturating_duration_since(*at) >= WINDOW)
        {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
        if self.recent.len() > RESTARTS || self.is_over(now) {
            self.over_until = Some(now + 2 * WINDOW);
            return WINDOW;
        }
        Duration::ZERO
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.over_until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_restarts_are_immediate_and_later_ones_a_minute_apart() {
        let mut now = tokio::time::Instant::now().into_std();
        let mut restarts = Restarts::default();
        for _ in 0..RESTARTS {
            assert_eq!(restarts.failed(now), Duration::ZERO);
        }
        for _ in 0..20 {
            assert_eq!(restarts.failed(now), WINDOW);
            now += WINDOW;
            assert!(restarts.is_over(now));
        }
        now += 2 * WINDOW;
        assert!(!restarts.is_over(now));
        assert_eq!(restarts.failed(now), Duration::ZERO);
    }
}
