//! The current generation: whether its credentials are accepted, and whether its connections work.
//! Also the generations that drain.

use std::time::{Duration, Instant};

use super::input::LeaseFacts;
use crate::clock::Timestamp;
use crate::lease::OldConnections;

/// Time between two probes of an idle connection, when the lease ends its connections.
const PROBE_EVERY: Duration = Duration::from_secs(30);
/// Time between two probes while connections are unverified. The first probe of a generation has
/// no wait.
const PROBE_UNVERIFIED: Duration = Duration::from_secs(10);
/// Shortest time from the last error to the start of a probe that verifies the connections.
/// Backends end a user's connections and drop the user at nearly the same time, in either order.
const VERIFIES_AFTER: Duration = Duration::from_secs(2);
/// Leases that are rejected within this time of their verification are verified again before the
/// rejection is reported. One of several servers behind an address may lag.
const JUST_VERIFIED: Duration = Duration::from_secs(10);

/// Whether the database accepts the active credentials, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Ends with a rejection, with a check that fails without a known reason, or with the next
    /// generation.
    Accepted,
    /// The last check ended with an error that every login may get. Ends with a check that works,
    /// with a rejection, or with the next generation.
    Unexplained,
    /// A rejection arrived. Ends with the next wake. `Unconfirmed` follows if another verification
    /// succeeded recently and none found the rejection; otherwise `Rejected` follows.
    NewlyRejected { by_verification: bool },
    /// Rejected shortly after a verification. Ends with the next verification, or with a wake if
    /// none can run soon.
    Unconfirmed,
    /// Ends with the next generation.
    Rejected,
}

/// The current generation.
#[derive(Clone, Debug)]
pub(crate) struct Active {
    pub(crate) generation: u64,
    pub(crate) lease: LeaseFacts,
    pub(crate) lifetime: Option<Duration>,
    pub(crate) verified: Timestamp,
    pub(crate) standing: Standing,
    /// Time of the last error that an expired role would explain. Reset by a probe that passes late
    /// enough.
    pub(super) unverified: Option<Instant>,
    /// Time at which the last probe began.
    pub(super) last_probe: Option<Instant>,
}

/// A generation that drains. Only `Drained` removes it, however late that is.
#[derive(Clone, Debug)]
pub(crate) struct Drain {
    pub(crate) generation: u64,
    pub(super) lease: LeaseFacts,
    pub(super) since: Instant,
    pub(super) deadline: Instant,
    /// Whether a task drains it. Reset by `DrainLost`, when the task's runtime ended.
    pub(super) has_task: bool,
    /// Whether it was reported that connections outlive the deadline.
    pub(crate) abandoned: bool,
}

impl Active {
    pub(super) fn new(
        generation: u64,
        lease: LeaseFacts,
        lifetime: Option<Duration>,
        now: Timestamp,
    ) -> Self {
        Self {
            generation,
            lease,
            lifetime,
            verified: now,
            standing: Standing::Accepted,
            unverified: None,
            last_probe: None,
        }
    }

    /// Returns whether callers log in with it.
    pub(crate) fn is_accepted(&self) -> bool {
        matches!(self.standing, Standing::Accepted | Standing::Unexplained)
    }

    /// Returns whether a wake has handled its rejection.
    pub(crate) fn is_rejected(&self) -> bool {
        matches!(self.standing, Standing::Unconfirmed | Standing::Rejected)
    }

    pub(super) fn ends_its_connections(&self) -> bool {
        self.lease.old_connections == OldConnections::EndWithLease
    }

    /// Decides whether a rejection that arrived is confirmed. Returns `None` if none arrived.
    pub(super) fn take_new_rejection(&mut self, now: Timestamp) -> Option<Standing> {
        let Standing::NewlyRejected { by_verification } = self.standing else {
            return None;
        };
        let age = now.mono().saturating_duration_since(self.verified.mono());
        self.standing = if by_verification || age >= JUST_VERIFIED {
            Standing::Rejected
        } else {
            Standing::Unconfirmed
        };
        Some(self.standing)
    }

    /// Returns when a connection is probed next, if at all.
    pub(super) fn probe_at(&self, now: Timestamp) -> Option<Instant> {
        if !self.ends_its_connections() || !self.is_accepted() || self.lease.expiry.is_expired(now)
        {
            return None;
        }
        Some(match (self.unverified, self.last_probe) {
            (Some(_), None) => now.mono(),
            (Some(_), Some(last)) => last + PROBE_UNVERIFIED,
            (None, last) => last.unwrap_or(self.verified.mono()) + PROBE_EVERY,
        })
    }

    /// Handles a passed probe. Returns whether it verified the connections: it must have begun long
    /// enough after the last error.
    pub(super) fn probe_passed(&mut self) -> bool {
        let is_verified = matches!(
            (self.unverified, self.last_probe),
            (Some(last), Some(began)) if began.saturating_duration_since(last) >= VERIFIES_AFTER
        );
        if is_verified {
            self.unverified = None;
        }
        is_verified
    }
}
