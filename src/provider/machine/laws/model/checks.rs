//! The laws of a single effect, and of the budget.

use super::*;

impl ModelledProvider {
    /// Checks the laws that concern this effect.
    pub(super) fn check(&mut self, effect: &ProviderEffect) {
        let now = self.provider.now;
        match effect {
            ProviderEffect::OpenRotation { rotation, .. } => assert!(self.open.insert(*rotation)),
            ProviderEffect::CloseRotation { rotation, .. } => assert!(self.open.remove(rotation)),
            ProviderEffect::StartFetch {
                fetch,
                trigger,
                rotation,
                rejected,
                renews,
                ..
            } => {
                assert!(self.running.is_none() && self.hanging.len() < 3);
                assert_eq!(*renews, self.was_held, "a hold allows renewals alone");
                assert!(!self.closed && self.open.contains(rotation));
                self.check_budget(*trigger, *renews);
                for revision in rejected.iter() {
                    let at = self.rejected.get(revision);
                    let since = at.map(|at| now.mono().saturating_duration_since(*at));
                    assert!(
                        since < Some(Duration::from_secs(601)),
                        "{revision}: {since:?}"
                    );
                }
                self.running = Some((*fetch, now, *trigger));
                self.renews = *renews;
            }
            ProviderEffect::StartRehearsal { fetch, .. } => self.rehearsal_starts(*fetch),
            ProviderEffect::Rehearsed { request, result } => {
                assert!(self.waiting.remove(request));
                if let Ok(lease) = result {
                    assert!(self.stored.contains(lease));
                    self.users.push(*lease);
                }
            }
            ProviderEffect::Store(lease) => {
                self.stored.insert(*lease);
                // A lease that becomes current again has a first release attempt again.
                self.retried.remove(lease);
            }
            ProviderEffect::Extend(lease, expiry) => {
                assert!(self.stored.contains(lease));
                let current = self.current().map(|(lease, facts)| (lease, facts.expiry));
                assert_eq!(
                    current,
                    Some((*lease, *expiry)),
                    "law 4: the expiry is adopted"
                );
            }
            ProviderEffect::HandOver { lease, .. } => {
                assert!(self.stored.contains(lease));
                assert!(!self.was_held, "a held lease stays");
                assert_eq!(self.current().map(|(current, _)| current), Some(*lease));
            }
            ProviderEffect::Release(lease) => {
                assert!(self.stored.contains(lease), "law 9: released once");
                assert!(!self.releasing.contains(lease));
                assert_ne!(self.current().map(|(current, _)| current), Some(*lease));
                assert!(self.closed || !self.users.contains(lease), "law 9: in use");
                if !self.closed && self.retried.contains(lease) {
                    assert!(self.allowance.draw(now.mono()), "law 7: releases");
                }
                self.releasing.push(*lease);
            }
            ProviderEffect::Forget(lease) => {
                assert!(self.stored.remove(lease), "law 9: forgotten once");
                assert!(!self.users.contains(lease) || self.closed);
                assert_ne!(self.current().map(|(current, _)| current), Some(*lease));
            }
            ProviderEffect::Reply { request, .. } => assert!(self.waiting.remove(request)),
            ProviderEffect::Report { .. }
            | ProviderEffect::NotifyPools
            | ProviderEffect::ReportHold { .. }
            | ProviderEffect::ReportNotRenewed => {}
        }
    }

    /// Checks law 7: a fetch draws on the bucket unless a request, the schedule or a clock jump
    /// explains it.
    fn check_budget(&mut self, trigger: RotationTrigger, renews: bool) {
        let now = self.provider.now.mono();
        let is_due_by_request =
            self.requested && self.last_request.is_none_or(|last| now >= last + COALESCE);
        let is_request = matches!(trigger, RotationTrigger::Manual | RotationTrigger::Changed);
        if is_request {
            self.last_request = Some(now);
        }
        match trigger {
            _ if is_request && is_due_by_request => {}
            RotationTrigger::ClockJump if self.jumped => {}
            _ if renews && self.jumped => {}
            RotationTrigger::Start | RotationTrigger::Schedule
                if self.refresh.is_some_and(|at| at <= now) => {}
            _ => {
                if trigger == RotationTrigger::Rejected {
                    let current = self.current().map(|(_, facts)| facts.revision);
                    assert!(
                        current.is_some_and(|current| self.rejected.contains_key(&current)),
                        "law 5: only for a rejection of the current lease"
                    );
                }
                assert!(self.allowance.draw(now), "law 7: {trigger}");
            }
        }
        // A renewal serves no request.
        self.requested &= renews;
        self.jumped = false;
    }
}
