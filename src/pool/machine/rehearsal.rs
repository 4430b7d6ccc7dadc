//! A rehearsal: logins that serve nothing, beside the pool's attempts.

use std::time::Instant;

use super::active::Active;
use super::budget::Role;
use super::input::{LeaseFacts, PoolEffect};
use super::{PoolMachine, Step};

impl PoolMachine {
    /// Returns when a rehearsal may log in with this lease; `now` if nothing prevents it. It leaves
    /// free what the publication allowed callers, beside one login of an attempt.
    pub(crate) fn rehearsal_allowed_at(&self, lease: &LeaseFacts, now: Instant) -> Instant {
        let under_way = self.logins_under_way(&lease.account);
        let active = self.current();
        let is_user = active.is_some_and(|active| active.lease.account == lease.account);
        let limited = self.limited.filter(|(_, until)| is_user && now < *until);
        let of_callers = limited.map_or(0, |(width, _)| width);
        self.budget.next_at(lease, under_way + of_callers, now)
    }

    /// Returns whether its own rejection alone makes this lease wait until then.
    pub(crate) fn is_paused_until(&self, lease: &LeaseFacts, until: Instant) -> bool {
        let own_pause = self.budget.own_pause(lease);
        own_pause.is_some_and(|own_pause| own_pause >= until)
    }

    /// Returns whether an attempt or a rehearsal logs in, or may do so.
    pub(crate) fn is_verifying(&self) -> bool {
        self.attempt.is_some() || self.rehearsal.is_some()
    }

    /// Returns how many verifications may yet be rejected as this user. The budget is reserved for
    /// them.
    pub(super) fn logins_under_way(&self, account: &str) -> u32 {
        let rehearsal = self.rehearsal.as_ref();
        let rehearsal = rehearsal.filter(|lease| *lease.account == *account);
        self.attempts_under_way(account) + u32::from(rehearsal.is_some())
    }

    /// Returns how many of them are no rehearsal.
    pub(super) fn attempts_under_way(&self, account: &str) -> u32 {
        let attempt = self.attempt.as_ref();
        let attempt = attempt.filter(|attempt| attempt.step != Step::Reporting);
        u32::from(attempt.is_some_and(|attempt| *attempt.lease.account == *account))
    }

    /// Counts a rejected login of the rehearsal, if it was. It is no evidence against the current
    /// generation.
    pub(super) fn rehearsal_ended(&mut self, rejected: bool, now: Instant) {
        let Some(lease) = self.rehearsal.take() else {
            return;
        };
        // An attempt may wait for what was reserved.
        self.effects.push(PoolEffect::Wake);
        if !rejected {
            return;
        }
        let active = self.current().map(|active| &active.lease.revision);
        let role = match active {
            Some(active) if *active == lease.revision => Role::Active,
            Some(_) => Role::Candidate,
            None => Role::First,
        };
        self.budget.verification_rejected(&lease, role, now);
        if role == Role::Active && self.current().is_some_and(Active::is_accepted) {
            // Callers can still log in with it.
            self.budget.cancel(&lease);
        }
    }
}
