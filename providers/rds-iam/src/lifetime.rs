//! How long a token lives, and when the next one is signed: pure functions.

use std::time::{Duration, SystemTime};

/// What RDS grants at most: 15 minutes.
pub(crate) const MAX_LIFETIME: Duration = Duration::from_secs(900);
/// A signature is dated by the whole second, so that a token may have lost one when it comes; the
/// core needs another to renew it.
pub(crate) const MIN_LIFETIME: Duration = Duration::from_secs(3);
/// What lives no longer than that could not be renewed in time: the core asks nothing again within
/// a second.
pub(crate) const MIN_REMAINING: Duration = Duration::from_millis(1_500);

/// Time within which a second rejection of a young token leads to a new signature. A rejection by
/// PAM or IAM that happens once needs no new token.
pub(crate) const REJECTION_WINDOW: Duration = Duration::from_secs(60);
/// Shortest time between two signatures of young tokens that are rejected. With a clock that is
/// behind by less than 14:30 min, each token is valid for longer than that.
pub(crate) const RESIGN_INTERVAL: Duration = Duration::from_secs(30);

/// When a token dies that is dated `second`: with its own end, or with the session that signed it.
pub(crate) fn expiry(
    second: SystemTime,
    lifetime: Duration,
    session: Option<SystemTime>,
) -> SystemTime {
    let token = second + lifetime;
    session.map_or(token, |session| token.min(session))
}

/// When a token that has so long to live is to be renewed: two fifteenths of that, and at least a
/// second, before its end. Of 15 minutes these are the last two: renewed at 13:00, there is a
/// minute for a slow chain of credentials and the verification before it is 14 minutes old.
pub(crate) fn refresh_after(life: Duration) -> Duration {
    life.saturating_sub((life * 2 / 15).max(Duration::from_secs(1)))
}

/// Whether a token of this age that the database rejects is as good as one signed now. A rejection
/// that passes by itself (PAM, throttling) needs no other token; a database whose clock runs ahead
/// does.
pub(crate) fn is_young(age: Duration, lifetime: Duration) -> bool {
    age < lifetime / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn worked_numbers() {
        assert_eq!(refresh_after(s(900)), s(780));
        assert_eq!(refresh_after(s(540)), s(468));
        assert_eq!(refresh_after(s(6)), s(5));
        assert_eq!(refresh_after(s(3)), s(2));
        assert_eq!(refresh_after(s(0)), s(0));
    }

    #[test]
    fn the_first_death_counts() {
        let signed = UNIX_EPOCH + s(1_000);
        assert_eq!(expiry(signed, s(900), None), signed + s(900));
        assert_eq!(
            expiry(signed, s(900), Some(signed + s(540))),
            signed + s(540)
        );
        assert_eq!(
            expiry(signed, s(900), Some(signed + s(3_600))),
            signed + s(900)
        );
    }

    #[test]
    fn a_rejected_token_is_signed_again_in_the_second_half_of_its_life() {
        assert!(is_young(s(449), MAX_LIFETIME));
        assert!(!is_young(s(450), MAX_LIFETIME));
    }
}
