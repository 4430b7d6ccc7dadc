//! The token bucket on which every failure path draws: three at once, then one per ten seconds.

use std::time::{Duration, Instant};

/// How many fetches a burst of failures may cost.
const CAPACITY: u32 = 3;
/// How long one more takes.
const REFILL: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub(crate) struct TokenBucket {
    tokens: u32,
    /// When the token that is filling began to fill.
    since: Instant,
}

impl TokenBucket {
    pub(crate) fn full(now: Instant) -> Self {
        Self { tokens: CAPACITY, since: now }
    }

    /// Takes a token if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        self.fill(now);
        if self.tokens == 0 {
            return false;
        }
        if self.tokens == CAPACITY {
            self.since = now;
        }
        self.tokens -= 1;
        true
    }

    /// When a token can be had: now or later.
    pub(crate) fn available_at(&self, now: Instant) -> Instant {
        if self.tokens > 0 { now } else { now.max(self.since + REFILL) }
    }

    /// Takes a token if another one is left behind it.
    pub(crate) fn take_spare(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.tokens > 1 && self.take(now)
    }

    /// When a token can be had that leaves another one behind: now or later.
    pub(crate) fn spare_at(&self, now: Instant) -> Instant {
        let missing = 2u32.saturating_sub(self.tokens);
        if missing == 0 { now } else { now.max(self.since + REFILL * missing) }
    }

    /// A new revision was published: earlier failures are forgotten.
    pub(crate) fn refill(&mut self) {
        self.tokens = CAPACITY;
    }

    fn fill(&mut self, now: Instant) {
        while self.tokens < CAPACITY && now.saturating_duration_since(self.since) >= REFILL {
            self.since += REFILL;
            self.tokens += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Over any span of any sequence of attempts, at most 3 + one per 10 s are granted.
        #[test]
        fn grants_at_most_three_plus_one_per_ten_seconds(steps in prop::collection::vec(0u64..15_000, 1..200)) {
            let start = tokio::time::Instant::now().into_std();
            let mut bucket = TokenBucket::full(start);
            let mut now = start;
            let mut granted: Vec<Instant> = Vec::new();
            for step in steps {
                now += Duration::from_millis(step);
                if bucket.take(now) {
                    granted.push(now);
                } else {
                    prop_assert!(bucket.available_at(now) > now);
                    prop_assert!(bucket.available_at(now) <= now + REFILL);
                }
            }
            for (i, from) in granted.iter().enumerate() {
                for (j, to) in granted.iter().enumerate().skip(i) {
                    let allowed = u64::from(CAPACITY) + (*to - *from).as_secs() / REFILL.as_secs();
                    prop_assert!((j - i + 1) as u64 <= allowed);
                }
            }
        }
    }

    #[test]
    fn a_new_revision_fills_it() {
        let now = tokio::time::Instant::now().into_std();
        let mut bucket = TokenBucket::full(now);
        while bucket.take(now) {}
        bucket.refill();
        assert!(bucket.take(now));
    }
}
