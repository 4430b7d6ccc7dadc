//! A rehearsal: a fetch whose lease is verified, and neither current nor handed over.

use std::time::Instant;

use super::{
    Closing, Facts, FetchId, LoginEvidence, Offer, ProviderEffect, ProviderMachine, RequestId,
    RunningFetch, Timer,
};
use crate::clock::Timestamp;
use crate::error::ProviderError;
use crate::report::RotationTrigger;

/// Requests for a rehearsal.
#[derive(Debug, Default)]
pub(super) struct Rehearsals {
    /// Those that wait for a fetch.
    waiting: Vec<RequestId>,
    /// Those whose fetch runs.
    running: Vec<RequestId>,
}

impl ProviderMachine {
    pub(super) fn request_rehearsal(&mut self, request: RequestId, now: Instant) {
        self.rehearsals.waiting.push(request);
        if self.phase == Closing::Open {
            self.timers.set_unless_set(Timer::Rehearsal, now);
        } else {
            self.end_rehearsals(None);
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
        self.last_hinted = Some(now.mono());
        self.fetches += 1;
        let fetch = FetchId(self.fetches);
        self.rehearsals.running = std::mem::take(&mut self.rehearsals.waiting);
        self.effects.push(ProviderEffect::StartRehearsal {
            fetch,
            rejected: self.exclusions.active(now.mono()),
        });
        self.running = Some(RunningFetch {
            fetch,
            started: now,
            trigger: RotationTrigger::Manual,
            requests: Vec::new(),
            renews: false,
            rehearses: true,
            lists_current: false,
            evidence: LoginEvidence::None,
        });
    }

    /// Replies to the requests of a rehearsal. Its lease is in use until they have returned it.
    pub(super) fn rehearsed(
        &mut self,
        fetch: FetchId,
        result: Result<Offer, ProviderError>,
        now: Instant,
    ) {
        let lease = match result {
            Err(error) => return self.end_rehearsals(Some(&error)),
            Ok(Offer::New(facts)) if self.phase == Closing::Closed => {
                self.release_unused(fetch, facts, now);
                return self.end_rehearsals(None);
            }
            Ok(Offer::New(facts)) => Some(self.add_rehearsed(fetch, facts, now)),
            Ok(Offer::Renewed(_) | Offer::Unchanged) => self.current().map(|(lease, _)| lease),
        };
        let requests = std::mem::take(&mut self.rehearsals.running);
        if let Some(lease) = lease {
            for request in requests {
                self.leases.taken(lease);
                self.effects.push(ProviderEffect::Rehearsed {
                    request,
                    result: Ok(lease),
                });
            }
        }
    }

    fn add_rehearsed(&mut self, fetch: FetchId, facts: Facts, now: Instant) -> super::LeaseId {
        let (lease, is_new) = self.leases.add_rehearsed(fetch, facts, now);
        self.timers.cancel(Timer::Release(lease));
        if is_new {
            self.effects.push(ProviderEffect::Store(lease));
        }
        lease
    }

    /// Ends the requests whose fetch failed with this error, or all of them without a reply.
    pub(super) fn end_rehearsals(&mut self, error: Option<&ProviderError>) {
        let rehearsals = &mut self.rehearsals;
        let mut requests = std::mem::take(&mut rehearsals.running);
        if error.is_none() {
            requests.append(&mut rehearsals.waiting);
            self.timers.cancel(Timer::Rehearsal);
        }
        self.fail_rehearsals(requests, error);
    }

    /// Ends the requests that wait for a fetch, because none can begin.
    pub(super) fn fail_waiting_rehearsals(&mut self, error: &ProviderError) {
        self.timers.cancel(Timer::Rehearsal);
        let requests = std::mem::take(&mut self.rehearsals.waiting);
        self.fail_rehearsals(requests, Some(error));
    }

    fn fail_rehearsals(&mut self, requests: Vec<RequestId>, error: Option<&ProviderError>) {
        for request in requests {
            self.effects.push(ProviderEffect::Rehearsed {
                request,
                result: Err(error.cloned()),
            });
        }
    }
}
