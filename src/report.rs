//! What a rotation reports: its trigger, its outcome, each pool's handover.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How a rotation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RotationOutcome {
    /// A new lease is held, and every pool serves it.
    Adopted,
    /// The backend had nothing new; the lease's expiry may have moved.
    Unchanged,
    /// A newer lease came before every pool had taken this one.
    Superseded,
    /// Not every pool had taken it when the caller's patience ended, and the pools go on trying; or
    /// when its supervisor or provider ended.
    Unfinished,
}

impl RotationOutcome {
    /// The word for telemetry.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Adopted => "adopted",
            Self::Unchanged => "unchanged",
            Self::Superseded => "superseded",
            Self::Unfinished => "unfinished",
        }
    }
}

/// How a pool went from one generation to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HandoverMode {
    /// A new pool; the old one is drained.
    Replace,
    /// The same pool with new options; its connections stay.
    InPlace,
}

impl HandoverMode {
    /// The word for telemetry.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replace => "replace",
            Self::InPlace => "in_place",
        }
    }
}

/// One pool's handover, with the time each step took.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct HandoverReport {
    /// The pool.
    pub pool: Arc<str>,
    /// The generation it serves now.
    pub generation: u64,
    /// Whether the pool was replaced or updated in place.
    pub mode: HandoverMode,
    /// A bare login and the probe.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::serialize::seconds", rename = "prove_seconds")
    )]
    pub verify: Duration,
    /// Making the pool, or refitting it.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::serialize::seconds", rename = "open_seconds")
    )]
    pub open: Duration,
    /// Opening connections ahead of demand, before publication.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::serialize::seconds", rename = "warm_seconds")
    )]
    pub warm: Duration,
    /// From the first step to publication.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::serialize::seconds", rename = "took_seconds")
    )]
    pub took: Duration,
}

/// What a rotation came to.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RotationReport {
    /// The provider.
    pub provider: Arc<str>,
    /// Why it began.
    pub trigger: RotationTrigger,
    /// When it began, by the wall clock.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serialize::time"))]
    pub started: SystemTime,
    /// How it ended.
    pub outcome: RotationOutcome,
    /// The digest of the revision that came, if a new one came.
    pub revision: Option<String>,
    /// How often the backend was asked.
    pub attempts: u32,
    /// How long the last answer took.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::serialize::seconds", rename = "fetch_seconds")
    )]
    pub fetch: Duration,
    /// The pools that took the new lease, in the order in which they did.
    pub handovers: Vec<HandoverReport>,
    /// The pools that had not when the report was made.
    pub waiting: Vec<Arc<str>>,
    /// From the trigger to the last handover.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::serialize::seconds", rename = "took_seconds")
    )]
    pub took: Duration,
}

/// Why a rotation began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RotationTrigger {
    /// The provider was registered.
    Start,
    /// The lease's time to be refreshed came.
    Schedule,
    /// The database rejected the credential.
    Rejected,
    /// The source signalled a change.
    Changed,
    /// Somebody called `rotate_now`: a new credential is wanted, never a renewal.
    Manual,
    /// The clock jumped: the machine slept, or time was set.
    Woke,
}

impl RotationTrigger {
    /// The word for telemetry.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Schedule => "schedule",
            Self::Rejected => "rejected",
            Self::Changed => "changed",
            Self::Manual => "manual",
            Self::Woke => "woke",
        }
    }
}

impl fmt::Display for RotationTrigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
