//! How everything stands, for people and probes.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::error::{ConnectError, ProviderError};
use crate::report::{HandoverReport, RotationReport};

/// How everything stands. Never carries a secret.
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

/// How a provider stands.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ProviderStatus {
    /// Its name.
    pub name: Arc<str>,
    /// The digest of the held lease's revision; `None` when no lease is held.
    pub revision: Option<String>,
    /// When the held lease dies, if it does.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::serialize::time_if_any")
    )]
    pub expires: Option<SystemTime>,
    /// How much life it has left, by the more pessimistic clock.
    #[cfg_attr(
        feature = "serde",
        serde(
            serialize_with = "crate::serialize::seconds_if_any",
            rename = "remaining_seconds"
        )
    )]
    pub remaining: Option<Duration>,
    /// Whether the database rejects the held revision at present.
    pub rejected: bool,
    /// Whether a fetch runs.
    pub fetching: bool,
    /// In how long the backend is asked again.
    #[cfg_attr(
        feature = "serde",
        serde(
            serialize_with = "crate::serialize::seconds_if_any",
            rename = "next_fetch_seconds"
        )
    )]
    pub next_fetch: Option<Duration>,
    /// How often the backend was asked.
    pub fetches: u64,
    /// Fetches that have not ended by their deadline. With three of them, no further one is begun.
    pub hanging: usize,
    /// When the first of them began.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::serialize::time_if_any")
    )]
    pub hanging_since: Option<SystemTime>,
    /// Time to live of the current lease when it was obtained; `None` if it does not expire.
    #[cfg_attr(
        feature = "serde",
        serde(
            serialize_with = "crate::serialize::seconds_if_any",
            rename = "lifetime_seconds"
        )
    )]
    pub lifetime: Option<Duration>,
    /// Why the last attempt failed; `None` after one that worked.
    pub last_error: Option<ProviderError>,
    /// The last rotation that ended.
    pub last_rotation: Option<RotationReport>,
    /// Leases that are still to be released.
    pub unreleased: usize,
    /// The pools that take its leases.
    pub pools: Vec<Arc<str>>,
    /// How often its actor was started again.
    pub restarts: u64,
}

/// How a pool stands.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PoolStatus {
    /// Its name.
    pub name: Arc<str>,
    /// Where its leases come from.
    pub provider: Arc<str>,
    /// What it serves: 1, 2, 3 …; 0 before the first verification.
    pub generation: u64,
    /// Whether callers are served without restriction.
    pub serving: bool,
    /// Whether the database rejects what is served.
    pub rejected: bool,
    /// The digest of the served revision.
    pub revision: Option<String>,
    /// When the served lease dies, if it does.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::serialize::time_if_any")
    )]
    pub expires: Option<SystemTime>,
    /// How much life the served lease has left, by the more pessimistic clock.
    #[cfg_attr(
        feature = "serde",
        serde(
            serialize_with = "crate::serialize::seconds_if_any",
            rename = "remaining_seconds"
        )
    )]
    pub remaining: Option<Duration>,
    /// Time to live of the served lease when it was obtained; `None` if it does not expire.
    #[cfg_attr(
        feature = "serde",
        serde(
            serialize_with = "crate::serialize::seconds_if_any",
            rename = "lifetime_seconds"
        )
    )]
    pub lifetime: Option<Duration>,
    /// When it was verified last.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::serialize::time_if_any")
    )]
    pub verified: Option<SystemTime>,
    /// Connections of the served generation, busy, idle and being opened.
    pub connections: u32,
    /// How many of them are idle.
    pub idle: u32,
    /// The most connections that it opens.
    pub max_connections: u32,
    /// Callers that moved over from a generation which ended while they waited for one of its
    /// connections.
    pub moved: u64,
    /// Old generations that still have connections.
    pub draining: Vec<DrainStatus>,
    /// The last handover, with the time of each step.
    pub last_handover: Option<HandoverReport>,
    /// Why the last verification failed; `None` after one that worked.
    pub last_error: Option<ConnectError>,
    /// In how long the held lease is verified, if that is awaited.
    #[cfg_attr(
        feature = "serde",
        serde(
            serialize_with = "crate::serialize::seconds_if_any",
            rename = "next_proof_seconds"
        )
    )]
    pub next_verification: Option<Duration>,
    /// How often its actor was started again.
    pub restarts: u64,
}

/// An old generation that still has connections.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct DrainStatus {
    /// Its number.
    pub generation: u64,
    /// How many connections it has.
    pub connections: u32,
    /// Whether its drain deadline has passed.
    pub abandoned: bool,
}
