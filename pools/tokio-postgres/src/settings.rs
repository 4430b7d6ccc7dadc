//! Settings that pools of every kind have, and limits on the age of connections.

use std::time::Duration;

use claviger::Lease;
use claviger::error::ConnectError;
use claviger::pool::PoolSettings;

/// Shortest and longest pause between two searches for connections beyond a limit.
const SEARCH_INTERVAL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Settings of a pool with [a queue of its own](PoolSettings::own_queue). The setters of
/// [`setters!`](crate::setters) change them.
#[derive(Clone, Debug)]
pub struct QueuedPoolSettings {
    /// The settings that the library needs.
    pub pool: PoolSettings,
    /// Limits on the age of connections.
    pub lifetimes: Lifetimes,
}

/// Limits on the age of connections. `None`: no limit.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// Age at which a connection is closed. Default: 30 min.
    pub max_lifetime: Option<Duration>,
    /// Time after which an idle connection is closed. Default: 10 min.
    pub idle_timeout: Option<Duration>,
}

impl QueuedPoolSettings {
    /// Returns the settings of a pool of at most `max_connections` connections. The rest are
    /// defaults.
    pub fn new(max_connections: u32) -> Self {
        let mut pool = PoolSettings::new(max_connections);
        pool.own_queue = true;
        Self {
            pool,
            lifetimes: Lifetimes::default(),
        }
    }

    /// Rejects settings that a pool cannot use.
    ///
    /// # Errors
    /// [`ConnectErrorKind::Misconfigured`](claviger::error::ConnectErrorKind::Misconfigured),
    /// naming the field and a valid value.
    pub fn check(&self) -> Result<(), ConnectError> {
        if self.pool.max_connections == 0 {
            let problem = "is 0; give at least 1";
            return Err(ConnectError::misconfigured(
                self.pool.names.max_connections,
                problem,
            ));
        }
        if self.pool.acquire_timeout.is_zero() {
            let problem = "is 0s; give at least a second";
            return Err(ConnectError::misconfigured(
                self.pool.names.acquire_timeout,
                problem,
            ));
        }
        check_limit("max_lifetime", self.lifetimes.max_lifetime)?;
        check_limit("idle_timeout", self.lifetimes.idle_timeout)
    }

    /// Rejects settings that a pool cannot use, or that do not fit the lease.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn check_with(&self, lease: &Lease<claviger::Credentials>) -> Result<(), ConnectError> {
        self.check()?;
        self.pool.policy.check(lease)
    }
}

/// Rejects a limit of zero.
pub(crate) fn check_limit(field: &str, limit: Option<Duration>) -> Result<(), ConnectError> {
    if limit == Some(Duration::ZERO) {
        let problem = "is 0s; give at least a second, or None";
        return Err(ConnectError::misconfigured(field, problem));
    }
    Ok(())
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            max_lifetime: Some(Duration::from_secs(30 * 60)),
            idle_timeout: Some(Duration::from_secs(10 * 60)),
        }
    }
}

impl Lifetimes {
    /// Returns whether a connection of this age, which was idle for this time, is to be closed.
    pub fn is_exceeded(self, age: Duration, idle_for: Duration) -> bool {
        let reached = |limit: Option<Duration>, time| limit.is_some_and(|limit| time >= limit);
        reached(self.max_lifetime, age) || reached(self.idle_timeout, idle_for)
    }

    /// Returns the pause between two searches for connections that are too old: a quarter of the
    /// shorter limit, from 1 s to 30 s. `None` without a limit.
    pub fn search_interval(self) -> Option<Duration> {
        let shortest = self.max_lifetime.into_iter().chain(self.idle_timeout).min();
        Some((shortest? / 4).clamp(SEARCH_INTERVAL.0, SEARCH_INTERVAL.1))
    }
}

/// Defines the setters that factories of pools share. The factory has a field
/// `settings: QueuedPoolSettings`.
#[doc(hidden)]
#[macro_export]
macro_rules! setters {
    () => {
        /// Sets when a connection is checked before a handle returns it, which costs a round trip.
        /// Default: [`CheckPolicy::Never`](claviger::pool::CheckPolicy::Never), that is only while
        /// credentials are rejected or old connections drain.
        ///
        /// In any case, a connection that the server or the network has closed is never returned.
        /// Finding that out costs nothing. A check also finds one whose server no longer responds.
        #[must_use]
        pub fn with_checks(mut self, checks: claviger::pool::CheckPolicy) -> Self {
            self.settings.pool.checks = checks;
            self
        }

        /// Sets whether handovers are in place or replace the pool. Default:
        /// [`HandoverPolicy::AsLeased`](claviger::pool::HandoverPolicy::AsLeased).
        ///
        /// With [`HandoverPolicy::AlwaysInPlace`](claviger::pool::HandoverPolicy::AlwaysInPlace)
        /// the pool of [`Handle::current`](claviger::Handle::current) stays valid until a lease
        /// names another host, port or database. Connections of the old credential are closed after
        /// the maximum lifetime.
        #[must_use]
        pub fn with_handover_policy(mut self, policy: claviger::pool::HandoverPolicy) -> Self {
            self.settings.pool.policy = policy;
            self
        }

        /// Sets by how many connections old and new pool together may exceed the maximum during a
        /// replacement. Default: a quarter, at least 1 (10: 2).
        #[must_use]
        pub fn with_overlap(mut self, connections: u32) -> Self {
            self.settings.pool.overlap = connections;
            self
        }

        /// Sets how many connections are opened ahead of demand when a pool is replaced. Default:
        /// 0.
        #[must_use]
        pub fn with_min_connections(mut self, connections: u32) -> Self {
            self.settings.pool.warm_connections = connections;
            self
        }

        /// Sets the age at which a connection is closed. An idle connection is closed up to a
        /// quarter of that age later, 30 s at most. A busy one is closed when it is returned. Use
        /// 14 min with tokens that are valid for 15 min. `None`: at no age. Default: 30 min.
        #[must_use]
        pub fn with_max_lifetime(
            mut self,
            lifetime: impl Into<Option<std::time::Duration>>,
        ) -> Self {
            self.settings.lifetimes.max_lifetime = lifetime.into();
            self
        }

        /// Sets for how long an idle connection stays open. deadpool counts from when it was last
        /// taken, bb8 from when it was returned. `None`: no limit. Default: 10 min.
        #[must_use]
        pub fn with_idle_timeout(
            mut self,
            timeout: impl Into<Option<std::time::Duration>>,
        ) -> Self {
            self.settings.lifetimes.idle_timeout = timeout.into();
            self
        }
    };
}
