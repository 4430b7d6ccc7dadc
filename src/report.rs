//! Reports of rotations, handovers and the shutdown.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::error::{ConnectError, ConnectErrorKind};

/// Outcome of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RotationOutcome {
    /// Every pool has adopted a new lease.
    Adopted,
    /// The backend had no new credential; the lease's expiry may have moved.
    Unchanged,
    /// A newer lease was obtained before every pool had adopted this one.
    Superseded,
    /// Some pools had not adopted it when the report was made, or when the supervisor or provider
    /// ended. The remaining pools retry.
    Unfinished,
}

impl RotationOutcome {
    /// Returns the word for telemetry.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Adopted => "adopted",
            Self::Unchanged => "unchanged",
            Self::Superseded => "superseded",
            Self::Unfinished => "unfinished",
        }
    }
}

/// Whether a handover replaced the pool or updated it in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HandoverMode {
    /// A new pool is published; the old one is drained.
    Replace,
    /// The pool gets new options; its connections stay.
    InPlace,
}

impl HandoverMode {
    /// Returns the word for telemetry.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replace => "replace",
            Self::InPlace => "in_place",
        }
    }
}

#[cfg(feature = "serde")]
crate::serialize::serialize_as_str!(RotationTrigger, RotationOutcome, HandoverMode);

/// One pool's handover, with the time each step took.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct HandoverReport {
    /// The pool.
    pub pool: Arc<str>,
    /// The new generation.
    pub generation: u64,
    /// Whether the pool was replaced or updated in place.
    pub mode: HandoverMode,
    /// Time of the bare login and the probe.
    #[cfg_attr(
        feature = "serde",
        serde(with = "crate::serialize", rename = "verify_seconds")
    )]
    pub verify: Duration,
    /// Time to create or update the pool.
    #[cfg_attr(
        feature = "serde",
        serde(with = "crate::serialize", rename = "open_seconds")
    )]
    pub open: Duration,
    /// Time to open connections before the publication.
    #[cfg_attr(
        feature = "serde",
        serde(with = "crate::serialize", rename = "warm_seconds")
    )]
    pub warm: Duration,
    /// Time from the first step to the publication.
    #[cfg_attr(
        feature = "serde",
        serde(with = "crate::serialize", rename = "took_seconds")
    )]
    pub took: Duration,
}

/// The report of a rotation.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RotationReport {
    /// The provider.
    pub provider: Arc<str>,
    /// Trigger of the rotation.
    pub trigger: RotationTrigger,
    /// Time at which it began, by the wall clock.
    #[cfg_attr(feature = "serde", serde(with = "crate::serialize"))]
    pub started: SystemTime,
    /// Outcome of the rotation.
    pub outcome: RotationOutcome,
    /// Digest of the new revision, if there is one.
    pub revision: Option<String>,
    /// Number of fetches.
    pub attempts: u32,
    /// Time of the last fetch.
    #[cfg_attr(
        feature = "serde",
        serde(with = "crate::serialize", rename = "fetch_seconds")
    )]
    pub fetch: Duration,
    /// Handovers to the new lease, in their order.
    pub handovers: Vec<HandoverReport>,
    /// Pools that had not adopted it when the report was made.
    pub waiting: Vec<Arc<str>>,
    /// Time from the trigger to the last handover.
    #[cfg_attr(
        feature = "serde",
        serde(with = "crate::serialize", rename = "took_seconds")
    )]
    pub took: Duration,
}

/// The report of a rehearsal: a rotation that served nothing.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RehearsalReport {
    /// The provider.
    pub provider: Arc<str>,
    /// Digest of the revision that was verified.
    pub revision: String,
    /// Whether it is the current one: the backend has no other credential.
    pub is_current: bool,
    /// Expiry of its lease; `None` if it does not expire.
    #[cfg_attr(feature = "serde", serde(with = "crate::serialize"))]
    pub expires: Option<SystemTime>,
    /// Time of the fetch, with the wait for another one that was running.
    #[cfg_attr(
        feature = "serde",
        serde(with = "crate::serialize", rename = "fetch_seconds")
    )]
    pub fetch: Duration,
    /// Each pool, in the order of registration.
    pub pools: Vec<PoolRehearsal>,
}

impl RehearsalReport {
    /// Returns whether the credential was verified in every pool.
    pub fn is_verified(&self) -> bool {
        self.pools.iter().all(|pool| pool.error.is_none())
    }
}

/// A rehearsal in one pool, and what a handover would do there. If the pool's code panicked,
/// `error` names the panic, and all numbers are 0.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PoolRehearsal {
    /// The pool.
    pub pool: Arc<str>,
    /// Error of the login, with its kind, SQLSTATE and message; `None` if it was verified. If the same
    /// credential was rejected moments before, that error again. Without a login, the message begins
    /// with `not verified, because`, and the kind is [`ConnectErrorKind::Other`].
    pub error: Option<ConnectError>,
    /// Time of the logins, with up to 1 s for each that had to wait for room.
    #[cfg_attr(
        feature = "serde",
        serde(with = "crate::serialize", rename = "took_seconds")
    )]
    pub took: Duration,
    /// Whether a handover would replace the pool or update it in place. In place if the lease or the
    /// settings request it, and the [server](crate::pool::PoolFactory::server) stays the same. The
    /// factory may still [replace the pool](crate::pool::PoolFactory::update_in_place), as all of
    /// this project do for another database.
    pub mode: HandoverMode,
    /// Number of connections that a handover would open before the publication.
    pub opens: u32,
    /// Largest number of the pool's connections during a handover: `max_connections` and the
    /// overlap; in place `max_connections` and one login.
    pub at_most: u32,
    /// Maximum number of connections of a generation.
    pub max_connections: u32,
    /// Connections that are open now. A replacement would drain them.
    pub connections: u32,
    /// Number of them that are in use now.
    pub in_use: u32,
}

impl PoolRehearsal {
    /// Creates the report of a rehearsal that panicked.
    pub(crate) fn panicked(pool: Arc<str>, took: Duration) -> Self {
        let error = "the rehearsal panicked; see the panic message";
        Self {
            pool,
            error: Some(ConnectError::new(ConnectErrorKind::Other, error)),
            took,
            mode: HandoverMode::Replace,
            opens: 0,
            at_most: 0,
            max_connections: 0,
            connections: 0,
            in_use: 0,
        }
    }
}

/// Trigger of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RotationTrigger {
    /// The provider was registered.
    Start,
    /// The lease was due to be refreshed.
    Schedule,
    /// The database rejected the credential.
    Rejected,
    /// The provider signalled a change.
    Changed,
    /// `rotate_now` was called: a new credential is requested, never a renewal.
    Manual,
    /// The clock jumped: the machine was suspended, or its time was set.
    ClockJump,
    /// `roll_back` was called: a pool returns to its previous lease, without a fetch.
    RollBack,
    /// `rehearse` was called. Only a [`FetchRequest`](crate::provider::FetchRequest) and telemetry
    /// have it, because a rehearsal is no rotation.
    Rehearsal,
}

impl RotationTrigger {
    /// Returns the word for telemetry.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Schedule => "schedule",
            Self::Rejected => "rejected",
            Self::Changed => "changed",
            Self::Manual => "manual",
            Self::ClockJump => "clock_jump",
            Self::RollBack => "roll_back",
            Self::Rehearsal => "rehearsal",
        }
    }

    /// Returns whether a new credential is requested, never a renewal: by a manual request or for a
    /// rehearsal.
    pub const fn requests_new(self) -> bool {
        matches!(self, Self::Manual | Self::Rehearsal)
    }
}

impl fmt::Display for RotationTrigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Leases and connections that a shutdown left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Whether nothing was left behind.
    pub clean: bool,
    /// Generations whose connections were not all returned in time. They are not cut; they end with
    /// the process.
    pub abandoned: Vec<Abandoned>,
    /// Providers whose fetch or pools whose verification was still running.
    pub unfinished: Vec<Arc<str>>,
    /// Providers with the number of leases that they did not release in time. Those expire
    /// by themselves.
    pub unreleased: Vec<(Arc<str>, usize)>,
    /// Duration of the shutdown.
    pub took: Duration,
}

/// A generation whose connections were not all returned in time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Abandoned {
    /// The pool.
    pub pool: Arc<str>,
    /// The generation.
    pub generation: u64,
    /// Number of its connections that were left.
    pub connections: u32,
}
