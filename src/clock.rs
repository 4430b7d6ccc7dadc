//! The two clocks, read together: wall time, which jumps, and monotonic time, which stops while the
//! machine is suspended.

#[cfg(feature = "testing")]
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

#[cfg(feature = "testing")]
use crate::lock::Mutex;

/// One instant by both clocks.
///
/// A credential expires by the wall clock ("14:15 UTC") and by the monotonic clock, which cannot be
/// set back. [`Expiry`](crate::lease::Expiry) keeps both, and the earlier one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp {
    wall: SystemTime,
    mono: Instant,
}

impl Timestamp {
    /// Reads both clocks now.
    ///
    /// A provider should use the supervisor's clock instead. Count a lifetime from
    /// [`FetchRequest::started`](crate::provider::FetchRequest::started), which was read before the
    /// request to the backend. For anything else, use
    /// [`FetchRequest::now`](crate::provider::FetchRequest::now).
    pub fn now() -> Self {
        Clock::default().now()
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn at(wall: SystemTime, mono: Instant) -> Self {
        Self { wall, mono }
    }

    /// Returns the wall clock's reading.
    pub fn wall(&self) -> SystemTime {
        self.wall
    }

    /// Returns the monotonic clock's reading.
    pub fn mono(&self) -> Instant {
        self.mono
    }

    /// Returns the time `duration` later; `None` beyond what the clocks can express.
    pub(crate) fn checked_add(self, duration: Duration) -> Option<Self> {
        Some(Self {
            wall: self.wall.checked_add(duration)?,
            mono: self.mono.checked_add(duration)?,
        })
    }

    /// Returns the time `duration` earlier; `None` beyond what the clocks can express.
    pub(crate) fn checked_sub(self, duration: Duration) -> Option<Self> {
        Some(Self {
            wall: self.wall.checked_sub(duration)?,
            mono: self.mono.checked_sub(duration)?,
        })
    }

    /// Returns the later of two times, on each clock separately.
    pub(crate) fn latest(self, other: Self) -> Self {
        Self {
            wall: self.wall.max(other.wall),
            mono: self.mono.max(other.mono),
        }
    }

    /// Returns the earlier of two times, on each clock separately.
    pub(crate) fn earliest(self, other: Self) -> Self {
        Self {
            wall: self.wall.min(other.wall),
            mono: self.mono.min(other.mono),
        }
    }

    /// Returns how much further the wall clock moved than the monotonic one since `earlier`, in
    /// either direction.
    pub(crate) fn skew_since(&self, earlier: &Timestamp) -> Duration {
        let mono = self.mono.saturating_duration_since(earlier.mono);
        match self.wall.duration_since(earlier.wall) {
            Ok(wall) => wall.abs_diff(mono),
            Err(back) => back.duration() + mono,
        }
    }
}

/// Reads the wall clock and the monotonic clock. Cheap to clone.
///
/// A supervisor and its providers read the same clock, which a test can move. The default is the
/// machine's. The monotonic part follows tokio's paused time.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    #[cfg(feature = "testing")]
    moved: Option<MovedClock>,
}

impl Clock {
    #[cfg(feature = "testing")]
    pub(crate) fn moved(moved: MovedClock) -> Self {
        Self { moved: Some(moved) }
    }

    /// Reads both clocks now.
    pub fn now(&self) -> Timestamp {
        let mono = tokio::time::Instant::now().into_std();
        #[cfg(feature = "testing")]
        if let Some(moved) = &self.moved {
            return Timestamp {
                wall: moved.wall(mono),
                mono,
            };
        }
        Timestamp {
            wall: wall_now(),
            mono,
        }
    }

    pub(crate) fn mono(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

/// A wall clock that follows the monotonic one (tokio's, so also a paused one) and jumps on
/// request.
#[cfg(feature = "testing")]
#[derive(Clone, Debug)]
pub struct MovedClock {
    base: (SystemTime, Instant),
    jumped: Arc<Mutex<i128>>,
}

#[cfg(feature = "testing")]
impl Default for MovedClock {
    fn default() -> Self {
        Self {
            base: (wall_now(), tokio::time::Instant::now().into_std()),
            jumped: Arc::default(),
        }
    }
}

#[cfg(feature = "testing")]
impl MovedClock {
    /// Returns the clock of a supervisor that uses this wall clock.
    pub fn clock(&self) -> Clock {
        Clock::moved(self.clone())
    }

    /// Moves the wall clock forward by this much at once, as after a suspend.
    pub fn jump(&self, by: Duration) {
        *self.jumped.lock() += by.as_nanos() as i128;
    }

    pub(crate) fn wall(&self, mono: Instant) -> SystemTime {
        let jumped = *self.jumped.lock();
        let shift = Duration::from_nanos(u64::try_from(jumped).unwrap_or(0));
        self.base.0 + mono.saturating_duration_since(self.base.1) + shift
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the wall clock"
)]
fn wall_now() -> SystemTime {
    SystemTime::now()
}

/// Formats a time for people and logs, as RFC 3339 in seconds. A time outside of the years 1970 to
/// 9999 is written as the nearest one inside.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(within_years(time)).to_string()
}

/// Returns the nearest time that RFC 3339 can express.
pub(crate) fn within_years(time: SystemTime) -> SystemTime {
    const LAST: Duration = Duration::from_secs(253_402_300_799);
    time.clamp(SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + LAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_time_can_be_formatted() {
        let year_10_000 = SystemTime::UNIX_EPOCH + Duration::from_secs(300_000_000_000);
        assert_eq!(rfc3339(year_10_000), "9999-12-31T23:59:59Z");
        assert_eq!(
            rfc3339(SystemTime::UNIX_EPOCH - Duration::from_secs(1)),
            "1970-01-01T00:00:00Z"
        );
    }

    #[test]
    fn skew_is_measured_in_both_directions() {
        let start = Timestamp::now();
        let step = |wall: i64, mono: u64| Timestamp {
            wall: if wall < 0 {
                start.wall - Duration::from_secs(wall.unsigned_abs())
            } else {
                start.wall + Duration::from_secs(wall.unsigned_abs())
            },
            mono: start.mono + Duration::from_secs(mono),
        };
        assert_eq!(step(10, 10).skew_since(&start), Duration::ZERO);
        assert_eq!(
            step(3_610, 10).skew_since(&start),
            Duration::from_secs(3_600)
        );
        assert_eq!(step(-50, 10).skew_since(&start), Duration::from_secs(60));
    }
}
