//! Status types, for people and probes.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::error::{ConnectError, ProviderError};
use crate::report::{HandoverReport, RotationReport};

/// The state of every provider and pool. Never carries a secret.
///
/// ```
/// use claviger::Supervisor;
///
/// fn print(supervisor: &Supervisor) {
///     for pool in supervisor.status().pools {
///         println!("{}: generation {}, {:?}", pool.name, pool.generation, pool.last_error);
///     }
/// }
/// # drop(print);
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Status {
    /// Every provider, by name.
    pub providers: Vec<ProviderStatus>,
    /// Every pool, by name.
    pub pools: Vec<PoolStatus>,
    /// Whether shutdown was called.
    pub shutting_down: bool,
}

/// The state of a provider.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ProviderStatus {
    /// Its name.
    pub name: Arc<str>,
    /// Digest of the current lease's revision; `None` before the first lease.
    pub revision: Option<String>,
    /// Expiry of the current lease; `None` if it does not expire.
    #[cfg_attr(feature = "serde", serde(with = "crate::serialize"))]
    pub expires: Option<SystemTime>,
    /// Remaining time to live of the current lease, by the more pessimistic clock.
    #[cfg_attr(
        feature = "serde",
        serde(with = "crate::serialize", rename = "remaining_seconds")
    )]
    pub remaining: Option<Duration>,
    /// Whether the database rejects the current revision.
    pub rejected: bool,
    /// Whether a fetch is running.
    pub fetching: bool,
    /// Time until the next fetch.
    #[cfg_attr(
        feature = "serde",
        serde(with = "crate::serialize", rename = "next_fetch_seconds")
    )]
    pub next_fetch: Option<Duration>,
    /// Number of fetches.
    pub fetches: u64,
    /// Fetches that are still running after their deadline. While there are three, no other is
    /// begun.
    pub hanging: usize,
    /// Time at which the first of them began.
    #[cfg_attr(feature = "serde", serde(with = "crate::serialize"))]
    pub hanging_since: Option<SystemTime>,
    /// Time to live of the current lease when it was obtained; `None` if it does not expire.
    #[cfg_attr(
        feature = "serde",
        serde(with = "crate::serialize", rename = "lifetime_seconds")
    )]
    pub lifetime: Option<Duration>,
    /// Time since which the provider is held; `None` if it is not.
    #[cfg_attr(feature = "serde", serde(with = "crate::serialize"))]
    pub held: Option<SystemTime>,
    /// Error of the last fetch; `None` after one that succeeded.
    pub last_error: Option<ProviderError>,
    /// Report of the last rotation that ended.
    pub last_rotation: Option<RotationReport>,
    /// Number of leases that are being released, or whose release is retried.
    pub unreleased: usize,
    /// Number of unused leases that are kept before their release, as set by
    /// [`with_previous_lease_kept_for`](crate::SupervisorBuilder::with_previous_lease_kept_for).
    pub kept: usize,
    /// Its pools.
    pub pools: Vec<Arc<str>>,
    /// Number of restarts of its actor.
    pub restarts: u64,
}

/// The state of a pool.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PoolStatus {
    /// Its name.
    pub name: Arc<str>,
    /// Its provider.
    pub provider: Arc<str>,
    /// Number of the current generation: 1, 2, 3 …; 0 before the first verification.
    pub generation: u64,
    /// Whether callers get connections without restriction.
    pub serving: bool,
    /// Whether the database rejects the active credentials.
    pub rejected: bool,
    /// Whether it serves its previous lease, after a rollback.
    pub rolled_back: bool,
    /// Digest of the active revision.
    pub revision: Option<String>,
    /// Expiry of the active lease; `None` if it does not expire.
    #[cfg_attr(feature = "serde", serde(with = "crate::serialize"))]
    pub expires: Option<SystemTime>,
    /// Remaining time to live of the active lease, by the more pessimistic clock.
    #[cfg_attr(
        feature = "serde",
        serde(with = "crate::serialize", rename = "remaining_seconds")
    )]
    pub remaining: Option<Duration>,
    /// Time to live of the active lease when it was obtained; `None` if it does not expire.
    #[cfg_attr(
        feature = "serde",
        serde(with = "crate::serialize", rename = "lifetime_seconds")
    )]
    pub lifetime: Option<Duration>,
    /// Time of the last verification of the active lease.
    #[cfg_attr(feature = "serde", serde(with = "crate::serialize"))]
    pub verified: Option<SystemTime>,
    /// Connections of the current generation: busy, idle and being opened.
    pub connections: u32,
    /// Number of them that are idle.
    pub idle: u32,
    /// Maximum number of connections of a generation.
    pub max_connections: u32,
    /// Number of callers whose generation ended while they waited, and which got the next one.
    pub moved: u64,
    /// Old generations that still have connections.
    pub draining: Vec<DrainStatus>,
    /// The last handover, with the time of each step.
    pub last_handover: Option<HandoverReport>,
    /// Error of the last verification; `None` after one that succeeded.
    pub last_error: Option<ConnectError>,
    /// Time until the next verification, if one is planned.
    #[cfg_attr(
        feature = "serde",
        serde(with = "crate::serialize", rename = "next_verification_seconds")
    )]
    pub next_verification: Option<Duration>,
    /// Number of restarts of its actor.
    pub restarts: u64,
}

/// An old generation that still has connections.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct DrainStatus {
    /// Its number.
    pub generation: u64,
    /// Number of its connections.
    pub connections: u32,
    /// Whether its drain deadline has passed.
    pub abandoned: bool,
}

/// Whether traffic should be sent here, and why not.
///
/// ```
/// use claviger::Supervisor;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let readiness = Supervisor::start().readiness();
/// assert!(readiness.ready, "not ready: {}", readiness.reasons.join("; "));
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Readiness {
    /// Whether every credential is valid for the ready margin: 5 s, or a tenth of its time to live.
    /// The active credentials of every pool must also be verified and not rejected. A newer lease
    /// that cannot be verified yet has no effect.
    pub ready: bool,
    /// Reasons for not being ready; empty when ready.
    pub reasons: Vec<String>,
    /// What else an operator should know: the held providers. Does not affect `ready`. Absent from
    /// JSON if it is empty.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Vec::is_empty"))]
    pub notes: Vec<String>,
}

/// Whether this process works. Independent of databases and backends: a restart repairs neither,
/// and closes the connections that still work.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Liveness {
    /// Always true.
    pub alive: bool,
    /// Whether shutdown was called.
    pub shutting_down: bool,
    /// Number of restarts of actors since the start, after errors of this library.
    pub restarts: u64,
}
