//! The token bucket on which every failure path draws: three at once, then one per ten seconds.

use std::time::{Duration, Instant};

/// How many fetches a burst of failures may cost.
const CAPACITY: u32 = 3;
/// How long one more takes.
const REFILL: Duration = Duration::from_secs(10);
/// How often in a row a new revision that was verified fills the bucket: rotations that are rolled back one after the other are followed at once. A backend that
/// mints at each fetch, behind a server that lags, would fill its own bucket for ever.
const FILLS: u32 = 40;
/// How long it takes until it may fill the bucket once more.
const FILL_AGAIN: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub(crate) struct TokenBucket {
    tokens: u32,
    /// When the token that is filling began to fill.
    since: Instant,
    /// How often a new revision may still fill it, and since when one more is on its way.
    fills: u32,
    fills_since: Instant,
}

impl TokenBucket {
    pub(crate) fn full(now: Instant) -> Self {
        Self { tokens: CAPACITY, since: now, fills: FILLS, fills_since: now }
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

    /// A new revision was verified: earlier failures are forgotten, forty times in a row and then once a minute.
    pub(crate) fn refill(&mut self, now: Instant) {
        while self.fills < FILLS && now.saturating_duration_since(self.fills_since) >= FILL_AGAIN {
            self.fills_since += FILL_AGAIN;
            self.fills += 1;
        }
        if self.fills == 0 || self.tokens == CAPACITY {
            return;
        }
        if self.fills == FILLS {
            self.fills_since = now;
        }
        self.fills -= 1;
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
    fn a_backend_that_mints_behind_a_lagging_server_is_asked_a_bounded_number_of_times() {
        let start = tokio::time::Instant::now().into_std();
        let mut bucket = TokenBucket::full(start);
        let asked = |bucket: &mut TokenBucket, seconds: std::ops::Range<u64>| {
            let tenths = seconds.start * 10..seconds.end * 10;
            tenths
                .filter(|tenth| {
                    let now = start + Duration::from_millis(tenth * 100);
                    let granted = bucket.take(now);
                    if granted {
                        bucket.refill(now);
                    }
                    granted
                })
                .count()
        };
        // The three, one per 10 s, and what the fills added once.
        let first = asked(&mut bucket, 0..60);
        assert!(first <= 3 + 6 + 40 + 2, "{first}");
        asked(&mut bucket, 60..3_600);
        let later = asked(&mut bucket, 3_600..3_660);
        assert!(later <= 9, "{later}");
    }

    #[test]
    fn a_new_revision_fills_it() {
        let now = tokio::time::Instant::now().into_std();
        let mut bucket = TokenBucket::full(now);
        while bucket.take(now) {}
        bucket.refill(now);
        assert!(bucket.take(now));
    }
}
