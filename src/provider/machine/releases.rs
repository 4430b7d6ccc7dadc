//! The release queue.

use std::time::{Duration, Instant};

use super::{Closing, Facts, FetchId, LeaseId, LeaseState, ProviderEffect, ProviderMachine, Timer};
use crate::clock::Timestamp;
use crate::error::ProviderError;
use crate::provider::schedule;

impl ProviderMachine {
    /// Puts an unused lease into the release queue, where a superseded one is kept for the time
    /// that was set. It is released at once if the provider is closed, because no wake follows.
    pub(super) fn enqueue(&mut self, lease: LeaseId, now: Instant) {
        let at = self.leases.kept_until(lease, self.kept_for, now);
        let failures = self.leases.failed_releases(lease);
        self.requeue(lease, failures, at);
        if self.phase == Closing::Closed {
            self.start_release(lease, failures);
        }
    }

    fn requeue(&mut self, lease: LeaseId, failures: u32, at: Instant) {
        if let Some(state) = self.leases.state_mut(lease) {
            *state = LeaseState::Queued { failures };
            self.timers.set(Timer::Release(lease), at);
        }
    }

    /// Adds a lease that will not be used, and enqueues its release.
    pub(super) fn release_unused(&mut self, fetch: FetchId, facts: Facts, now: Instant) {
        if let Some(lease) = self.leases.add_unused(fetch, facts, now) {
            self.effects.push(ProviderEffect::Store(lease));
            self.enqueue(lease, now);
        }
    }

    /// Starts the releases that are due. A first attempt is free. Further ones draw on the bucket,
    /// but leave a token for a fetch.
    pub(super) fn start_releases(&mut self, now: Timestamp) {
        for (lease, failures, is_given_up) in self.leases.queued(now) {
            let at = self.timers.get(Timer::Release(lease));
            if is_given_up {
                self.forget(lease);
            } else if at.is_some_and(|at| at <= now.mono())
                && (failures == 0 || self.bucket.take_spare(now.mono()))
            {
                self.start_release(lease, failures);
            }
        }
        self.leases.prune(now.mono());
    }

    fn start_release(&mut self, lease: LeaseId, failures: u32) {
        self.timers.cancel(Timer::Release(lease));
        if let Some(state) = self.leases.state_mut(lease) {
            *state = LeaseState::Releasing { failures };
            self.effects.push(ProviderEffect::Release(lease));
        }
    }

    /// Notes that a release succeeded, failed, or was lost with its runtime (no result). A
    /// permanent error is not retried, and the lease remains until it expires. If a release fails
    /// after the close, the lease stays unreleased.
    pub(super) fn release_ended(
        &mut self,
        lease: LeaseId,
        result: Option<Result<(), ProviderError>>,
        now: Instant,
    ) {
        let Some(LeaseState::Releasing { failures }) = self.leases.state_mut(lease).copied() else {
            return;
        };
        let (failures, pause) = match result {
            Some(Err(error)) if error.is_transient() || self.phase == Closing::Closed => {
                let failures = failures + 1;
                let hint = error.retry_after();
                (
                    failures,
                    schedule::retry_after(failures, false, None, hint, 0.0),
                )
            }
            Some(_) => return self.forget(lease),
            None => (failures, Duration::ZERO),
        };
        if self.leases.has_unreleased_twin(lease) {
            return self.forget(lease);
        }
        self.requeue(lease, failures, now + pause);
    }

    /// Notes that the lease is released, or given up.
    fn forget(&mut self, lease: LeaseId) {
        self.timers.cancel(Timer::Release(lease));
        if let Some(state) = self.leases.state_mut(lease) {
            *state = LeaseState::Released;
            self.effects.push(ProviderEffect::Forget(lease));
        }
    }
}
