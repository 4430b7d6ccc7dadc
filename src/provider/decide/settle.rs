//! What a finished fetch comes to: a lease that is adopted or not, or the next attempt.

use std::time::{Duration, Instant};

use super::{ManualRequest, Retired, Retry, State};
use crate::clock::{Timestamp, rfc3339};
use crate::error::{ProviderError, ProviderErrorKind};
use crate::lease::Lease;
use crate::provider::schedule;
use crate::trigger::RotationTrigger;

/// How long a superseded revision is not taken back, unless the current one is rejected or was
/// never accepted.
const RETIRED_FOR: Duration = Duration::from_secs(3_600);
/// How many are remembered, the latest first: a backend that mints at each fetch has many.
const RETIRED_MOST: usize = 64;

/// What a finished fetch came to.
#[derive(Debug)]
pub(crate) enum Settled {
    /// A new revision is held.
    Adopted,
    /// The same revision is held; its expiry may have moved.
    Unchanged,
    /// A revision came that was superseded a while ago; it was not taken. It is news the first
    /// time.
    Stale { is_news: bool },
    /// No usable lease came; what was held is held.
    Failed(ProviderError),
}

impl<S> State<S> {
    /// Takes in what a fetch came to. `jitter` is between 0 and 1. Answers nothing for a fetch that
    /// was given up.
    pub(crate) fn settle(
        &mut self,
        number: u64,
        result: Result<Lease<S>, ProviderError>,
        started: Timestamp,
        now: Timestamp,
        poll: Duration,
        jitter: f64,
    ) -> Option<(Settled, Vec<ManualRequest>)> {
        let in_flight = self
            .in_flight
            .take_if(|in_flight| in_flight.number == number)?;
        let settled = match result {
            Err(error) => {
                self.failed(in_flight.trigger, error.clone(), now, jitter);
                Settled::Failed(error)
            }
            // The rejection that it was begun for is over: what it brings may be a candidate that
            // nobody needs any more.
            Ok(lease)
                if in_flight.moot && !self.holds(lease.revision()) && !self.has_expired(now) =>
            {
                self.last_error = None;
                self.late(lease, now.mono());
                self.retry = Some(Retry {
                    at: now.mono() + schedule::FLOOR,
                    trigger: RotationTrigger::Schedule,
                });
                Settled::Unchanged
            }
            Ok(lease) => {
                self.last_error = None;
                self.retry = None;
                let settled = self.adopt(lease, started, now, poll, jitter);
                self.look_again_while_rejected(in_flight.rejected_since, now.mono(), jitter);
                settled
            }
        };
        Some((settled, in_flight.manual))
    }

    fn failed(
        &mut self,
        trigger: RotationTrigger,
        error: ProviderError,
        now: Timestamp,
        jitter: f64,
    ) {
        self.failures = self.failures.saturating_add(1);
        let left = self
            .held
            .as_ref()
            .and_then(|held| held.expiry().remaining(now));
        let pause = schedule::retry_after(
            self.failures,
            !error.is_transient(),
            left,
            error.wait_hint(),
            jitter,
        );
        // Whoever asked for a new credential has been told; it is not minted behind their back.
        let trigger = if trigger == RotationTrigger::Manual {
            RotationTrigger::Schedule
        } else {
            trigger
        };
        self.retry = Some(Retry {
            at: now.mono() + pause,
            trigger,
        });
        self.refresh_at = None;
        if self.rejected_due.is_some() {
            self.rejected_due = Some(now.mono() + pause);
        }
        self.last_error = Some(error);
    }

    fn adopt(
        &mut self,
        lease: Lease<S>,
        started: Timestamp,
        now: Timestamp,
        poll: Duration,
        jitter: f64,
    ) -> Settled {
        let mono = now.mono();
        self.retired
            .retain(|retired| mono.saturating_duration_since(retired.since) < RETIRED_FOR);
        let held_rejected = self.held_is_rejected(mono);
        if self.holds(lease.revision()) {
            self.schedule(&lease, started, poll, jitter);
            self.held = Some(lease);
            return Settled::Unchanged;
        }
        let has_expired = self.has_expired(now);
        // What no login ever verified has no claim to stay: it may be a wrong secret that was put
        // right.
        let held_verified = self
            .held
            .as_ref()
            .is_some_and(|held| self.was_verified(held.revision()));
        let retired = self
            .retired
            .iter_mut()
            .find(|retired| &retired.revision == lease.revision());
        if let Some(retired) = retired
            && held_verified
            && !held_rejected
            && !has_expired
        {
            let is_news = !std::mem::replace(&mut retired.is_known, true);
            if let Some(held) = self.held.clone() {
                self.schedule(&held, started, poll, jitter);
                // A poll that answers a stale revision is answered at the poll's pace, not at once
                // again.
                self.refresh_at = self
                    .refresh_at
                    .map(|at| at.max(mono + schedule::LONGEST_RETRY));
            }
            return Settled::Stale { is_news };
        }
        self.retired
            .retain(|retired| &retired.revision != lease.revision());
        self.parked.remove(lease.revision());
        self.debts.forget(lease.revision());
        self.schedule(&lease, started, poll, jitter);
        self.rejected = false;
        if let Some(old) = self.held.replace(lease) {
            if self.was_verified(old.revision()) {
                self.retired.push(Retired {
                    revision: old.revision().clone(),
                    since: mono,
                    is_known: false,
                });
                let surplus = self.retired.len().saturating_sub(RETIRED_MOST);
                self.retired.drain(..surplus);
            }
            if self.in_use(old.revision()) {
                self.parked.insert(old.revision().clone(), old);
            } else {
                self.debts.owe(old, mono);
            }
        }
        Settled::Adopted
    }

    /// There is no current lease, or it has expired.
    fn has_expired(&self, now: Timestamp) -> bool {
        self.held
            .as_ref()
            .is_none_or(|held| held.expiry().is_expired(now))
    }

    fn schedule(&mut self, lease: &Lease<S>, started: Timestamp, poll: Duration, jitter: f64) {
        self.held_life = lease.expiry().remaining(started);
        self.refresh_at =
            Some(started.mono() + schedule::refresh_after(lease, started, poll, jitter));
    }

    /// The held revision is rejected and the backend has nothing better: ask again, ever more
    /// slowly; at once if the answer may be older than the rejection.
    fn look_again_while_rejected(&mut self, at_once: bool, now: Instant, jitter: f64) {
        if !self.held_is_rejected(now) {
            self.failures = 0;
            self.rejected_due = None;
        } else if at_once {
            self.rejected_due = Some(now);
        } else {
            self.failures = self.failures.saturating_add(1);
            self.rejected_due =
                Some(now + schedule::retry_after(self.failures, false, None, None, jitter));
        }
    }
}

/// The lease, if it lives.
pub(crate) fn alive<S>(lease: Lease<S>, now: Timestamp) -> Result<Lease<S>, ProviderError> {
    if !lease.expiry().is_expired(now) {
        return Ok(lease);
    }
    let died = lease.expiry().wall().map(rfc3339);
    Err(ProviderError::new(
        ProviderErrorKind::DeadLease,
        format!(
            "the lease {} that came had already expired at {}; issue one that lives, or check this machine's clock",
            lease.revision(),
            died.unwrap_or_default()
        ),
    ))
}
