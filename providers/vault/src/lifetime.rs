//! Lifetimes of tokens and leases, and the next task of a token: pure functions.

use std::time::{Duration, Instant};

use claviger::lease::{Expiry, Timestamp};

/// Share of the first lifetime below which a renewal has reached a maximum.
const FULL_SHARE: f64 = 0.9;
/// Share of its lifetime after which a renewable token is renewed, less up to [`JITTER`].
const RENEW_AT: f64 = 2.0 / 3.0;
/// Share of its lifetime after which a token that cannot be renewed is replaced, less up to
/// [`JITTER`]. The rest is for handovers of the pools.
const REPLACE_AT: f64 = 0.6;
const JITTER: f64 = 0.1;
/// Shortest time between two reads of a token file whose token is not renewed.
const MIN_REREAD_INTERVAL: Duration = Duration::from_secs(1);
/// Share of its lifetime after which a token is renewed or replaced before it creates a lease.
const STALE_AT: f64 = 0.5;

/// Lifetime that the server granted, at first or by a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lifetime {
    from: Timestamp,
    /// `None` without an expiry.
    span: Option<Duration>,
    /// Lifetime that was granted at first.
    first: Option<Duration>,
}

/// Next task for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenTask {
    /// Renew it.
    Renew,
    /// Replace it by a new one.
    Replace,
    /// Request its expiry again: another process may have renewed it.
    Reread,
}

/// Origin of the next token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenOrigin {
    /// A login returns one.
    Login,
    /// Another process writes one to the file.
    File,
    /// There is no other token.
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

    /// Returns the lifetime after a renewal. A lifetime with an expiry keeps one, even if less than
    /// a second was granted, which the server reports as none.
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

    /// Returns the lifetime that was granted at first. A renewal requests the same.
    pub(crate) fn first(&self) -> Option<Duration> {
        self.first
    }

    /// Returns whether a renewal has reached a maximum: 26 s after a first lifetime of 30 s are
    /// capped, 27 s are not.
    pub(crate) fn is_capped(&self) -> bool {
        match (self.span, self.first) {
            (Some(span), Some(first)) => span.as_secs_f64() < first.as_secs_f64() * FULL_SHARE,
            _ => false,
        }
    }

    /// Returns whether half of it has passed.
    pub(crate) fn is_stale(&self, now: Timestamp) -> bool {
        self.span
            .is_some_and(|span| self.elapsed(now) >= span.mul_f64(STALE_AT))
    }

    /// Returns the next task for a token of this lifetime, and its time. `jitter` is between 0 and
    /// 1. Returns `None` if there is no task, or if its time is beyond the clock's range.
    ///
    /// A token of one hour is renewed between 34 and 40 minutes. If its last renewal before a
    /// maximum of 32 days grants less than 54 minutes, it is replaced at once. A token that cannot
    /// be renewed is replaced between 30 and 36 minutes. A token in a file is looked up then, and
    /// again after the same share of the rest.
    pub(crate) fn next_task(
        &self,
        renewable: bool,
        origin: TokenOrigin,
        jitter: f64,
    ) -> Option<(Instant, TokenTask)> {
        let span = self.span?;
        let from = self.from.mono();
        // The server's time to live may be beyond the clock's range.
        let at =
            |share: f64| from.checked_add(span.mul_f64(share - JITTER * jitter.clamp(0.0, 1.0)));
        match (origin, renewable) {
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

    fn elapsed(&self, now: Timestamp) -> Duration {
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
        origin: TokenOrigin,
        jitter: f64,
    ) -> (u64, TokenTask) {
        let (at, task) = lifetime.next_task(renewable, origin, jitter).unwrap();
        ((at - lifetime.from.mono()).as_secs(), task)
    }

    #[test]
    fn a_token_is_renewed_after_two_thirds_or_replaced_after_three_fifths_of_its_lifetime() {
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
            "a fixed token is used until it expires"
        );
    }

    #[test]
    fn a_token_without_an_expiry_has_no_task() {
        let lifetime = Lifetime::new(Timestamp::now(), None);
        assert_eq!(lifetime.next_task(true, TokenOrigin::Login, 0.0), None);
        assert!(
            lifetime.expiry().is_never()
                && !lifetime.is_capped()
                && !lifetime.is_stale(Timestamp::now())
        );
    }

    #[test]
    fn a_renewal_that_reaches_the_maximum_is_the_last() {
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
            "less than a second was granted"
        );
    }

    #[test]
    fn a_token_file_is_reread_at_intervals_that_shrink_to_one_second() {
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
    fn a_time_to_live_beyond_the_clock_has_no_expiry() {
        let begun = Lifetime::new(Timestamp::now(), Some(Duration::from_secs(u64::MAX)));
        for lifetime in [begun, begun.renewed(Timestamp::now(), Some(Duration::MAX))] {
            for (renewable, origin) in [
                (true, TokenOrigin::Login),
                (false, TokenOrigin::Login),
                (false, TokenOrigin::File),
                (false, TokenOrigin::Fixed),
            ] {
                assert_eq!(
                    lifetime.next_task(renewable, origin, 0.0),
                    None,
                    "{renewable} {origin:?}"
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
    fn half_a_lifetime_is_stale() {
        let from = Timestamp::now();
        let lifetime = Lifetime::new(from, Some(Duration::from_secs(2)));
        assert!(!lifetime.is_stale(from));
        let zero = Lifetime::new(from, Some(Duration::ZERO));
        assert!(zero.is_stale(from));
    }
}
