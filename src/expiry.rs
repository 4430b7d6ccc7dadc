//! Expiry of a credential, by either clock.

use std::time::{Duration, Instant, SystemTime};

use crate::clock::Timestamp;

/// Time at which something expires: as soon as either clock has reached it.
///
/// ```
/// use std::time::Duration;
/// use claviger::Credentials;
/// use claviger::lease::Expiry;
/// use claviger::provider::FetchRequest;
///
/// let requested = FetchRequest::<Credentials>::first().started;
/// // An RDS token is valid for 15 minutes; the credentials that signed it may expire sooner.
/// let token = Expiry::after(requested, Duration::from_secs(900));
/// let signing = Expiry::at(requested, requested.wall() + Duration::from_secs(540));
/// let lease = token.earliest(signing);
/// assert_eq!(lease.remaining(requested), Some(Duration::from_secs(540)));
/// assert!(Expiry::never().remaining(requested).is_none());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Expiry(Option<Timestamp>);

impl Expiry {
    /// Never expires: a password that works until somebody changes it.
    pub const fn never() -> Self {
        Self(None)
    }

    /// Expires `ttl` after `from`. A `ttl` beyond what the clocks can express counts as
    /// [`never`](Self::never).
    pub fn after(from: Timestamp, ttl: Duration) -> Self {
        Self(from.checked_add(ttl))
    }

    /// Expires at the wall-clock time `wall`, and as long after `from` by the monotonic clock. A
    /// time before `from` counts as `from`.
    pub fn at(from: Timestamp, wall: SystemTime) -> Self {
        Self::after(
            from,
            wall.duration_since(from.wall()).unwrap_or(Duration::ZERO),
        )
    }

    /// Returns the earlier of two expiries, clock by clock.
    pub fn earliest(self, other: Self) -> Self {
        Self(match (self.0, other.0) {
            (Some(a), Some(b)) => Some(a.earliest(b)),
            (a, b) => a.or(b),
        })
    }

    /// Returns the later of two expiries, clock by clock.
    pub(crate) fn latest(self, other: Self) -> Self {
        Self(match (self.0, other.0) {
            (Some(a), Some(b)) => Some(a.latest(b)),
            _ => None,
        })
    }

    /// Returns the expiry `margin` earlier.
    pub(crate) fn earlier_by(self, margin: Duration) -> Self {
        Self(self.0.map(|end| end.checked_sub(margin).unwrap_or(end)))
    }

    /// Returns whether it never expires.
    pub fn is_never(&self) -> bool {
        self.0.is_none()
    }

    /// Returns whether either clock has reached it.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.remaining(now) == Some(Duration::ZERO)
    }

    /// Returns the time left by the more pessimistic clock; `None` if it never expires, zero if it
    /// has passed.
    pub fn remaining(&self, now: Timestamp) -> Option<Duration> {
        let end = self.0?;
        let wall = end.wall().duration_since(now.wall()).unwrap_or_default();
        Some(wall.min(end.mono().saturating_duration_since(now.mono())))
    }

    /// Returns the wall-clock time, for people and logs.
    pub fn wall(&self) -> Option<SystemTime> {
        self.0.map(|end| end.wall())
    }

    /// Returns the monotonic instant, for timers.
    pub(crate) fn mono(&self) -> Option<Instant> {
        self.0.map(|end| end.mono())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_earliest_expiry_is_never_later_than_either(
            a in 0u64..100_000,
            b in 0u64..100_000,
            probe in 0u64..100_000,
        ) {
            let from = Timestamp::now();
            let a = Expiry::after(from, Duration::from_secs(a));
            let b = Expiry::after(from, Duration::from_secs(b));
            let both = a.earliest(b);
            let later = Expiry::after(from, Duration::from_secs(probe));
            prop_assert!(both.remaining(from) <= a.remaining(from));
            prop_assert!(both.remaining(from) <= b.remaining(from));
            prop_assert_eq!(both.earliest(later), later.earliest(both));
        }
    }

    #[test]
    fn either_clock_alone_ends_the_lifetime() {
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        let from = Timestamp::now();
        let expiry = Expiry::after(from, minute);
        let moved =
            |wall: Duration, mono: Duration| Timestamp::at(from.wall() + wall, from.mono() + mono);
        let before = minute - second;
        for (now, is_expired, remaining) in [
            (moved(before, before), false, second),
            // The machine was suspended, or its time was set.
            (moved(minute, before), true, Duration::ZERO),
            // The wall clock was set back.
            (moved(before, minute), true, Duration::ZERO),
        ] {
            assert_eq!(expiry.is_expired(now), is_expired, "{now:?}");
            assert_eq!(expiry.remaining(now), Some(remaining), "{now:?}");
        }
    }

    #[test]
    fn a_time_in_the_past_has_expired_at_once() {
        let now = Timestamp::now();
        assert!(Expiry::at(now, now.wall() - Duration::from_secs(1)).is_expired(now));
        assert!(!Expiry::never().is_expired(now));
        assert_eq!(Expiry::after(now, Duration::MAX), Expiry::never());
    }
}
