//! Starts the fetch and the releases that are due at a wake.

use std::time::Instant;

use super::{
    Closing, FetchId, JUMP, LoginEvidence, MAX_HANGING, ManualReply, ProviderEffect,
    ProviderMachine, RotationId, RunningFetch, Timer, running_for,
};
use crate::clock::Timestamp;
use crate::error::{ProviderError, ProviderErrorKind};
use crate::report::RotationTrigger;

impl ProviderMachine {
    pub(super) fn wake(&mut self, now: Timestamp) {
        let mono = now.mono();
        if now.skew_since(&self.last_wake) > JUMP {
            self.timers.set(Timer::ClockJump, mono);
        }
        self.last_wake = now;
        if self.phase != Closing::Open {
            return;
        }
        self.fail_blocked_requests(mono);
        let is_due = |&(timer, at): &(Timer, Instant)| {
            timer.is_for_a_fetch() && self.due_at(timer, at).is_some_and(|at| at <= mono)
        };
        // One fetch serves all timers that are due; the first one decides its trigger.
        let due = self.timers.iter().find(is_due);
        if let Some((timer, _)) = due {
            self.start_fetch(timer, now);
        }
        self.start_rehearsal(now);
        self.start_releases(now);
    }

    fn start_fetch(&mut self, timer: Timer, now: Timestamp) {
        if matches!(timer, Timer::Rejected | Timer::Retry) && !self.bucket.take(now.mono()) {
            return;
        }
        let renews = self.is_held();
        if renews {
            self.renewal_begins();
        }
        let trigger = match timer {
            Timer::ClockJump => RotationTrigger::ClockJump,
            _ if renews => RotationTrigger::Schedule,
            Timer::Manual => RotationTrigger::Manual,
            Timer::Hint => RotationTrigger::Changed,
            Timer::Rejected => RotationTrigger::Rejected,
            Timer::Retry
                if self.retry_for != RotationTrigger::Rejected || self.is_rejected(now.mono()) =>
            {
                self.retry_for
            }
            _ if self.leases.current().is_none() => RotationTrigger::Start,
            _ => RotationTrigger::Schedule,
        };
        if matches!(trigger, RotationTrigger::Manual | RotationTrigger::Changed) {
            self.last_hinted = Some(now.mono());
        }
        self.timers.cancel(Timer::ClockJump);
        if !renews {
            self.timers.cancel(Timer::Manual);
            self.timers.cancel(Timer::Hint);
        }
        self.fetches += 1;
        let fetch = FetchId(self.fetches);
        let rotation = self.fetching.unwrap_or_else(|| {
            let rotation = RotationId(self.fetches);
            self.effects
                .push(ProviderEffect::OpenRotation { rotation, trigger });
            rotation
        });
        self.fetching = Some(rotation);
        let requests = std::mem::take(&mut self.requests);
        let rejected = self.exclusions.active(now.mono());
        let lists_current = rejected
            .iter()
            .any(|revision| self.leases.is_current(revision));
        self.effects.push(ProviderEffect::StartFetch {
            fetch,
            trigger,
            rotation,
            requests: requests.clone(),
            rejected,
            renews,
        });
        self.running = Some(RunningFetch {
            fetch,
            started: now,
            trigger,
            requests,
            renews,
            lists_current,
            evidence: LoginEvidence::None,
        });
    }

    /// Fails manual requests while as many fetches hang as are allowed.
    fn fail_blocked_requests(&mut self, now: Instant) {
        if self.hanging.len() < MAX_HANGING || self.requests.is_empty() {
            return;
        }
        self.timers.cancel(Timer::Manual);
        let oldest = self.hanging.values().min_by_key(|began| began.mono());
        let oldest = oldest.map(|began| running_for(began, now).to_string());
        let error = ProviderError::new(
            ProviderErrorKind::TimedOut,
            format!(
                "{MAX_HANGING} fetches have not ended, the first for {}; no other begins until \
                 one of them ends; set a timeout for the provider's own calls",
                oldest.unwrap_or_default()
            ),
        );
        let requests = std::mem::take(&mut self.requests);
        self.reply(requests, &ManualReply::Failed(error));
    }
}
