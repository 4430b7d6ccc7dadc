//! Time of the next fetch, by the announced rotation.

use std::time::{Duration, SystemTime};

/// Time after the announced date by which a rotation is over. AWS rotates on or before that date,
/// and the four steps take about a minute.
const MARGIN: Duration = Duration::from_secs(300);
/// Time over which the fetches of services that share a secret are spread.
const SPREAD: Duration = Duration::from_secs(60);

/// Returns the time after `now` at which a secret that is rotated by `next_rotation` is fetched
/// again. Returns `None` without a rotation, and if it is overdue: the supervisor polls instead.
/// `jitter` is between 0 and 1.
///
/// A rotation announced for 14:00 causes a fetch between 14:05 and 14:06.
pub(crate) fn refresh_after(
    next_rotation: Option<SystemTime>,
    now: SystemTime,
    jitter: f64,
) -> Option<Duration> {
    let over = next_rotation?.checked_add(MARGIN + SPREAD.mul_f64(jitter.clamp(0.0, 1.0)))?;
    over.duration_since(now)
        .ok()
        .filter(|after| !after.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;
    use claviger::lease::Timestamp;

    #[test]
    fn the_secret_is_fetched_five_to_six_minutes_after_the_announced_rotation() {
        let now = Timestamp::now().wall();
        let hour = Duration::from_secs(3_600);
        assert_eq!(
            refresh_after(Some(now + hour), now, 0.0),
            Some(hour + MARGIN)
        );
        assert_eq!(
            refresh_after(Some(now + hour), now, 1.0),
            Some(hour + MARGIN + SPREAD)
        );
        assert_eq!(
            refresh_after(None, now, 0.5),
            None,
            "no rotation is configured"
        );
    }

    #[test]
    fn an_overdue_rotation_has_no_time_of_a_next_fetch() {
        let now = Timestamp::now().wall();
        assert_eq!(refresh_after(Some(now - MARGIN), now, 0.0), None);
        assert_eq!(
            refresh_after(Some(now - Duration::from_secs(299)), now, 0.0),
            Some(Duration::from_secs(1))
        );
        assert_eq!(
            refresh_after(Some(now - Duration::from_secs(86_400)), now, 1.0),
            None
        );
    }
}
