//! Outcome of a fetch: a lease that is adopted or not, or a failure and the next attempt.

use std::time::{Duration, Instant};

use super::{
    COALESCE, Closing, Facts, FetchId, FetchOutcome, LoginEvidence, ManualReply, Offer,
    ProviderEffect, ProviderMachine, RequestId, RunningFetch, Timer,
};
use crate::clock::Timestamp;
use crate::error::ProviderError;
use crate::expiry::Expiry;
use crate::provider::schedule;
use crate::report::{RotationOutcome, RotationTrigger};

/// Largest difference at which two expiries count as equal.
const EXPIRY_TOLERANCE: Duration = Duration::from_secs(1);

impl ProviderMachine {
    pub(super) fn fetch_ended(
        &mut self,
        fetch: FetchId,
        result: Result<Offer, ProviderError>,
        jitter: f64,
        now: Timestamp,
    ) {
        if let Some(mut running) = self.running.take_if(|running| running.fetch == fetch) {
            let outcome = match result.and_then(|offer| self.reject_expired(offer, now)) {
                Err(error) => {
                    self.fetch_failed(running.trigger, error.clone(), now, jitter);
                    FetchOutcome::Failed(error)
                }
                Ok(offer) => self.handle_offer(offer, &mut running, now, jitter),
            };
            self.advance_rotation(outcome, running.requests, now.mono());
        }
        // Repeated for a fetch that has ended before, because a panic may have lost its effects.
        self.effects.push(ProviderEffect::NotifyPools);
    }

    /// Advances the rotation: to its handover, its end or its next attempt.
    fn advance_rotation(&mut self, outcome: FetchOutcome, requests: Vec<RequestId>, now: Instant) {
        let rotation = self.fetching;
        let mut superseded = None;
        match &outcome {
            FetchOutcome::Failed(_) => {}
            FetchOutcome::Adopted => {
                superseded = self.handing_over.take();
                self.handing_over = self.fetching.take();
            }
            _ if self.is_rejected(now) => {}
            _ => self.fetching = None,
        }
        self.close_rotation(superseded, RotationOutcome::Superseded);
        let failure = match &outcome {
            FetchOutcome::Failed(error) => Some(error.clone()),
            _ => None,
        };
        let hands_over = matches!(outcome, FetchOutcome::Adopted);
        self.effects
            .push(ProviderEffect::Report { outcome, rotation });
        if let Some((rotation, (lease, _))) = rotation.filter(|_| hands_over).zip(self.current()) {
            self.effects
                .push(ProviderEffect::HandOver { rotation, lease });
        }
        let reply = match (failure, self.handing_over, rotation) {
            (Some(error), ..) => ManualReply::Failed(error),
            (None, Some(earlier), _) if Some(earlier) != rotation => ManualReply::Earlier(earlier),
            (None, _, Some(rotation)) => ManualReply::Rotation(rotation),
            (None, _, None) => ManualReply::Abandoned,
        };
        self.reply(requests, &reply);
        if self.fetching.is_none() && !hands_over {
            self.close_rotation(rotation, RotationOutcome::Unchanged);
        }
    }

    fn fetch_failed(
        &mut self,
        trigger: RotationTrigger,
        error: ProviderError,
        now: Timestamp,
        jitter: f64,
    ) {
        self.failures = self.failures.saturating_add(1);
        let left = self
            .current()
            .and_then(|(_, current)| current.expiry.remaining(now));
        let is_permanent = !error.is_transient();
        let pause = schedule::retry_after(
            self.failures,
            is_permanent,
            left,
            error.retry_after(),
            jitter,
        );
        let at = now.mono() + pause;
        self.not_before = error.retry_after().map(|hint| now.mono() + hint);
        // A manual request has failed, and its caller received the error. The retry must not create
        // a new credential.
        self.retry_for = if trigger == RotationTrigger::Manual {
            RotationTrigger::Schedule
        } else {
            trigger
        };
        self.timers.set(Timer::Retry, at);
        self.timers.cancel(Timer::Refresh);
        if self.timers.get(Timer::Rejected).is_some() {
            self.timers.set(Timer::Rejected, at);
        }
        self.last_error = Some(error);
    }

    fn handle_offer(
        &mut self,
        offer: Offer,
        running: &mut RunningFetch,
        now: Timestamp,
        jitter: f64,
    ) -> FetchOutcome {
        self.last_error = None;
        let mono = now.mono();
        let has_expired = self
            .current()
            .is_none_or(|(_, current)| current.expiry.is_expired(now));
        let facts = match offer {
            Offer::New(facts) if self.phase == Closing::Closed => {
                self.release_unused(running.fetch, facts, mono);
                return FetchOutcome::Unchanged;
            }
            // The fetch began before the hold. Another one is due when the hold ends.
            Offer::New(facts) if self.is_held() && !self.leases.is_current(&facts.revision) => {
                self.release_unused(running.fetch, facts, mono);
                self.timers.set_unless_set(Timer::Hint, mono);
                return FetchOutcome::Unchanged;
            }
            Offer::New(facts) if !self.leases.is_current(&facts.revision) => facts,
            renewal => {
                let moves_nothing = match renewal {
                    Offer::Unchanged => true,
                    Offer::Renewed(expiry) => !self.is_later(expiry, now),
                    Offer::New(_) => false,
                };
                self.timers.cancel(Timer::Retry);
                self.renew(renewal, running.started, jitter);
                if running.renews && moves_nothing {
                    self.not_renewed(now);
                }
                self.fetch_again_while_rejected(&running.evidence, mono, jitter);
                return FetchOutcome::Unchanged;
            }
        };
        if running.evidence == LoginEvidence::Verified && !has_expired {
            // The lease may be a candidate that is no longer needed. The next fetch is for the same
            // requests.
            self.release_unused(running.fetch, facts, mono);
            if running.requests.is_empty() {
                self.retry_for = RotationTrigger::Schedule;
                self.timers.set(Timer::Retry, mono + schedule::MIN_INTERVAL);
            } else {
                self.requests.append(&mut running.requests);
                self.timers.set(Timer::Manual, mono + COALESCE);
            }
            return FetchOutcome::Unchanged;
        }
        self.timers.cancel(Timer::Retry);
        // An unverified lease need not stay: it may be a wrong secret that was corrected.
        let is_verified = self
            .leases
            .current()
            .is_some_and(|(_, current)| current.verified);
        let stays = is_verified && !has_expired && !self.is_rejected(mono);
        let superseded = self
            .leases
            .superseded(&facts.revision, mono)
            .filter(|_| stays);
        let outcome = if let Some(old) = superseded {
            let is_news = !std::mem::replace(&mut old.offered_again, true);
            self.renew(Offer::Unchanged, running.started, jitter);
            // A superseded revision must not cause fetches more often than this.
            let at_least = mono + schedule::MAX_RETRY;
            let at = self.timers.get(Timer::Refresh);
            self.timers
                .set(Timer::Refresh, at.map_or(at_least, |at| at.max(at_least)));
            FetchOutcome::Stale { is_news }
        } else {
            self.adopt(facts, running, mono, jitter);
            FetchOutcome::Adopted
        };
        self.fetch_again_while_rejected(&running.evidence, mono, jitter);
        outcome
    }

    /// Returns whether this expiry is later than the current one, or as far away as after the last
    /// renewal. Backends count in whole seconds. So the expiry of a lease at its maximum lifetime may
    /// differ by one.
    fn is_later(&self, expiry: Expiry, now: Timestamp) -> bool {
        let whole = self.lifetime();
        let current = self
            .current()
            .and_then(|(_, one)| one.expiry.remaining(now));
        match (expiry.remaining(now), current) {
            (Some(left), Some(before)) => {
                let tolerance = EXPIRY_TOLERANCE.min(left / 4);
                left > before + tolerance || whole.is_some_and(|whole| left + tolerance >= whole)
            }
            (None, Some(_)) => true,
            (_, None) => false,
        }
    }

    fn adopt(&mut self, facts: Facts, running: &RunningFetch, now: Instant, jitter: f64) {
        let renewal = Offer::New(facts.clone());
        let (lease, unused) = self.leases.adopt(running.fetch, facts, now);
        self.timers.cancel(Timer::Release(lease));
        self.renew(renewal, running.started, jitter);
        if let Some(unused) = unused {
            self.enqueue(unused, now);
        }
        // A held provider obtains its first lease only.
        self.refuse_requests_while_held();
    }

    /// Updates the current lease and schedules its refresh.
    fn renew(&mut self, offer: Offer, started: Timestamp, jitter: f64) {
        let Some((lease, current)) = self.leases.current_mut() else {
            return;
        };
        match offer {
            Offer::New(facts) => {
                current.lifetime = facts.expiry.remaining(started);
                current.facts = facts;
                self.effects.push(ProviderEffect::Store(lease));
            }
            Offer::Renewed(expiry) => {
                current.lifetime = expiry.remaining(started);
                current.facts.expiry = expiry;
                self.effects.push(ProviderEffect::Extend(lease, expiry));
            }
            Offer::Unchanged => {}
        }
        let after = schedule::refresh_after(&current.facts, started, self.poll, jitter);
        self.timers.set(Timer::Refresh, started.mono() + after);
    }

    /// Schedules another fetch while the current lease is rejected: with backoff, or at once if
    /// the fetched lease may be older than the rejection.
    fn fetch_again_while_rejected(&mut self, evidence: &LoginEvidence, now: Instant, jitter: f64) {
        if !self.is_rejected(now) {
            self.failures = 0;
            self.timers.cancel(Timer::Rejected);
        } else if *evidence == LoginEvidence::Rejected {
            self.timers.set(Timer::Rejected, now);
        } else {
            self.failures = self.failures.saturating_add(1);
            let pause = schedule::retry_after(self.failures, false, None, None, jitter);
            self.timers.set(Timer::Rejected, now + pause);
        }
    }
}
