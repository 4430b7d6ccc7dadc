//! Decides when a provider fetches, which lease is current, and when a lease is released.
//!
//! The machine has no clock, lock, task, channel or secret. [`ProviderMachine::handle`] takes a
//! [`ProviderInput`] and returns [`ProviderEffect`]s. The [driver](super::driver) carries them out
//! and feeds the results back. Only [`ProviderInput::Wake`] starts fetches and releases; the other
//! inputs note facts and set timers.

mod bucket;
mod exclusions;
mod hold;
mod leases;
mod logins;
mod messages;
mod outcome;
mod rehearsal;
mod releases;
mod starting;
mod timers;
mod view;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

pub(crate) use messages::{
    Facts, FetchId, FetchOutcome, LeaseId, ManualReply, Offer, ProviderEffect, ProviderInput,
    RequestId, RotationId,
};

use bucket::TokenBucket;
use exclusions::Exclusions;
use hold::Hold;
use leases::{LeaseState, Leases};
use rehearsal::Rehearsals;
use timers::{ProviderTimers, Timer};

use crate::clock::Timestamp;
use crate::error::ProviderError;
use crate::lease::Revision;
use crate::report::{RotationOutcome, RotationTrigger};

/// Shortest time between two fetches for hints and manual requests.
const COALESCE: Duration = Duration::from_secs(1);
/// Clock jump above which a fetch begins: the host was suspended, or its clock was set.
const JUMP: Duration = Duration::from_secs(60);
/// Most fetches past their deadline. No further fetch begins until one of them ends.
const MAX_HANGING: usize = 3;

/// A fetch within its deadline.
#[derive(Debug)]
struct RunningFetch {
    fetch: FetchId,
    started: Timestamp,
    trigger: RotationTrigger,
    requests: Vec<RequestId>,
    /// Whether it only renews the current lease.
    renews: bool,
    /// Whether the request listed the current revision as rejected.
    lists_current: bool,
    evidence: LoginEvidence,
}

/// Results of logins with the current revision while a fetch runs.
#[derive(Debug, PartialEq)]
enum LoginEvidence {
    /// No relevant result.
    None,
    /// It was rejected. The fetch may return a lease from before the rejection.
    Rejected,
    /// It was verified again, but the request listed it as rejected.
    Verified,
}

/// Progress of the provider's shutdown.
#[derive(Debug, PartialEq)]
enum Closing {
    Open,
    /// No fetch starts; a running one may end.
    Stopped,
    /// Every lease was released; late ones are released at once.
    Closed,
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct ProviderMachine {
    phase: Closing,
    hold: Option<Hold>,
    holds: u64,
    poll: Duration,
    /// Time for which a superseded lease is kept before its release.
    kept_for: Duration,
    leases: Leases,
    timers: ProviderTimers,
    bucket: TokenBucket,
    /// Rejected revisions. Nothing else stores them.
    exclusions: Exclusions,
    /// The revision that was verified and not rejected since, and when it was first verified.
    verified_since: Option<(Revision, Instant)>,
    running: Option<RunningFetch>,
    /// Fetches past their deadline, except that of a rehearsal, and when they began.
    hanging: BTreeMap<FetchId, Timestamp>,
    fetches: u64,
    failures: u32,
    retry_for: RotationTrigger,
    /// The backend's own time for the retry of the last fetch, if that failed.
    not_before: Option<Instant>,
    last_error: Option<ProviderError>,
    /// Manual requests that wait for a fetch.
    requests: Vec<RequestId>,
    rehearsals: Rehearsals,
    /// Start of the last fetch for a hint, a manual request or a rehearsal.
    last_hinted: Option<Instant>,
    last_wake: Timestamp,
    /// The rotation whose fetch is due, runs or is retried.
    fetching: Option<RotationId>,
    /// The rotation whose lease pools have not all taken.
    handing_over: Option<RotationId>,
    effects: Vec<ProviderEffect>,
}

impl ProviderMachine {
    pub(crate) fn new(poll: Duration, now: Timestamp) -> Self {
        let mut timers = ProviderTimers::default();
        timers.set(Timer::Refresh, now.mono());
        Self {
            phase: Closing::Open,
            hold: None,
            holds: 0,
            poll,
            kept_for: Duration::ZERO,
            leases: Leases::default(),
            timers,
            bucket: TokenBucket::full(now.mono()),
            exclusions: Exclusions::default(),
            verified_since: None,
            running: None,
            hanging: BTreeMap::new(),
            fetches: 0,
            failures: 0,
            retry_for: RotationTrigger::Schedule,
            not_before: None,
            last_error: None,
            requests: Vec::new(),
            rehearsals: Rehearsals::default(),
            last_hinted: None,
            last_wake: now,
            fetching: None,
            handing_over: None,
            effects: Vec::new(),
        }
    }

    /// Keeps a superseded lease for this time before its release. Default: zero.
    pub(crate) fn with_previous_lease_kept_for(mut self, time: Duration) -> Self {
        self.kept_for = time;
        self
    }

    pub(crate) fn handle(&mut self, input: ProviderInput, now: Timestamp) -> Vec<ProviderEffect> {
        let mono = now.mono();
        match input {
            ProviderInput::Wake => self.wake(now),
            ProviderInput::FetchDone { fetch, result, .. } if self.rehearsals.has(fetch) => {
                self.rehearsed(fetch, result, now);
            }
            ProviderInput::FetchHangs { fetch, error, .. } if self.rehearsals.has(fetch) => {
                self.rehearsal_hangs(&error);
            }
            ProviderInput::FetchLost(fetch) if self.rehearsals.has(fetch) => {
                let requests = self.end_rehearsal();
                self.fail_rehearsals(requests, None);
            }
            ProviderInput::FetchDone {
                fetch,
                result,
                jitter,
            } => self.fetch_ended(fetch, result, jitter, now),
            ProviderInput::FetchHangs {
                fetch,
                error,
                jitter,
            } => {
                if let Some(running) = self.running.as_ref().filter(|one| one.fetch == fetch) {
                    self.hanging.insert(fetch, running.started);
                }
                self.fetch_ended(fetch, Err(error), jitter, now);
            }
            ProviderInput::FetchLate { fetch, lease } => {
                self.hanging.remove(&fetch);
                if self.rehearsals.has(fetch) {
                    self.end_rehearsal();
                }
                if let Some(facts) = lease {
                    self.release_unused(fetch, facts, mono);
                }
            }
            ProviderInput::FetchLost(fetch) => {
                self.hanging.remove(&fetch);
                if let Some(running) = self.running.take_if(|running| running.fetch == fetch) {
                    if matches!(
                        // Its timer was cancelled, and its cause may not occur again.
                        running.trigger,
                        RotationTrigger::ClockJump
                            | RotationTrigger::Changed
                            | RotationTrigger::Manual
                    ) {
                        if running.renews {
                            self.timers
                                .set_unless_set(Timer::ClockJump, mono + COALESCE);
                        } else {
                            self.timers.set_unless_set(Timer::Hint, mono);
                        }
                    }
                    self.reply(running.requests, &ManualReply::Abandoned);
                }
            }
            ProviderInput::Verified(revision) => self.verified(&revision, mono),
            ProviderInput::Rejected(revision) => self.rejected(&revision, mono),
            ProviderInput::PoolLeft(remaining) => self.pool_left(&remaining),
            ProviderInput::Hint => self.timers.set_unless_set(Timer::Hint, mono),
            ProviderInput::Rehearse(request) => self.request_rehearsal(request, mono),
            ProviderInput::Hold => self.hold(now),
            ProviderInput::Resume => self.resume(mono),
            ProviderInput::Manual(request) if self.is_held() => {
                self.reply(vec![request], &ManualReply::Held);
            }
            ProviderInput::Manual(request) if self.phase == Closing::Open => {
                self.requests.push(request);
                self.timers.set_unless_set(Timer::Manual, mono);
            }
            ProviderInput::Manual(request) => self.reply(vec![request], &ManualReply::Abandoned),
            ProviderInput::LeaseTaken(lease) => {
                if self.leases.taken(lease) {
                    self.timers.cancel(Timer::Release(lease));
                }
                self.leases.used_again(lease, mono);
            }
            ProviderInput::LeaseReturned(lease) => {
                if self.leases.returned(lease, mono) {
                    self.enqueue(lease, mono);
                }
            }
            ProviderInput::ReleaseDone { lease, result } => {
                self.release_ended(lease, Some(result), mono);
            }
            ProviderInput::ReleaseLost(lease) => self.release_ended(lease, None, mono),
            ProviderInput::PoolsDone(rotation) => {
                let taken = self.handing_over.take_if(|waiting| *waiting == rotation);
                self.close_rotation(taken, RotationOutcome::Adopted);
            }
            ProviderInput::PoolsGone => {
                let waiting = self.handing_over.take();
                self.close_rotation(waiting, RotationOutcome::Unfinished);
            }
            ProviderInput::Stop => self.stop(),
            ProviderInput::Close => self.close(mono),
        }
        std::mem::take(&mut self.effects)
    }

    /// Returns when a timer is due. A time in the past means that the next wake acts on it.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.timers
            .iter()
            .filter_map(|(timer, at)| self.due_at(timer, at))
            .min()
    }

    /// Returns when a timer that is set for `at` acts, or `None` if another input must come first.
    ///
    /// Retries, fetches after rejections and repeated releases draw on the token bucket. Other
    /// fetches and first releases do not.
    fn due_at(&self, timer: Timer, at: Instant) -> Option<Instant> {
        let is_blocked = self.hanging.len() >= MAX_HANGING;
        match timer {
            _ if self.phase != Closing::Open => None,
            Timer::Release(lease) if self.leases.is_first_attempt(lease) => Some(at),
            Timer::Release(_) => Some(self.bucket.spare_at(at)),
            Timer::Rehearsal => self.rehearsal_due_at(at),
            _ if self.is_held() && !self.renews_at(timer) => None,
            // The request fails at once.
            Timer::Manual if is_blocked => Some(at),
            _ if is_blocked || self.running.is_some() => None,
            Timer::Manual | Timer::Hint => {
                Some(self.last_hinted.map_or(at, |last| at.max(last + COALESCE)))
            }
            Timer::Rejected | Timer::Retry => Some(self.bucket.available_at(at)),
            Timer::ClockJump | Timer::Refresh => Some(at),
        }
    }

    fn stop(&mut self) {
        if self.phase == Closing::Open {
            self.phase = Closing::Stopped;
        }
        let requests = std::mem::take(&mut self.requests);
        self.reply(requests, &ManualReply::Abandoned);
        self.stop_rehearsals();
    }

    fn close(&mut self, now: Instant) {
        self.stop();
        self.phase = Closing::Closed;
        self.close_rehearsals();
        for rotation in [self.fetching.take(), self.handing_over.take()] {
            self.close_rotation(rotation, RotationOutcome::Unfinished);
        }
        // A running fetch no longer replies to its requests.
        let requests = self
            .running
            .as_mut()
            .map(|running| std::mem::take(&mut running.requests));
        self.reply(requests.unwrap_or_default(), &ManualReply::Abandoned);
        for lease in self.leases.unreleased() {
            self.enqueue(lease, now);
        }
    }

    fn close_rotation(&mut self, rotation: Option<RotationId>, outcome: RotationOutcome) {
        self.effects
            .extend(rotation.map(|rotation| ProviderEffect::CloseRotation { rotation, outcome }));
    }

    fn reply(&mut self, requests: Vec<RequestId>, reply: &ManualReply) {
        let reply = |request| ProviderEffect::Reply {
            request,
            reply: reply.clone(),
        };
        self.effects.extend(requests.into_iter().map(reply));
    }
}

/// Returns for how long a fetch has run, in whole seconds, for people.
fn running_for(started: &Timestamp, now: Instant) -> humantime::FormattedDuration {
    let running = now.saturating_duration_since(started.mono());
    humantime::format_duration(Duration::from_secs(running.as_secs()))
}

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;
