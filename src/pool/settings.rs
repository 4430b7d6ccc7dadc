//! Settings of a pool, and whether it is replaced or updated in place.

use std::time::Duration;

use super::checks::CheckPolicy;
use crate::error::ConnectError;
use crate::lease::Lease;

/// Whether handovers are in place or replace the pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandoverPolicy {
    /// Follows the lease: [`OldConnections::Keep`](crate::lease::OldConnections::Keep) in place,
    /// and [`OldConnections::Reauthenticate`](crate::lease::OldConnections::Reauthenticate) if the
    /// pool's connections can authenticate again; anything else by replacing.
    #[default]
    AsLeased,
    /// Hands over in place while the endpoint is the same: until it changes, the pool that
    /// [`Handle::current`](crate::Handle::current) returns stays valid. A lease with another host,
    /// port or database replaces the pool. A lease that ends its connections is an error.
    AlwaysInPlace,
    /// Always replaces the pool.
    AlwaysReplace,
}

impl HandoverPolicy {
    /// Rejects a lease that ends its connections if handovers are always in place.
    ///
    /// # Errors
    /// [`ConnectErrorKind::Misconfigured`](crate::error::ConnectErrorKind::Misconfigured).
    pub fn check<S>(self, lease: &Lease<S>) -> Result<(), ConnectError> {
        if self == Self::AlwaysInPlace && lease.old_connections().expire() {
            return Err(ConnectError::misconfigured(
                "handover_policy",
                "AlwaysInPlace does not work with a lease that ends its connections; use AsLeased",
            ));
        }
        Ok(())
    }
}

/// Names of settings, as the user of a kind of pool gives them.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SettingNames {
    /// Name of [`PoolSettings::max_connections`].
    pub max_connections: &'static str,
    /// Name of [`PoolSettings::acquire_timeout`].
    pub acquire_timeout: &'static str,
}

impl Default for SettingNames {
    fn default() -> Self {
        Self {
            max_connections: "max_connections",
            acquire_timeout: "acquire_timeout",
        }
    }
}

/// Properties of a kind of pool that the library needs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PoolSettings {
    /// Maximum number of connections that one pool opens.
    pub max_connections: u32,
    /// Number of connections that are opened ahead of demand when a pool is replaced. Default: 0.
    pub warm_connections: u32,
    /// Number of connections by which old and new pool together may exceed the maximum during a
    /// replacement. Default: a quarter of the maximum, at least 1 (10 connections: 2, so at most
    /// 12).
    pub overlap: u32,
    /// Time for which a caller waits for a connection, across all generations. Default: 30 s.
    pub acquire_timeout: Duration,
    /// Names of the maximum and of the timeout in the settings of this kind of pool, for error
    /// messages. Default: `max_connections` and `acquire_timeout`.
    pub names: SettingNames,
    /// Whether handovers are in place or replace the pool.
    pub policy: HandoverPolicy,
    /// Condition for a check of a connection before a handle returns it. Default: never.
    pub checks: CheckPolicy,
    /// Whether a probe shows that the role still exists. If not, no connection is handed out after
    /// the expiry of a lease that ends its connections. Default: true.
    pub probe_detects_expiry: bool,
    /// Whether a login that has begun completes without its caller, because the server counts
    /// aborted logins. Default: false.
    pub finishes_logins: bool,
    /// Whether callers wait in the pool's own queue. Such a pool makes every login by
    /// [`LoginPermits::log_in`](super::LoginPermits::log_in). Default: false; they wait in a queue
    /// of the handle.
    pub own_queue: bool,
    /// Whether a connection can be used again after a call on it was cancelled while it ran. If
    /// not, it is closed. Default: true.
    pub reuses_cancelled: bool,
    /// Whether open connections can authenticate again, by
    /// [`reauthenticate`](super::PoolFactory::reauthenticate). If not,
    /// [`OldConnections::Reauthenticate`](crate::lease::OldConnections::Reauthenticate) is treated
    /// as [`EndWithLease`](crate::lease::OldConnections::EndWithLease). Default: false.
    pub reauthenticates: bool,
    /// Whether callers share connections. Old connections then do not count for the overlap,
    /// because any caller may keep one open for long. Default: false.
    pub shares_connections: bool,
}

impl PoolSettings {
    /// Returns the settings of a pool of at most `max_connections` connections. The rest are
    /// defaults: none opened ahead, an overlap of a quarter, a timeout of 30 s, handovers as
    /// leased.
    pub fn new(max_connections: u32) -> Self {
        Self {
            max_connections,
            warm_connections: 0,
            overlap: (max_connections / 4).max(1),
            acquire_timeout: Duration::from_secs(30),
            names: SettingNames::default(),
            policy: HandoverPolicy::AsLeased,
            checks: CheckPolicy::Never,
            probe_detects_expiry: true,
            finishes_logins: false,
            own_queue: false,
            reuses_cancelled: true,
            reauthenticates: false,
            shares_connections: false,
        }
    }
}
