//! Token bucket of all fetches after failures: three at once, then one per ten seconds.

use std::time::{Duration, Instant};

/// Most fetches at once.
const CAPACITY: u32 = 3;
/// Time between two tokens.
const TOKEN_EVERY: Duration = Duration::from_secs(10);
/// Time after which a verified new revision refills the bucket, unless it is rejected before.
/// Behind a lagging server it is rejected sooner.
const EARNED_AFTER: Duration = Duration::from_millis(250);
/// Most refills in a row by new revisions, so that frequent rotations are adopted at once. The
/// number bounds the fetches from a backend that always returns new credentials while a server lags
/// by seconds.
const MAX_REFILLS: u32 = 20;
/// Time until one more refill is allowed.
const REFILL_EVERY: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub(super) struct TokenBucket {
    tokens: u32,
    /// Start of the interval after which a token is added.
    since: Instant,
    /// Number of refills that are still allowed.
    refills: u32,
    /// Start of the interval after which one more refill is allowed.
    refills_since: Instant,
    /// Time at which a new revision refills the bucket, unless it is rejected before.
    earned_at: Option<Instant>,
}

impl TokenBucket {
    pub(super) fn full(now: Instant) -> Self {
        Self {
            tokens: CAPACITY,
            since: now,
            refills: MAX_REFILLS,
            refills_since: now,
            earned_at: None,
        }
    }

    /// Takes a token if there is one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
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

    /// Returns when a token is available: now or later.
    pub(super) fn available_at(&self, now: Instant) -> Instant {
        if self.tokens > 0 {
            return now;
        }
        let earned_at = self.earned_at.filter(|_| self.refills > 0);
        let token_at = self.since + TOKEN_EVERY;
        now.max(earned_at.map_or(token_at, |at| at.min(token_at)))
    }

    /// Takes a token if at least one more is left.
    pub(super) fn take_spare(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.tokens > 1 && self.take(now)
    }

    /// Returns when a token is available and one more is left: now or later.
    pub(super) fn spare_at(&self, now: Instant) -> Instant {
        let missing = 2u32.saturating_sub(self.tokens);
        if missing == 0 {
            now
        } else {
            now.max(self.since + TOKEN_EVERY * missing)
        }
    }

    /// Notes that a new revision was verified. It refills the bucket after 250 ms: twenty times in
    /// a row, then once a minute.
    pub(super) fn earn(&mut self, now: Instant) {
        self.fill(now);
        self.earned_at = Some(now + EARNED_AFTER);
    }

    /// Notes that the new revision was rejected. It refills the bucket only if 250 ms have passed.
    pub(super) fn forfeit(&mut self, now: Instant) {
        self.fill(now);
        self.earned_at = None;
    }

    fn fill(&mut self, now: Instant) {
        if let Some(at) = self.earned_at.take_if(|at| *at <= now) {
            self.refill(at);
        }
        while self.tokens < CAPACITY && now.saturating_duration_since(self.since) >= TOKEN_EVERY {
            self.since += TOKEN_EVERY;
            self.tokens += 1;
        }
    }

    fn refill(&mut self, now: Instant) {
        while self.refills < MAX_REFILLS
            && now.saturating_duration_since(self.refills_since) >= REFILL_EVERY
        {
            self.refills_since += REFILL_EVERY;
            self.refills += 1;
        }
        if self.refills == 0 || self.tokens == CAPACITY {
            return;
        }
        if self.refills == MAX_REFILLS {
            self.refills_since = now;
        }
        self.refills -= 1;
        self.tokens = CAPACITY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// In any period, at most three tokens and one per 10 s are granted.
        #[test]
        fn grants_at_most_three_plus_one_per_ten_seconds(
            steps in prop::collection::vec(0u64..15_000, 1..200),
        ) {
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
                    prop_assert!(bucket.available_at(now) <= now + TOKEN_EVERY);
                }
            }
            for (i, from) in granted.iter().enumerate() {
                for (j, to) in granted.iter().enumerate().skip(i) {
                    let earned = (*to - *from).as_secs() / TOKEN_EVERY.as_secs();
                    let allowed = u64::from(CAPACITY) + earned;
                    prop_assert!((j - i + 1) as u64 <= allowed);
                }
            }
        }
    }

    /// Returns the fetches in a minute if each new revision is rejected `rejected_after` its
    /// verification.
    fn fetches_in_a_minute(
        bucket: &mut TokenBucket,
        start: Instant,
        rejected_after: Duration,
    ) -> usize {
        let (mut now, mut fetches) = (start, 0);
        while now < start + Duration::from_secs(60) {
            if bucket.take(now) {
                fetches += 1;
                bucket.earn(now);
                now += rejected_after;
                bucket.forfeit(now);
            } else {
                now = bucket.available_at(now);
            }
        }
        fetches
    }

    #[test]
    fn new_credentials_behind_a_lagging_server_are_fetched_nine_times_a_minute() {
        let start = tokio::time::Instant::now().into_std();
        for millis in [1, 10, 100, 249] {
            let fetches = fetches_in_a_minute(
                &mut TokenBucket::full(start),
                start,
                Duration::from_millis(millis),
            );
            assert!(
                (3..=9).contains(&fetches),
                "rejected after {millis} ms: {fetches}"
            );
        }
    }

    #[test]
    fn a_server_that_lags_by_seconds_earns_twenty_refills_and_then_one_a_minute() {
        let start = tokio::time::Instant::now().into_std();
        let mut bucket = TokenBucket::full(start);
        let fetches: Vec<_> = (0..10)
            .map(|minute| {
                fetches_in_a_minute(
                    &mut bucket,
                    start + Duration::from_secs(60 * minute),
                    Duration::from_millis(500),
                )
            })
            .collect();
        assert!((20..=30).contains(&fetches[0]), "{fetches:?}");
        assert!(
            fetches[1..].iter().all(|&fetches| fetches <= 10),
            "{fetches:?}"
        );
    }

    #[test]
    fn a_verified_revision_refills_the_bucket_unless_it_is_rejected_at_once() {
        let start = tokio::time::Instant::now().into_std();
        let mut bucket = TokenBucket::full(start);
        while bucket.take(start) {}
        bucket.earn(start);
        assert!(!bucket.take(start));
        assert_eq!(bucket.available_at(start), start + EARNED_AFTER);
        assert!(bucket.take(start + EARNED_AFTER));
        while bucket.take(start + EARNED_AFTER) {}
        bucket.earn(start + EARNED_AFTER);
        bucket.forfeit(start + EARNED_AFTER + Duration::from_millis(1));
        assert!(!bucket.take(start + 2 * EARNED_AFTER));
    }
}
