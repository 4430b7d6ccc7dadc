//! A hold: the current lease stays, and is renewed if the provider can do that.

use std::time::Instant;

use super::{ManualReply, ProviderEffect, ProviderMachine, Timer};
use crate::clock::Timestamp;
use crate::report::RotationTrigger;

/// A hold of the provider. Ends with `Resume`.
#[derive(Debug)]
pub(super) struct Hold {
    /// Counts the provider's holds.
    number: u64,
    since: Timestamp,
    /// Whether the provider may be able to renew its lease. Ends when it reports that it is not.
    renews: bool,
    /// Whether the retry of a fetch for a hint was due when a renewal began in its place.
    retries_hint: bool,
}

impl ProviderMachine {
    /// Holds the provider, unless it is held. Manual requests end, because their fetch would not be
    /// adopted.
    pub(super) fn hold(&mut self, now: Timestamp) {
        if self.hold.is_some() {
            return;
        }
        self.holds += 1;
        self.hold = Some(Hold {
            number: self.holds,
            since: now,
            renews: true,
            retries_hint: false,
        });
        self.effects.push(ProviderEffect::ReportHold { held: true });
        if self.is_held()
            && let Some(running) = &mut self.running
        {
            self.requests.append(&mut running.requests);
        }
        self.refuse_requests_while_held();
        // They read that no fetch will help their callers.
        self.effects.push(ProviderEffect::NotifyPools);
    }

    /// Ends manual requests that wait, while no fetch may serve them.
    pub(super) fn refuse_requests_while_held(&mut self) {
        if self.is_held() {
            self.timers.cancel(Timer::Manual);
            let requests = std::mem::take(&mut self.requests);
            self.reply(requests, &ManualReply::Held);
        }
    }

    /// Notes that a renewal begins. It does not replace a fetch for a hint that failed before.
    pub(super) fn renewal_begins(&mut self) {
        let retries = self.timers.get(Timer::Retry).is_some();
        if let Some(hold) = &mut self.hold {
            hold.retries_hint |= retries && self.retry_for == RotationTrigger::Changed;
        }
    }

    /// Ends the hold. Timers that passed during it are due now, and so is a fetch if the last one
    /// failed or the lease is rejected, but never earlier than the backend requests.
    pub(super) fn resume(&mut self, now: Instant) {
        if let Some(hold) = self.hold.take() {
            let at = self.not_before.map_or(now, |earliest| earliest.max(now));
            if hold.retries_hint {
                self.retry_for = RotationTrigger::Changed;
                self.timers.set(Timer::Retry, at);
            }
            for timer in [Timer::Retry, Timer::Rejected] {
                if self.timers.get(timer).is_some() {
                    self.timers.set(timer, at);
                }
            }
            self.effects.extend([
                ProviderEffect::ReportHold { held: false },
                ProviderEffect::NotifyPools,
            ]);
        }
    }

    /// Returns when the hold began.
    pub(crate) fn held_since(&self) -> Option<Timestamp> {
        self.hold.as_ref().map(|hold| hold.since)
    }

    /// Returns the number of the hold. A later hold has another one.
    pub(crate) fn hold_number(&self) -> Option<u64> {
        self.hold.as_ref().map(|hold| hold.number)
    }

    /// Returns whether the current lease stays. Without one, a held provider obtains its first one.
    pub(crate) fn is_held(&self) -> bool {
        self.hold.is_some() && self.leases.current().is_some()
    }

    /// Returns whether this timer causes a renewal during a hold.
    pub(super) fn renews_at(&self, timer: Timer) -> bool {
        let renews = self.hold.as_ref().is_some_and(|hold| hold.renews);
        let expires = self
            .current()
            .is_some_and(|(_, current)| !current.expiry.is_never());
        renews && expires && matches!(timer, Timer::Refresh | Timer::Retry | Timer::ClockJump)
    }

    /// Notes that a renewal did not move the expiry: the provider cannot renew its lease. A fetch
    /// is due when the hold ends.
    pub(super) fn not_renewed(&mut self, now: Timestamp) {
        self.timers.set(Timer::Refresh, now.mono());
        if let Some(hold) = &mut self.hold {
            hold.renews = false;
            self.effects.push(ProviderEffect::ReportNotRenewed);
        }
    }
}
