//! A rollback: the pool serves its previous lease in place of the provider's current one.

use std::time::Instant;

use super::active::Standing;
use super::input::{LeaseFacts, PoolEffect, Purpose};
use super::{PoolMachine, Service, Step};
use crate::clock::Timestamp;
use crate::expiry::Expiry;
use crate::lease::Revision;

/// The lease that the pool was returned to.
#[derive(Debug)]
pub(super) struct RollBack {
    lease: LeaseFacts,
    /// When the pool leaves the lease, so that connections close before it expires.
    until: Expiry,
    /// Whether a generation with it was published. Until then, one attempt decides.
    is_published: bool,
    /// Number of the provider's hold that began with it. Another one may follow before a wake.
    hold: Option<u64>,
}

/// Reason why a pool cannot be rolled back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRollBack {
    /// It has served one lease only.
    NoPrevious,
    /// The previous lease is the provider's current one, which the pool does not serve yet.
    Current,
    /// It was rolled back, and the provider was not resumed since.
    RolledBack,
    /// The previous lease is released, or being released.
    Released,
    /// The previous lease has expired, or expires so soon that a handover would be in vain.
    Expires,
}

impl PoolMachine {
    /// Returns the lease that was served before the current one. `current` is the provider's
    /// current revision, which is not returned to: the handover to it has not ended.
    pub(crate) fn previous_lease(
        &self,
        current: Option<&Revision>,
    ) -> Result<&LeaseFacts, NoRollBack> {
        if self.roll_back.is_some() {
            return Err(NoRollBack::RolledBack);
        }
        let previous = self.previous_lease.as_ref();
        let previous = previous
            .filter(|_| self.current().is_some())
            .ok_or(NoRollBack::NoPrevious)?;
        if current == Some(&previous.revision) {
            return Err(NoRollBack::Current);
        }
        Ok(previous)
    }

    /// Returns whether a generation serves the previous lease.
    pub(crate) fn is_rolled_back(&self) -> bool {
        self.roll_back.as_ref().is_some_and(|one| one.is_published)
    }

    /// Returns whether a rollback is under way, or its generation is published.
    pub(crate) fn has_rollback(&self) -> bool {
        self.roll_back.is_some()
    }

    /// Returns whether a publication is being reported.
    pub(crate) fn is_reporting(&self) -> bool {
        let attempt = self.attempt.as_ref();
        attempt.is_some_and(|attempt| attempt.step == Step::Reporting)
    }

    /// Returns whether the pool was returned to this revision, or is being returned to it.
    pub(crate) fn rolls_back_to(&self, revision: &Revision) -> bool {
        self.roll_back
            .as_ref()
            .is_some_and(|one| one.lease.revision == *revision)
    }

    pub(super) fn begin_roll_back(&mut self, lease: LeaseFacts, until: Expiry) {
        if self.roll_back.is_none() && matches!(self.service, Service::Active(_)) {
            self.roll_back = Some(RollBack {
                lease,
                until,
                is_published: false,
                hold: None,
            });
            self.effects.push(PoolEffect::Wake);
        } else {
            self.effects.push(PoolEffect::RollBackFailed);
        }
    }

    pub(super) fn abandon_roll_back(&mut self) {
        let runs = self
            .attempt
            .as_ref()
            .is_some_and(|attempt| self.rolls_back_to(&attempt.lease.revision));
        if !runs {
            self.roll_back_failed();
        }
    }

    /// Ends a rollback that has not published its lease.
    pub(super) fn roll_back_failed(&mut self) {
        if self.roll_back.take_if(|one| !one.is_published).is_some() {
            self.effects
                .extend([PoolEffect::RollBackFailed, PoolEffect::Wake]);
        }
    }

    /// Returns whether the current attempt hands over another lease than that of an unpublished
    /// rollback. Such an attempt ends without a publication.
    pub(super) fn ends_for_rollback(&self) -> bool {
        let attempt = self.attempt.as_ref();
        self.roll_back.as_ref().is_some_and(|one| {
            !one.is_published
                && attempt.is_some_and(|attempt| {
                    attempt.purpose == Purpose::HandOver
                        && attempt.lease.revision != one.lease.revision
                })
        })
    }

    /// Notes that the attempt with this revision is published.
    pub(super) fn roll_back_published(&mut self, revision: &Revision) {
        if let Some(one) = &mut self.roll_back
            && one.lease.revision == *revision
        {
            one.is_published = true;
        }
    }

    /// Notes the provider's hold: the first one belongs to the rollback, which ends with it. The
    /// provider is held just before the attempt has reported its handover.
    pub(super) fn note_hold(&mut self, hold: Option<u64>) {
        let is_reporting = self.is_reporting();
        let Some(one) = self.roll_back.as_mut().filter(|one| one.is_published) else {
            return;
        };
        if hold.is_some() && one.hold.is_none() {
            one.hold = hold;
        } else if !is_reporting && (hold.is_none() || one.hold != hold) {
            self.roll_back = None;
        }
    }

    /// Replaces the provider's current lease by the previous one. One that is rejected or expires
    /// soon ends the rollback, but not before its publication is reported.
    pub(super) fn apply_roll_back(&mut self, now: Timestamp) {
        let Some(one) = &self.roll_back else {
            return;
        };
        let is_rejected = self.current().is_some_and(|active| {
            active.lease.revision == one.lease.revision && active.standing == Standing::Rejected
        });
        let is_usable = !is_rejected && !one.until.is_expired(now);
        if is_usable || self.is_reporting() {
            self.lease = Some(one.lease.clone());
        } else if one.is_published {
            self.roll_back = None;
            self.effects.push(PoolEffect::ReportRollBackEnd);
        } else {
            self.abandon_roll_back();
        }
    }

    /// Returns when the previous lease expires so soon that the rollback ends.
    pub(super) fn roll_back_ends_at(&self, now: Timestamp) -> Option<Instant> {
        let one = self
            .roll_back
            .as_ref()
            .filter(|one| one.is_published && !self.is_reporting())?;
        Some(now.mono() + one.until.remaining(now)?)
    }
}
