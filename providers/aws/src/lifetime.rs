//! Lifetime of a token and time of the next signature: pure functions.

use std::time::{Duration, SystemTime};

/// Longest lifetime that AWS accepts: 15 minutes.
pub(crate) const MAX_LIFETIME: Duration = Duration::from_secs(900);
/// Shortest lifetime. A signature is dated by the whole second, so a token may have lost one second
/// when it is signed. The core needs another to replace it.
pub(crate) const MIN_LIFETIME: Duration = Duration::from_secs(3);
/// Shortest remaining time of the AWS session that may sign. A token with less could not be
/// replaced in time, because the core fetches at most once a second.
pub(crate) const MIN_REMAINING: Duration = Duration::from_millis(1_500);

/// Time within which a second rejection of a young token causes a new signature. A single rejection
/// by IAM, or by PAM on RDS, needs no new token.
pub(crate) const REJECTION_WINDOW: Duration = Duration::from_secs(60);
/// Shortest time between two new signatures because of rejected young tokens. A token is valid for
/// longer than this if the clock is behind by less than 14:30 min.
pub(crate) const RESIGN_INTERVAL: Duration = Duration::from_secs(30);

/// Returns the expiry of a token dated `second`: its own, or that of the AWS session that signed
/// it.
pub(crate) fn expiry(
    second: SystemTime,
    lifetime: Duration,
    session: Option<SystemTime>,
) -> SystemTime {
    let token = second + lifetime;
    session.map_or(token, |session| token.min(session))
}

/// Returns the age of a token valid for `remaining` at which the next one is signed. Two fifteenths
/// of its lifetime are left then, at least a second.
///
/// For a token of 15 minutes that is 13:00. That leaves a minute for a slow credentials chain and
/// the verification before the token is 14 minutes old.
pub(crate) fn refresh_after(remaining: Duration) -> Duration {
    remaining.saturating_sub((remaining * 2 / 15).max(Duration::from_secs(1)))
}

/// Returns whether a rejected token of this age is as good as a new one. A transient rejection
/// (PAM, throttling) needs no other token. A server whose clock is ahead needs one.
pub(crate) fn is_young(age: Duration, lifetime: Duration) -> bool {
    age < lifetime / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_next_token_is_signed_when_two_fifteenths_of_the_lifetime_are_left() {
        assert_eq!(refresh_after(seconds(900)), seconds(780));
        assert_eq!(refresh_after(seconds(540)), seconds(468));
        assert_eq!(refresh_after(seconds(6)), seconds(5));
        assert_eq!(refresh_after(seconds(3)), seconds(2));
        assert_eq!(refresh_after(seconds(0)), seconds(0));
    }

    #[test]
    fn a_lease_expires_at_the_earlier_expiry_of_token_and_session() {
        let signed = UNIX_EPOCH + seconds(1_000);
        assert_eq!(expiry(signed, seconds(900), None), signed + seconds(900));
        assert_eq!(
            expiry(signed, seconds(900), Some(signed + seconds(540))),
            signed + seconds(540)
        );
        assert_eq!(
            expiry(signed, seconds(900), Some(signed + seconds(3_600))),
            signed + seconds(900)
        );
    }

    #[test]
    fn a_token_is_young_in_the_first_half_of_its_lifetime() {
        assert!(is_young(seconds(449), MAX_LIFETIME));
        assert!(!is_young(seconds(450), MAX_LIFETIME));
    }
}
