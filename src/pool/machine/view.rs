//! Read access to the machine, for the rest of the pool.

use std::time::Instant;

use super::active::{Active, Drain, Standing};
use super::input::{LeaseFacts, Purpose};
use super::{PoolMachine, Service};
use crate::clock::Timestamp;
use crate::error::ConnectErrorKind;
use crate::expiry::Expiry;
use crate::lease::{OldConnections, Revision};
use crate::next_attempt::NextAttempt;
use crate::pool::settings::HandoverPolicy;

impl PoolMachine {
    /// Returns the current generation.
    pub(crate) fn current(&self) -> Option<&Active> {
        match &self.service {
            Service::Active(active) => Some(active),
            Service::Vacant | Service::Closed => None,
        }
    }

    /// Returns the revision that the pool serves and does not verify again.
    pub(crate) fn served_revision(&self) -> Option<&Revision> {
        let accepted = self.current().filter(|active| !active.is_rejected());
        accepted.map(|active| &active.lease.revision)
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.service, Service::Closed)
    }

    pub(crate) fn has_attempt(&self) -> bool {
        self.attempt.is_some()
    }

    pub(crate) fn drains(&self) -> &[Drain] {
        &self.drains
    }

    /// Returns the kind of the last error, until a verification works.
    pub(crate) fn failure(&self) -> Option<ConnectErrorKind> {
        self.failure
    }

    /// Returns whether logins with the active credentials fail for an unknown reason.
    pub(crate) fn has_unknown_login_error(&self) -> bool {
        self.current()
            .is_some_and(|active| active.standing == Standing::Unexplained)
    }

    /// Returns whether a handover to this revision is tried in place. A rejected revision that
    /// works again can keep its pool.
    pub(crate) fn tries_in_place(&self, revision: &Revision, policy: HandoverPolicy) -> bool {
        self.current().is_some_and(|active| {
            let is_same = active.lease.revision == *revision;
            match policy {
                HandoverPolicy::AlwaysInPlace => true,
                HandoverPolicy::AlwaysReplace => is_same,
                HandoverPolicy::AsLeased => {
                    is_same
                        || matches!(
                            active.lease.old_connections,
                            OldConnections::Keep | OldConnections::Reauthenticate
                        )
                }
            }
        })
    }

    /// Returns how many connections are opened before publication: `wanted` without an old
    /// generation, one after a rejection. Otherwise the overlap limits them, less one for a
    /// verification. Older generations that still have connections (`has_old`) use it up.
    pub(crate) fn ahead_of_demand(&self, has_old: bool, wanted: u32, overlap: u32) -> u32 {
        match self.current() {
            _ if has_old => 0,
            None => wanted,
            Some(active) if !active.is_accepted() => 1,
            Some(_) => wanted.max(1).min(overlap.saturating_sub(1)),
        }
    }

    /// Returns when the provider's lease is verified next, if it waits for the login budget.
    pub(crate) fn waits_for_budget_until(&self, now: Timestamp) -> Option<Instant> {
        let waits = self.attempt.is_none() && self.next_verification(now).is_some();
        let lease = self.usable_lease(now).filter(|_| waits)?;
        self.budget.held_back_until(lease, now.mono())
    }

    /// Returns when this pool's next attempt that may help callers begins. `lease` is the revision
    /// and the expiry of the provider's current lease.
    pub(crate) fn next_attempt(
        &self,
        lease: Option<(&Revision, Expiry)>,
        now: Timestamp,
    ) -> NextAttempt {
        if self.is_closed() {
            return NextAttempt::Never;
        }
        let is_new = self
            .current()
            .is_some_and(|active| matches!(active.standing, Standing::NewlyRejected { .. }));
        if is_new || self.has_attempt() {
            return NextAttempt::Running;
        }
        let Some((revision, expiry)) = lease.filter(|(_, expiry)| !expiry.is_expired(now)) else {
            return NextAttempt::Never;
        };
        // The next wake handles another lease.
        let is_known = |known: &LeaseFacts| known.revision == *revision && known.expiry == expiry;
        if self.roll_back.is_none() && !self.lease.as_ref().is_some_and(is_known) {
            return NextAttempt::Running;
        }
        match self.next_verification_after_rehearsal(now) {
            Some((at, Purpose::HandOver)) if at > now.mono() => NextAttempt::Due(at),
            Some((_, Purpose::HandOver)) => NextAttempt::Running,
            Some((_, Purpose::Check)) | None => NextAttempt::Never,
        }
    }
}
