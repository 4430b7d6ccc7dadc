//! How long tokens and leases last, and when something is to be done about it: pure functions.

use std::time::{Duration, Instant};

use claviger::{Expiry, Timestamp};

/// A renewal that gives less than this share of what was first given has met a maximum.
const WHOLE: f64 = 0.9;
/// A renewable token is renewed when this share of its life has passed, less up to [`JITTER`].
const RENEW_AT: f64 = 2.0 / 3.0;
/// One that cannot be renewed is replaced when this share has passed, less up to [`JITTER`]: the
/// rest is for pools to move over.
const REPLACE_AT: f64 = 0.6;
const JITTER: f64 = 0.1;
/// A token in a file that nobody renews is not looked at more often than this.
const MIN_REREAD_INTERVAL: Duration = Duration::from_secs(1);
/// What is asked for with a token that has passed this share of its life has the token cared for
/// first.
const STALE_AT: f64 = 0.5;

/// One span of life that the server gave: at the beginning, or by a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lifetime {
    from: Timestamp,
    /// `None` without an end.
    span: Option<Duration>,
    /// What was given at the beginning.
    first: Option<Duration>,
}

/// What a token needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenTask {
    /// To be renewed.
    Renew,
    /// A new one in its place.
    Replace,
    /// To be looked at: whoever writes its file may have renewed it.
    Reread,
}

/// Where another token comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenOrigin {
    /// A login gives one.
    Login,
    /// Somebody else writes one to the file.
    File,
    /// There is none but this.
    Fixed,
}

impl Lifetime {
    pub(crate) fn new(from: Timestamp, span: Option<Duration>) -> Self {
        Self {
            from,
            span,
            first: span,
        }
    }

    /// After a renewal. What had an end has one, also where less than a second was given, which the
    /// server calls nothing.
    pub(crate) fn renewed(self, from: Timestamp, span: Option<Duration>) -> Self {
        Self {
            from,
            span: span.or(self.first.map(|_| Duration::ZERO)),
            first: self.first,
        }
    }

    pub(crate) fn expiry(&self) -> Expiry {
        self.span
            .map_or(Expiry::never(), |span| Expiry::after(self.from, span))
    }

    /// What was given at the beginning: what a renewal asks for.
    pub(crate) fn first(&self) -> Option<Duration> {
        self.first
    }

    /// Whether a renewal has met a maximum: 27 s given where 30 s were first is none, 26 s is.
    pub(crate) fn is_capped(&self) -> bool {
        match (self.span, self.first) {
            (Some(span), Some(first)) => span.as_secs_f64() < first.as_secs_f64() * WHOLE,
            _ => false,
        }
    }

    /// Whether half of it has passed.
    pub(crate) fn is_stale(&self, now: Timestamp) -> bool {
        self.span
            .is_some_and(|span| self.passed(now) >= span.mul_f64(STALE_AT))
    }

    /// What a token of this life needs, and when; `jitter` is between 0 and 1. `None`: nothing, or
    /// there is nothing to be had, or the clock does not reach that far.
    ///
    /// A token of one hour: renewed between 34 and 40 minutes. Its last renewal before a maximum of
    /// 32 days gives less than 54 minutes: replaced at once. One that cannot be renewed: replaced
    /// between 30 and 36 minutes; in a file, looked at then, and again after as much of what is
    /// left.
    pub(crate) fn next_task(
        &self,
        renewable: bool,
        source: TokenOrigin,
        jitter: f64,
    ) -> Option<(Instant, TokenTask)> {
        let span = self.span?;
        let from = self.from.mono();
        // The time to live is the server's word: the clock may not reach that far.
        let at =
            |share: f64| from.checked_add(span.mul_f64(share - JITTER * jitter.clamp(0.0, 1.0)));
        match (source, renewable) {
            (_, true) if !self.is_capped() => Some((at(RENEW_AT)?, TokenTask::Renew)),
            (TokenOrigin::Login, true) => Some((from, TokenTask::Replace)),
            (TokenOrigin::Login, false) => Some((at(REPLACE_AT)?, TokenTask::Replace)),
            (TokenOrigin::File, _) => Some((
                at(REPLACE_AT)?.max(from.checked_add(MIN_REREAD_INTERVAL)?),
                TokenTask::Reread,
            )),
            (TokenOrigin::Fixed, _) => None,
        }
    }

    fn passed(&self, now: Timestamp) -> Duration {
        now.mono().saturating_duration_since(self.from.mono())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn after(
        lifetime: &Lifetime,
        renewable: bool,
        source: TokenOrigin,
        jitter: f64,
    ) -> (u64, TokenTask) {
        let (at, task) = lifetime.next_task(renewable, source, jitter).unwrap();
        ((at - lifetime.from.mono()).as_secs(), task)
    }

    #[test]
    fn worked_numbers() {
        let lifetime = Lifetime::new(Timestamp::now(), Some(HOUR));
        assert_eq!(
            after(&lifetime, true, TokenOrigin::Login, 0.0),
            (2_400, TokenTask::Renew)
        );
        assert_eq!(
            after(&lifetime, true, TokenOrigin::Fixed, 1.0),
            (2_040, TokenTask::Renew)
        );
        assert_eq!(
            after(&lifetime, false, TokenOrigin::Login, 0.0),
            (2_160, TokenTask::Replace)
        );
        assert_eq!(
            after(&lifetime, false, TokenOrigin::Login, 1.0),
            (1_800, TokenTask::Replace)
        );
        assert_eq!(
            lifetime.next_task(false, TokenOrigin::Fixed, 0.0),
            None,
            "a token of somebody else's is used to its end"
        );
    }

    #[test]
    fn a_token_without_an_end_needs_nothing() {
        let lifetime = Lifetime::new(Timestamp::now(), None);
        assert_eq!(lifetime.next_task(true, TokenOrigin::Login, 0.0), None);
        assert!(
            lifetime.expiry().is_never()
                && !lifetime.is_capped()
                && !lifetime.is_stale(Timestamp::now())
        );
    }

    #[test]
    fn a_renewal_that_meets_the_maximum_is_the_last() {
        let begun = Lifetime::new(Timestamp::now(), Some(HOUR));
        let whole = begun.renewed(Timestamp::now(), Some(HOUR.mul_f64(0.9)));
        assert!(!whole.is_capped());
        assert_eq!(
            after(&whole, true, TokenOrigin::Login, 0.0).1,
            TokenTask::Renew
        );
        let capped = begun.renewed(Timestamp::now(), Some(HOUR.mul_f64(0.89)));
        assert!(capped.is_capped());
        assert_eq!(
            after(&capped, true, TokenOrigin::Login, 1.0),
            (0, TokenTask::Replace)
        );
        assert_eq!(capped.next_task(true, TokenOrigin::Fixed, 0.0), None);
        assert_eq!(capped.first(), Some(HOUR));
        assert!(
            begun
                .renewed(Timestamp::now(), None)
                .expiry()
                .is_expired(Timestamp::now()),
            "less than a second was given"
        );
    }

    #[test]
    fn a_token_in_a_file_is_looked_at_ever_sooner_and_never_in_a_loop() {
        let lifetime =
            |seconds| Lifetime::new(Timestamp::now(), Some(Duration::from_secs(seconds)));
        assert_eq!(
            after(&lifetime(3_600), false, TokenOrigin::File, 0.0),
            (2_160, TokenTask::Reread)
        );
        assert_eq!(
            after(&lifetime(3_600), true, TokenOrigin::File, 0.0),
            (2_400, TokenTask::Renew)
        );
        for seconds in [0, 1] {
            assert_eq!(
                after(&lifetime(seconds), false, TokenOrigin::File, 1.0),
                (1, TokenTask::Reread)
            );
        }
        let capped = lifetime(3_600).renewed(Timestamp::now(), Some(Duration::from_secs(100)));
        assert_eq!(
            after(&capped, true, TokenOrigin::File, 0.0),
            (60, TokenTask::Reread)
        );
    }

    #[test]
    fn a_time_to_live_beyond_the_clock_is_one_without_an_end() {
        let begun = Lifetime::new(Timestamp::now(), Some(Duration::from_secs(u64::MAX)));
        for lifetime in [begun, begun.renewed(Timestamp::now(), Some(Duration::MAX))] {
            for (renewable, source) in [
                (true, TokenOrigin::Login),
                (false, TokenOrigin::Login),
                (false, TokenOrigin::File),
                (false, TokenOrigin::Fixed),
            ] {
                assert_eq!(
                    lifetime.next_task(renewable, source, 0.0),
                    None,
                    "{renewable} {source:?}"
                );
            }
            assert!(
                lifetime.expiry().is_never()
                    && !lifetime.is_capped()
                    && !lifetime.is_stale(Timestamp::now())
            );
        }
    }

    #[test]
    fn half_a_life_is_stale() {
        let from = Timestamp::now();
        let lifetime = Lifetime::new(from, Some(Duration::from_secs(2)));
        assert!(!lifetime.is_stale(from));
        let zero = Lifetime::new(from, Some(Duration::ZERO));
        assert!(zero.is_stale(from));
    }
}
