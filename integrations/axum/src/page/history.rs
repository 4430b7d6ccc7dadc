//! The last rotations and errors. [`Status`](claviger::status::Status) has only the last rotation
//! of each provider, and no error that has ended.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use claviger::events::Event;
use claviger::lease::Timestamp;
use claviger::report::RotationReport;
use claviger::status::Status;

use super::problem::{Cause, Owner};

/// Number of rotations that are kept.
const ROTATIONS: usize = 100;
/// Number of different errors that are kept after their end.
const ERRORS: usize = 50;
/// Number of names that are kept for an error: as many as a page of pools.
const NAMES: usize = 100;
/// Longest time from an error's appearance in the status to its event.
const EVENT_DELAY: Duration = Duration::from_secs(1);

/// The last rotations and errors, the latest first.
#[derive(Debug, Default)]
pub(super) struct History {
    rotations: VecDeque<RotationReport>,
    errors: Vec<PastError>,
}

/// An error, with each provider or pool that reported it.
#[derive(Clone, Debug)]
pub(super) struct PastError {
    pub(super) cause: Cause,
    pub(super) names: BTreeSet<Arc<str>>,
    pub(super) first: SystemTime,
    pub(super) last: SystemTime,
    /// Since when it lasts; `None` after its end.
    pub(super) present_since: Option<Timestamp>,
    /// How often it was reported.
    pub(super) times: u64,
    /// Names whose error was read from the status before its event, with the time of that reading.
    early: BTreeMap<Arc<str>, Timestamp>,
}

impl PastError {
    /// Returns how long it has lasted, by the monotonic clock. `None` after its end.
    pub(super) fn lasted(&self, now: Timestamp) -> Option<Duration> {
        let since = self.present_since?;
        Some(now.mono().saturating_duration_since(since.mono()))
    }
}

impl History {
    /// Notes an event. The status is read only if there are too many errors.
    pub(super) fn note(&mut self, event: Event, now: Timestamp, status: impl FnOnce() -> Status) {
        match event {
            Event::Rotated(report) => {
                // The status has it before the event.
                self.rotations.retain(|known| !is_same(known, &report));
                self.rotations.push_front(report);
                self.rotations.truncate(ROTATIONS);
            }
            Event::FetchFailed { provider, error } => {
                self.failed(Cause::fetch(&error), &provider, now);
            }
            Event::VerificationFailed { pool, error } | Event::Rejected { pool, error, .. } => {
                self.failed(Cause::login(&error), &pool, now);
            }
            Event::DrainAbandoned { pool, .. } => self.failed(Cause::DrainAbandoned, &pool, now),
            Event::Restarted { actor } => self.failed(Cause::Restarted, &actor, now),
            _ => {}
        }
        if self.errors.len() > ERRORS {
            // Without clients, nothing else finds out which errors have ended.
            self.complete(&status(), now);
        }
    }

    /// Adds what happened before the first event, the last rotation of each provider and present
    /// errors, and notes which errors have ended.
    pub(super) fn complete(&mut self, status: &Status, now: Timestamp) {
        for provider in &status.providers {
            let last = provider.last_rotation.as_ref();
            if let Some(last) = last
                && !self.rotations.iter().any(|known| is_same(known, last))
            {
                let at = self
                    .rotations
                    .iter()
                    .position(|known| known.started < last.started);
                let at = at.unwrap_or(self.rotations.len());
                self.rotations.insert(at, last.clone());
                self.rotations.truncate(ROTATIONS);
            }
            if let Some(error) = &provider.last_error
                && !self.has(&Cause::fetch(error), &provider.name)
            {
                self.failed_early(Cause::fetch(error), &provider.name, now);
            }
        }
        for pool in &status.pools {
            if let Some(error) = &pool.last_error
                && !self.has(&Cause::login(error), &pool.name)
            {
                self.failed_early(Cause::login(error), &pool.name, now);
            }
        }
        for error in &mut self.errors {
            if present_names(status, &error.cause).is_empty() {
                error.present_since = None;
            } else {
                error.present_since.get_or_insert(now);
            }
        }
        self.forget_ended();
    }

    /// Forgets the oldest errors that have ended, if there are too many of these. Those that last are
    /// as many as providers and pools at most.
    fn forget_ended(&mut self) {
        let ended = |one: &&PastError| one.present_since.is_none();
        let mut excess = self
            .errors
            .iter()
            .filter(ended)
            .count()
            .saturating_sub(ERRORS);
        while excess > 0
            && let Some(oldest) = self
                .errors
                .iter()
                .rposition(|one| one.present_since.is_none())
        {
            self.errors.remove(oldest);
            excess -= 1;
        }
    }

    pub(super) fn rotations(&self) -> impl ExactSizeIterator<Item = &RotationReport> {
        self.rotations.iter()
    }

    /// Returns the errors; those that occurred last are the first.
    pub(super) fn errors(&self) -> &[PastError] {
        &self.errors
    }

    fn has(&self, cause: &Cause, name: &Arc<str>) -> bool {
        let mut errors = self.errors.iter();
        errors.any(|error| {
            let has_name = error.names.contains(name) || error.names.len() >= NAMES;
            error.cause == *cause && has_name
        })
    }

    /// Notes an error of the status, whose event may follow.
    fn failed_early(&mut self, cause: Cause, name: &Arc<str>, now: Timestamp) {
        self.failed(cause, name, now);
        if let Some(error) = self.errors.first_mut() {
            error.early.insert(Arc::clone(name), now);
        }
    }

    fn failed(&mut self, cause: Cause, name: &Arc<str>, now: Timestamp) {
        let known = self.errors.iter().position(|error| error.cause == cause);
        let mut error = match known {
            Some(at) => self.errors.remove(at),
            None => PastError {
                cause,
                names: BTreeSet::new(),
                first: now.wall(),
                last: now.wall(),
                present_since: None,
                times: 0,
                early: BTreeMap::new(),
            },
        };
        error.last = now.wall();
        error.present_since.get_or_insert(now);
        let early = error.early.remove(name);
        let is_counted =
            early.is_some_and(|at| now.mono().saturating_duration_since(at.mono()) < EVENT_DELAY);
        error.times += u64::from(!is_counted);
        if error.names.len() < NAMES {
            error.names.insert(Arc::clone(name));
        }
        self.errors.insert(0, error);
    }
}

/// Returns whether both are reports of one rotation.
fn is_same(one: &RotationReport, other: &RotationReport) -> bool {
    one.provider == other.provider && one.started == other.started
}

/// Returns the providers or pools whose present error this is.
pub(super) fn present_names(status: &Status, cause: &Cause) -> BTreeSet<Arc<str>> {
    let mut names = BTreeSet::new();
    match cause.owner() {
        Owner::Provider => {
            for provider in &status.providers {
                let error = provider.last_error.as_ref();
                if error.is_some_and(|error| Cause::fetch(error) == *cause) {
                    names.insert(Arc::clone(&provider.name));
                }
            }
        }
        Owner::Pool => {
            for pool in &status.pools {
                let error = pool.last_error.as_ref();
                let is_abandoned = || pool.draining.iter().any(|drain| drain.abandoned);
                if error.is_some_and(|error| Cause::login(error) == *cause)
                    || (*cause == Cause::DrainAbandoned && is_abandoned())
                {
                    names.insert(Arc::clone(&pool.name));
                }
            }
        }
        Owner::Actor => {}
    }
    names
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "a test fails by panicking")]

    use claviger::error::{ProviderError, ProviderErrorKind};
    use claviger_testkit::{Lab, MovedClock, ScriptedProvider};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    /// Returns a status with one provider, and the time.
    async fn start() -> (Status, Timestamp) {
        let lab = Lab::new();
        lab.add_provider("login", ScriptedProvider::new()).await;
        (lab.supervisor.status(), Timestamp::now())
    }

    /// Sets the error of the only provider, and returns it.
    fn fail(status: &mut Status, message: &str) -> ProviderError {
        let error = ProviderError::new(ProviderErrorKind::Unavailable, message);
        let provider = status.providers.first_mut().expect("a provider");
        provider.last_error = Some(error.clone());
        error
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_lasts_while_the_wall_clock_is_set_back() {
        let (mut status, _) = start().await;
        fail(&mut status, "unreachable");
        let (clock, ahead) = (MovedClock::default(), MovedClock::default());
        ahead.jump(HOUR);
        let mut history = History::default();
        history.complete(&status, ahead.clock().now());
        tokio::time::advance(Duration::from_secs(3)).await;
        let now = clock.clock().now();
        history.complete(&status, now);
        let error = history.errors().first().expect("an error");
        assert_eq!(error.lasted(now), Some(Duration::from_secs(3)));
    }

    #[tokio::test(start_paused = true)]
    async fn errors_that_last_are_kept_beyond_the_limit() {
        let (mut status, start) = start().await;
        let only = status.providers.remove(0);
        for number in 0..ERRORS + 5 {
            let mut one = Status::clone(&status);
            one.providers = vec![only.clone()];
            fail(&mut one, &format!("error {number}"));
            status.providers.append(&mut one.providers);
        }
        let mut history = History::default();
        history.complete(&status, start);
        tokio::time::advance(Duration::from_secs(3)).await;
        let now = Timestamp::now();
        history.complete(&status, now);
        let lasted: Vec<_> = history.errors().iter().map(|one| one.lasted(now)).collect();
        assert_eq!(lasted, [Some(Duration::from_secs(3)); ERRORS + 5]);

        let actor: Arc<str> = "orders".into();
        history.note(Event::Restarted { actor }, now, || status.clone());
        let first = history.errors().first().map(|one| &one.cause);
        assert_eq!(
            first,
            Some(&Cause::Restarted),
            "an error that does not last is kept, too"
        );

        status.providers.clear();
        history.complete(&status, now);
        assert_eq!(history.errors().len(), ERRORS, "the oldest are forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn errors_that_ended_are_limited_without_clients() {
        let (mut status, now) = start().await;
        let mut history = History::default();
        let provider: Arc<str> = "login".into();
        for number in 0..1_000 {
            let error = fail(&mut status, &format!("error {number}"));
            let provider = Arc::clone(&provider);
            let event = Event::FetchFailed { provider, error };
            history.note(event, now, || status.clone());
        }
        assert_eq!(history.errors().len(), ERRORS + 1, "and the present one");
        let last = history.errors().first().and_then(|one| one.cause.message());
        assert_eq!(last, Some("error 999"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_or_rotation_in_the_status_and_its_event_are_noted_once() {
        let (mut status, now) = start().await;
        let error = fail(&mut status, "unreachable");
        let provider = status.providers.first().expect("a provider");
        let rotation = provider.last_rotation.clone().expect("the first one");
        let name = Arc::clone(&provider.name);
        let mut history = History::default();
        history.complete(&status, now);
        history.note(Event::Rotated(rotation), now, || status.clone());
        assert_eq!(history.rotations().len(), 1);

        let failed = || Event::FetchFailed {
            provider: Arc::clone(&name),
            error: error.clone(),
        };
        for times in [1, 2, 3] {
            history.note(failed(), now, || status.clone());
            let error = history.errors().first().expect("an error");
            assert_eq!(error.times, times);
        }

        // The event of an error that occurred before the first event does not follow.
        let mut history = History::default();
        history.complete(&status, now);
        tokio::time::advance(EVENT_DELAY).await;
        history.note(failed(), Timestamp::now(), || status.clone());
        let error = history.errors().first().expect("an error");
        assert_eq!(error.times, 2);
    }
}
