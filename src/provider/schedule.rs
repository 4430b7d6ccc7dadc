//! Time of the next fetch: pure functions of a lease and of earlier failures.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

use crate::clock::Timestamp;
use crate::provider::machine::Facts;

/// Shortest time between two fetches.
pub(crate) const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// Longest pause after a transient error.
pub(super) const MAX_RETRY: Duration = Duration::from_secs(10);
/// Longest time between two fetches, even if a lease or a backend requests more.
const MAX_INTERVAL: Duration = Duration::from_secs(30 * 24 * 3_600);
/// Pause after a permanent error; shorter if the current lease expires soon.
const PERMANENT_RETRY: Duration = Duration::from_secs(60);

/// Returns the time from `issued` to the refresh of the lease. `jitter` is between 0 and 1.
///
/// A 15-minute token is refreshed after 80 %, less up to 10 % of its lifetime: 10:30 to 12:00. A
/// one-hour Vault lease whose connections end with it is refreshed after 50 to 60 %: 30:00 to
/// 36:00.
pub(super) fn refresh_after(
    lease: &Facts,
    issued: Timestamp,
    poll: Duration,
    jitter: f64,
) -> Duration {
    let jitter = jitter.clamp(0.0, 1.0);
    let lifetime = lease.expiry.remaining(issued);
    let after = match (lease.refresh_after, lifetime) {
        (Some(after), Some(lifetime)) if after < lifetime => after,
        (Some(after), None) => after,
        (_, Some(lifetime)) => {
            let share = if lease.ends_connections() { 0.6 } else { 0.8 };
            lifetime.mul_f64(share - 0.1 * jitter)
        }
        (None, None) => poll.mul_f64(1.0 - 0.1 * jitter),
    };
    after.clamp(MIN_INTERVAL, MAX_INTERVAL)
}

/// Returns how long before a lease's expiry its connections must be closed. It is 10 % of the
/// lifetime, between 1 s and 60 s.
pub(crate) fn drain_margin(lifetime: Duration) -> Duration {
    (lifetime / 10).clamp(Duration::from_secs(1), Duration::from_secs(60))
}

/// Returns a problem if the lease's lifetime is too short to hand it over in time.
pub(super) fn too_short(lease: &Facts, issued: Timestamp, poll: Duration) -> Option<String> {
    let lifetime = lease.expiry.remaining(issued)?;
    let refresh = refresh_after(lease, issued, poll, 0.0);
    let needed = if lease.ends_connections() {
        refresh + MIN_INTERVAL + drain_margin(lifetime)
    } else {
        refresh + MIN_INTERVAL / 4
    };
    (lifetime < needed).then(|| {
        format!(
            "a lifetime of {} is too short: the refresh is after {}, and the handover needs at \
             least {} in total; issue longer leases",
            humantime::format_duration(lifetime),
            humantime::format_duration(refresh),
            humantime::format_duration(needed),
        )
    })
}

/// Returns the pause after the n-th failure in a row (counted from 1).
///
/// - Transient: 1 s, doubling to 10 s.
/// - Permanent: a minute, or a quarter of the time `left` of the current lease if that is less, but
///   at least 10 s.
/// - Never less than `hint`, which the backend requested.
///
/// If the next token is denied with 2:00 left, it is retried after 0:30, 0:52, 1:09 …. A permission
/// that is restored in time therefore takes effect before the token expires.
pub(super) fn retry_after(
    failures: u32,
    permanent: bool,
    left: Option<Duration>,
    hint: Option<Duration>,
    jitter: f64,
) -> Duration {
    let pause = match (permanent, left) {
        (false, _) => back_off(MIN_INTERVAL, MAX_RETRY, failures),
        (true, None) => PERMANENT_RETRY,
        (true, Some(left)) => (left / 4).clamp(MAX_RETRY, PERMANENT_RETRY),
    };
    pause
        .mul_f64(1.0 + 0.1 * jitter.clamp(0.0, 1.0))
        .max(hint.unwrap_or_default().min(MAX_INTERVAL))
}

/// Returns the n-th pause (counted from 1) of an exponential backoff.
pub(crate) fn back_off(first: Duration, longest: Duration, n: u32) -> Duration {
    ExponentialBuilder::default()
        .with_min_delay(first)
        .with_max_delay(longest)
        .with_factor(2.0)
        .without_max_times()
        .build()
        .nth(n.saturating_sub(1).min(32) as usize)
        .unwrap_or(longest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expiry::Expiry;
    use crate::lease::{Lease, OldConnections, Revision};
    use proptest::prelude::*;

    const POLL: Duration = Duration::from_secs(300);

    fn lease(lifetime: Duration, now: Timestamp) -> Lease<()> {
        Lease::new((), Revision::new("r")).with_expiry(Expiry::after(now, lifetime))
    }

    fn refresh_after(
        lease: &Lease<()>,
        issued: Timestamp,
        poll: Duration,
        jitter: f64,
    ) -> Duration {
        super::refresh_after(&Facts::from_lease(lease), issued, poll, jitter)
    }

    fn too_short(lease: &Lease<()>, issued: Timestamp, poll: Duration) -> Option<String> {
        super::too_short(&Facts::from_lease(lease), issued, poll)
    }

    proptest! {
        #[test]
        fn a_refresh_comes_before_the_lease_expires(
            millis in 2_000u64..100_000_000,
            jitter in 0.0f64..1.0,
            hint in prop::option::of(0u64..200_000_000),
            ends: bool,
        ) {
            let now = Timestamp::now();
            let old_connections = if ends {
                OldConnections::EndWithLease
            } else {
                OldConnections::Keep
            };
            let lifetime = Duration::from_millis(millis);
            let mut lease = lease(lifetime, now).with_old_connections(old_connections);
            if let Some(hint) = hint {
                lease = lease.with_refresh_after(Duration::from_millis(hint));
            }
            let after = refresh_after(&lease, now, POLL, jitter);
            prop_assert!(after >= MIN_INTERVAL);
            prop_assert!(after < Duration::from_millis(millis));
        }

        #[test]
        fn retries_grow_to_their_bound(n in 1u32..10_000, jitter in 0.0f64..1.0) {
            let pause = retry_after(n, false, None, None, jitter);
            prop_assert!(pause >= MIN_INTERVAL && pause <= MAX_RETRY.mul_f64(1.1));
            let without_jitter = |n| retry_after(n, false, None, None, 0.0);
            prop_assert!(without_jitter(n + 1) >= without_jitter(n));
        }
    }

    #[test]
    fn refresh_and_retry_times_match_examples() {
        let now = Timestamp::now();
        let token = lease(Duration::from_secs(900), now).with_old_connections(OldConnections::Keep);
        assert_eq!(refresh_after(&token, now, POLL, 0.0).as_secs(), 720);
        assert_eq!(refresh_after(&token, now, POLL, 1.0).as_secs(), 630);
        assert_eq!(
            refresh_after(
                &token.clone().with_refresh_after(Duration::from_secs(840)),
                now,
                POLL,
                1.0
            )
            .as_secs(),
            840
        );
        let role = lease(Duration::from_secs(3_600), now)
            .with_old_connections(OldConnections::EndWithLease);
        assert_eq!(refresh_after(&role, now, POLL, 0.0).as_secs(), 2_160);
        assert_eq!(refresh_after(&role, now, POLL, 1.0).as_secs(), 1_800);
        let outlived = lease(Duration::from_secs(900), now)
            .with_old_connections(OldConnections::Reauthenticate)
            .with_connection_expiry(Expiry::after(now, Duration::from_secs(43_200)));
        assert_eq!(refresh_after(&outlived, now, POLL, 0.0).as_secs(), 720);
        assert_eq!(
            refresh_after(&Lease::new((), Revision::new("r")), now, POLL, 0.0),
            POLL
        );
        assert_eq!(
            retry_after(1, false, None, Some(Duration::from_secs(7)), 0.0).as_secs(),
            7
        );
        for (left, pause) in [
            (None, 60),
            (Some(3_600), 60),
            (Some(120), 30),
            (Some(90), 22),
            (Some(5), 10),
            (Some(0), 10),
        ] {
            assert_eq!(
                retry_after(1, true, left.map(Duration::from_secs), None, 0.0).as_secs(),
                pause,
                "{left:?}"
            );
        }
    }

    #[test]
    fn the_longest_pause_is_a_month() {
        let now = Timestamp::now();
        let lease = Lease::new((), Revision::new("r")).with_refresh_after(Duration::MAX);
        assert_eq!(refresh_after(&lease, now, POLL, 0.0), MAX_INTERVAL);
        assert_eq!(
            retry_after(1, false, None, Some(Duration::MAX), 0.0),
            MAX_INTERVAL
        );
    }

    #[test]
    fn a_lifetime_too_short_to_hand_over_is_reported() {
        let now = Timestamp::now();
        assert!(too_short(&lease(Duration::from_secs(1), now), now, POLL).is_some());
        assert!(too_short(&lease(Duration::from_secs(6), now), now, POLL).is_none());
        let role = |seconds| {
            lease(Duration::from_secs(seconds), now)
                .with_old_connections(OldConnections::EndWithLease)
        };
        assert!(too_short(&role(3), now, POLL).is_some());
        assert!(too_short(&role(10), now, POLL).is_none());
    }
}
