//! The budget of law 7.

use std::time::{Duration, Instant};

/// Largest number of tokens that law 7 allows, with fractions.
pub(super) struct BucketModel {
    tokens: f64,
    at: Instant,
    /// When a verified revision refills it.
    pub(super) refill: Option<Instant>,
}

impl BucketModel {
    pub(super) fn full(at: Instant) -> Self {
        Self {
            tokens: 3.0,
            at,
            refill: None,
        }
    }

    /// Notes a verified revision, which refills the bucket after 250 ms.
    pub(super) fn earn(&mut self, now: Instant) {
        self.fill(now);
        self.refill = Some(now + Duration::from_millis(250));
    }

    pub(super) fn draw(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.tokens -= 1.0;
        self.tokens > -1e-6
    }

    fn fill(&mut self, now: Instant) {
        let refilled = self.refill.take_if(|at| *at <= now).is_some();
        let earned = now.saturating_duration_since(self.at).as_secs_f64() / 10.0;
        self.tokens = if refilled {
            3.0
        } else {
            (self.tokens + earned).min(3.0)
        };
        self.at = now;
    }
}
