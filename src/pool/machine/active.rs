//! The current generation: whether its credentials are accepted, and whether its connections work.

use std::time::{Duration, Instant};

use super::input::LeaseFacts;
use crate::clock::Timestamp;
use crate::lease::OldConnections;

/// Time between two probes of an idle connection, when the lease ends its connections.
const PROBE_EVERY: Duration = Duration::from_secs(30);
/// The same while connections are under suspicion. The first suspicion of a generation leads to a
/// probe at once.
const PROBE_SUSPECT: Duration = Duration::from_secs(10);
/// Time after the last suspicion from which a passed probe clears it. Backends end a user's
/// connections and drop the user at nearly the same time, in either order.
const SETTLED_AFTER: Duration = Duration::from_secs(2);
/// Leases that are rejected within this time of their verification are verified again before the
/// rejection is reported. One of several servers behind an address may lag.
const JUST_VERIFIED: Duration = Duration::from_secs(10);

/// Whether the database accepts the active credentials, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Left by a rejection, by a check that fails for an unknown reason, or by the next generation.
    Accepted,
    /// The last check ended with an error that every login may get. Left by a check that works, by
    /// a rejection, or by the next generation.
    Unexplained,
    /// A rejection arrived. Left by the next wake: for `Rejected` if a verification found it, or
    /// if the last verification is not recent, else for `Doubted`.
    Noticed { by_verification: bool },
    /// Rejected shortly after a verification. Left by the next verification.
    Doubted,
    /// Left by the next generation.
    Rejected,
}

/// Whether the backend may have ended the generation's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Suspicion {
    /// Left by an ended connection.
    None,
    /// Left by a probe that passes late enough, if no further suspicion followed.
    Open { count: u64, last: Instant },
}

/// A probe that runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probing {
    pub(super) generation: u64,
    seen: Suspicion,
    began: Instant,
}

/// The current generation.
#[derive(Clone, Debug)]
pub(crate) struct Active {
    pub(crate) generation: u64,
    pub(crate) lease: LeaseFacts,
    pub(crate) lifetime: Option<Duration>,
    pub(crate) verified: Timestamp,
    pub(crate) standing: Standing,
    suspicion: Suspicion,
    last_probe: Option<Instant>,
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
            suspicion: Suspicion::None,
            last_probe: None,
        }
    }

    /// Returns whether callers log in with it.
    pub(crate) fn is_accepted(&self) -> bool {
        matches!(self.standing, Standing::Accepted | Standing::Unexplained)
    }

    /// Returns whether a wake has handled its rejection.
    pub(crate) fn is_rejected(&self) -> bool {
        matches!(self.standing, Standing::Doubted | Standing::Rejected)
    }

    pub(super) fn ends_its_connections(&self) -> bool {
        self.lease.old_connections == OldConnections::EndWithLease
    }

    /// Decides whether a rejection that arrived is doubted. Returns `None` if none arrived.
    pub(super) fn take_noticed_rejection(&mut self, now: Timestamp) -> Option<Standing> {
        let Standing::Noticed { by_verification } = self.standing else {
            return None;
        };
        let age = now.mono().saturating_duration_since(self.verified.mono());
        self.standing = if by_verification || age >= JUST_VERIFIED {
            Standing::Rejected
        } else {
            Standing::Doubted
        };
        Some(self.standing)
    }

    pub(super) fn suspect(&mut self, now: Timestamp) {
        let before = match self.suspicion {
            Suspicion::None => 0,
            Suspicion::Open { count, .. } => count,
        };
        self.suspicion = Suspicion::Open {
            count: before + 1,
            last: now.mono(),
        };
    }

    /// Returns when a connection is probed next, if at all.
    pub(super) fn probe_at(&self, now: Timestamp) -> Option<Instant> {
        if !self.ends_its_connections() || !self.is_accepted() || self.lease.expiry.is_expired(now)
        {
            return None;
        }
        Some(match (self.suspicion, self.last_probe) {
            (Suspicion::Open { .. }, None) => now.mono(),
            (Suspicion::Open { .. }, Some(last)) => last + PROBE_SUSPECT,
            (Suspicion::None, last) => last.unwrap_or(self.verified.mono()) + PROBE_EVERY,
        })
    }

    pub(super) fn begin_probe(&mut self, now: Timestamp) -> Probing {
        self.last_probe = Some(now.mono());
        Probing {
            generation: self.generation,
            seen: self.suspicion,
            began: now.mono(),
        }
    }

    /// Handles a probe that passed. Returns whether it cleared a suspicion.
    pub(super) fn probe_passed(&mut self, probe: Probing) -> bool {
        let Suspicion::Open { last, .. } = probe.seen else {
            return false;
        };
        let is_late = probe.began.saturating_duration_since(last) >= SETTLED_AFTER;
        let is_settled = is_late && self.suspicion == probe.seen;
        if is_settled {
            self.suspicion = Suspicion::None;
        }
        is_settled
    }
}
