//! A rehearsal: a fetch whose lease is verified, and neither current nor handed over. It runs
//! beside other fetches, so that none waits for it.

use std::time::Instant;

use super::leases::LeaseRecord;
use super::{
    COALESCE, Closing, Facts, FetchId, LeaseId, LeaseState, Offer, ProviderEffect, ProviderMachine,
    RequestId, Timer, running_for,
};
use crate::clock::Timestamp;
use crate::error::{ProviderError, ProviderErrorKind};

/// Leases with a failed release at which no rehearsal begins. Each may leave another one, until
/// that expires.
const MAX_FAILING_RELEASES: usize = 8;

/// Requests for a rehearsal, and the fetch that serves them.
#[derive(Debug, Default)]
pub(super) struct Rehearsals {
    /// Those that wait for a fetch.
    waiting: Vec<RequestId>,
    fetch: Option<RehearsalFetch>,
}

/// The fetch of a rehearsal; there is one at most.
#[derive(Debug)]
struct RehearsalFetch {
    fetch: FetchId,
    started: Timestamp,
    /// Those that it serves.
    requests: Vec<RequestId>,
    /// Whether it is past its deadline. Requests fail until it ends.
    hangs: bool,
}

impl Rehearsals {
    /// Returns whether a fetch runs that is within its deadline.
    pub(super) fn is_fetching(&self) -> bool {
        self.fetch.as_ref().is_some_and(|fetch| !fetch.hangs)
    }

    /// Returns whether the fetch with this number serves a rehearsal.
    pub(super) fn has(&self, fetch: FetchId) -> bool {
        self.fetch.as_ref().is_some_and(|one| one.fetch == fetch)
    }
}

impl ProviderMachine {
    pub(super) fn request_rehearsal(&mut self, request: RequestId, now: Instant) {
        if self.phase == Closing::Open {
            self.rehearsals.waiting.push(request);
            self.timers.set_unless_set(Timer::Rehearsal, now);
        } else {
            self.fail_rehearsals(vec![request], None);
        }
    }

    /// Returns when a rehearsal that is due at this time begins, or fails because one hangs.
    pub(super) fn rehearsal_due_at(&self, at: Instant) -> Option<Instant> {
        match &self.rehearsals.fetch {
            Some(fetch) => fetch.hangs.then_some(at),
            None => Some(self.last_hinted.map_or(at, |last| at.max(last + COALESCE))),
        }
    }

    /// Starts the fetch of a rehearsal, if it is due. One serves all requests.
    pub(super) fn start_rehearsal(&mut self, now: Timestamp) {
        let at = self.timers.get(Timer::Rehearsal);
        let due = at.and_then(|at| self.due_at(Timer::Rehearsal, at));
        if due.is_none_or(|due| due > now.mono()) {
            return;
        }
        self.timers.cancel(Timer::Rehearsal);
        let requests = std::mem::take(&mut self.rehearsals.waiting);
        if let Some(hanging) = &self.rehearsals.fetch {
            let error = ProviderError::new(
                ProviderErrorKind::TimedOut,
                format!(
                    "an earlier rehearsal's fetch has not ended for {}; no other begins until it \
                     ends; set a timeout for the provider's own calls",
                    running_for(&hanging.started, now.mono())
                ),
            );
            return self.fail_rehearsals(requests, Some(&error));
        }
        let has_failed = |record: &&LeaseRecord| match record.state {
            LeaseState::Queued { failures } | LeaseState::Releasing { failures } => failures > 0,
            _ => false,
        };
        let failing = self.leases.in_queue().filter(has_failed).count();
        if failing >= MAX_FAILING_RELEASES {
            let error = ProviderError::new(
                ProviderErrorKind::Unavailable,
                format!(
                    "{failing} leases could not be released yet, and a rehearsal may leave another \
                     one; rehearse when fewer than {MAX_FAILING_RELEASES} are left"
                ),
            );
            return self.fail_rehearsals(requests, Some(&error));
        }
        self.last_hinted = Some(now.mono());
        self.fetches += 1;
        let fetch = FetchId(self.fetches);
        self.effects.push(ProviderEffect::StartRehearsal {
            fetch,
            rejected: self.exclusions.active(now.mono()),
        });
        self.rehearsals.fetch = Some(RehearsalFetch {
            fetch,
            started: now,
            requests,
            hangs: false,
        });
    }

    /// Replies to the requests of a rehearsal. Its lease is in use until they have returned it.
    pub(super) fn rehearsed(
        &mut self,
        fetch: FetchId,
        result: Result<Offer, ProviderError>,
        now: Timestamp,
    ) {
        let requests = self.end_rehearsal();
        let lease = match result.and_then(|offer| self.reject_expired(offer, now)) {
            Err(error) => return self.fail_rehearsals(requests, Some(&error)),
            // The close has ended the requests.
            Ok(Offer::New(facts)) if requests.is_empty() => {
                return self.release_unused(fetch, facts, now.mono());
            }
            Ok(Offer::New(facts)) => Some(self.add_rehearsed(fetch, facts, now.mono())),
            Ok(Offer::Renewed(_) | Offer::Unchanged) => self.current().map(|(lease, _)| lease),
        };
        let Some(lease) = lease else {
            return self.fail_rehearsals(requests, None);
        };
        for request in requests {
            self.leases.taken(lease);
            self.effects.push(ProviderEffect::Rehearsed {
                request,
                result: Ok(lease),
            });
        }
    }

    fn add_rehearsed(&mut self, fetch: FetchId, facts: Facts, now: Instant) -> LeaseId {
        let (lease, is_new) = self.leases.add_rehearsed(fetch, facts, now);
        self.timers.cancel(Timer::Release(lease));
        if is_new {
            self.effects.push(ProviderEffect::Store(lease));
        }
        lease
    }

    /// Fails the requests of the fetch, which is past its deadline.
    pub(super) fn rehearsal_hangs(&mut self, error: &ProviderError) {
        if let Some(running) = &mut self.rehearsals.fetch {
            running.hangs = true;
            let requests = std::mem::take(&mut running.requests);
            self.fail_rehearsals(requests, Some(error));
        }
    }

    /// Notes that the fetch has ended. Returns the requests that wait for it.
    pub(super) fn end_rehearsal(&mut self) -> Vec<RequestId> {
        let ended = self.rehearsals.fetch.take();
        ended.map(|ended| ended.requests).unwrap_or_default()
    }

    /// Ends the requests that wait for a fetch, because none begins any more.
    pub(super) fn stop_rehearsals(&mut self) {
        self.timers.cancel(Timer::Rehearsal);
        let requests = std::mem::take(&mut self.rehearsals.waiting);
        self.fail_rehearsals(requests, None);
    }

    /// Ends the requests of the fetch that runs. Its lease is released when it arrives.
    pub(super) fn close_rehearsals(&mut self) {
        let running = self.rehearsals.fetch.as_mut();
        let requests = running.map(|running| std::mem::take(&mut running.requests));
        self.fail_rehearsals(requests.unwrap_or_default(), None);
    }

    /// Without an error, the requests end without a reply.
    pub(super) fn fail_rehearsals(
        &mut self,
        requests: Vec<RequestId>,
        error: Option<&ProviderError>,
    ) {
        for request in requests {
            self.effects.push(ProviderEffect::Rehearsed {
                request,
                result: Err(error.cloned()),
            });
        }
    }
}
