//! Checks of open connections before they are handed out.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Time for which all connections are checked after one was found broken.
const ALL_CHECKED_FOR: Duration = Duration::from_secs(5);

/// Condition for a check of a connection before a handle returns it. A check costs a round trip.
///
/// With `AfterIdle` of 1 s, a pool that is used 100 times a second by each connection checks none.
/// After a night, it checks each connection once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CheckPolicy {
    /// Each time.
    Always,
    /// Only if it was idle for at least this long, or if its idle time is unknown. After a
    /// connection was found broken, those that were idle then are checked, too. For 5 s, all are
    /// checked.
    AfterIdle(Duration),
    /// Only while credentials are rejected or old connections drain.
    #[default]
    Never,
}

/// A connection as a pool hands it out.
#[derive(Debug)]
#[non_exhaustive]
pub struct Taken<C> {
    /// The connection.
    pub connection: C,
    /// Time since it was last used: zero for one that was just opened, `None` if unknown.
    pub idle_for: Option<Duration>,
}

impl<C> Taken<C> {
    /// Creates a value with a known idle time.
    pub fn new(connection: C, idle_for: Duration) -> Self {
        Self {
            connection,
            idle_for: Some(idle_for),
        }
    }
}

impl<C> From<C> for Taken<C> {
    fn from(connection: C) -> Self {
        Self {
            connection,
            idle_for: None,
        }
    }
}

/// A pool's policy, and the time at which a connection was last found broken.
#[derive(Debug)]
pub(crate) struct Checks {
    policy: CheckPolicy,
    origin: Instant,
    /// Milliseconds from the origin, plus one; 0 means never.
    broken: AtomicU64,
}

impl Checks {
    pub(super) fn new(policy: CheckPolicy, now: Instant) -> Self {
        Self {
            policy,
            origin: now,
            broken: AtomicU64::new(0),
        }
    }

    /// Notes that a connection was found broken.
    pub(crate) fn found_broken(&self, now: Instant) {
        let millis = now.saturating_duration_since(self.origin).as_millis();
        let millis = u64::try_from(millis).unwrap_or(u64::MAX).saturating_add(1);
        self.broken.fetch_max(millis, Ordering::AcqRel);
    }

    /// Returns whether a connection that was idle for this long is due for a check.
    pub(super) fn is_due(&self, idle_for: Option<Duration>, now: impl Fn() -> Instant) -> bool {
        let limit = match self.policy {
            CheckPolicy::Always => return true,
            CheckPolicy::Never => return false,
            CheckPolicy::AfterIdle(limit) => limit,
        };
        let Some(idle_for) = idle_for.filter(|idle_for| *idle_for < limit) else {
            return true;
        };
        let broken = self.broken.load(Ordering::Acquire);
        let used = |now: Instant| now.saturating_duration_since(self.origin + idle_for);
        broken > 0 && used(now()) < Duration::from_millis(broken) + ALL_CHECKED_FOR
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_connection_is_checked_after_it_was_idle_for_long() {
        let now = tokio::time::Instant::now().into_std();
        let checks = Checks::new(CheckPolicy::AfterIdle(30 * SECOND), now);
        let is_due = |idle_for| checks.is_due(idle_for, || now + 60 * SECOND);
        assert!(!is_due(Some(Duration::ZERO)));
        assert!(!is_due(Some(29 * SECOND)));
        assert!(is_due(Some(30 * SECOND)));
        assert!(is_due(None), "its idle time is unknown");
    }

    #[test]
    fn all_are_checked_for_a_while_after_one_was_broken_and_later_those_from_before() {
        let start = tokio::time::Instant::now().into_std();
        let checks = Checks::new(CheckPolicy::AfterIdle(60 * SECOND), start);
        let is_due = |idle_for, at| checks.is_due(Some(idle_for), || start + at);
        assert!(!is_due(SECOND, 100 * SECOND));
        checks.found_broken(start + 100 * SECOND);
        assert!(is_due(Duration::ZERO, 100 * SECOND));
        assert!(is_due(Duration::ZERO, 104 * SECOND));
        assert!(!is_due(Duration::ZERO, 106 * SECOND));
        assert!(is_due(21 * SECOND, 120 * SECOND), "idle since before");
        assert!(!is_due(SECOND, 120 * SECOND));
    }

    #[test]
    fn other_policies_check_always_or_never() {
        let now = tokio::time::Instant::now().into_std();
        for (policy, is_due) in [(CheckPolicy::Always, true), (CheckPolicy::Never, false)] {
            let checks = Checks::new(policy, now);
            checks.found_broken(now);
            for idle_for in [None, Some(Duration::ZERO), Some(3_600 * SECOND)] {
                assert_eq!(checks.is_due(idle_for, || now), is_due);
            }
        }
    }
}
