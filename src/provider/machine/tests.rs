//! Each transition of the machine.

mod closing;
mod effects;
mod fetches;
mod hold;
mod leases;
mod rehearsals;
mod rejections;
mod results;
mod rotations;

use super::*;
use crate::error::ProviderErrorKind;
use crate::expiry::Expiry;
use crate::lease::OldConnections;
use crate::next_attempt::NextAttempt;

pub(super) const POLL: Duration = Duration::from_secs(300);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

pub(super) fn lease(revision: &str, expiry: Expiry) -> Facts {
    Facts {
        revision: Revision::new(revision),
        expiry,
        old_connections: OldConnections::Drain,
        connection_expiry: None,
        refresh_after: None,
    }
}

pub(super) fn error(kind: ProviderErrorKind) -> ProviderError {
    ProviderError::new(kind, "down")
}

/// A provider on a clock of the test's own.
pub(super) struct TestProvider {
    pub(super) machine: ProviderMachine,
    pub(super) now: Timestamp,
    /// Effects that were not taken yet.
    pub(super) effects: Vec<ProviderEffect>,
}

impl TestProvider {
    pub(super) fn new() -> Self {
        let now = Timestamp::now();
        Self {
            machine: ProviderMachine::new(POLL, now),
            now,
            effects: Vec::new(),
        }
    }

    /// Creates a provider with the lease "current", verified a minute ago.
    fn serving() -> Self {
        let mut provider = Self::new();
        provider.fetch("current");
        provider.verified("current");
        provider.pass(60 * SECOND);
        provider.effects.clear();
        provider
    }

    pub(super) fn feed(&mut self, input: ProviderInput) {
        let effects = self.machine.handle(input, self.now);
        self.effects.extend(effects);
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now = Timestamp::at(self.now.wall() + time, self.now.mono() + time);
    }

    /// Removes and returns the effects that `pick` maps.
    pub(super) fn take<T>(&mut self, pick: impl Fn(&ProviderEffect) -> Option<T>) -> Vec<T> {
        let picked = self.effects.iter().filter_map(&pick).collect();
        self.effects.retain(|effect| pick(effect).is_none());
        picked
    }

    /// Begins the fetch that is due, and returns it.
    fn begin(&mut self) -> Option<FetchId> {
        self.wake().map(|(fetch, _)| fetch)
    }

    fn wake(&mut self) -> Option<(FetchId, RotationTrigger)> {
        self.feed(ProviderInput::Wake);
        let started = self.take(|effect| match effect {
            ProviderEffect::StartFetch { fetch, trigger, .. } => Some((*fetch, *trigger)),
            _ => None,
        });
        assert!(started.len() <= 1);
        started.first().copied()
    }

    fn end(
        &mut self,
        fetch: Option<FetchId>,
        result: Result<Offer, ProviderError>,
    ) -> Option<FetchOutcome> {
        self.feed(ProviderInput::FetchDone {
            fetch: fetch?,
            result,
            jitter: 0.0,
        });
        self.outcome()
    }

    fn outcome(&mut self) -> Option<FetchOutcome> {
        let outcomes = self.take(|effect| match effect {
            ProviderEffect::Report { outcome, .. } => Some(outcome.clone()),
            _ => None,
        });
        outcomes.into_iter().next()
    }

    fn succeed(&mut self, fetch: Option<FetchId>, revision: &str) -> Option<FetchOutcome> {
        self.end(fetch, Ok(Offer::New(lease(revision, Expiry::never()))))
    }

    fn fail(&mut self, fetch: Option<FetchId>, kind: ProviderErrorKind) {
        let outcome = self.end(fetch, Err(error(kind)));
        assert!(matches!(outcome, Some(FetchOutcome::Failed(_))));
    }

    /// Fetches this revision after a hint.
    fn fetch(&mut self, revision: &str) -> Option<FetchOutcome> {
        self.pass(2 * SECOND);
        self.feed(ProviderInput::Hint);
        let fetch = self.begin();
        self.succeed(fetch, revision)
    }

    fn verified(&mut self, revision: &str) {
        self.feed(ProviderInput::Verified(Revision::new(revision)));
    }

    fn rejected(&mut self, revision: &str) {
        self.feed(ProviderInput::Rejected(Revision::new(revision)));
    }

    fn is_current(&self, revision: &str) -> bool {
        self.machine.leases.is_current(&Revision::new(revision))
    }

    /// A pool takes the current lease.
    fn take_lease(&mut self) -> Option<LeaseId> {
        let lease = self.machine.current().map(|(lease, _)| lease)?;
        self.feed(ProviderInput::LeaseTaken(lease));
        Some(lease)
    }

    fn return_lease(&mut self, lease: Option<LeaseId>) {
        if let Some(lease) = lease {
            self.feed(ProviderInput::LeaseReturned(lease));
        }
    }

    /// Starts the releases that are due.
    fn releases(&mut self) -> Vec<LeaseId> {
        self.feed(ProviderInput::Wake);
        self.take(|effect| match effect {
            ProviderEffect::Release(lease) => Some(*lease),
            _ => None,
        })
    }

    fn released(&mut self, lease: LeaseId, result: Result<(), ProviderError>) {
        self.feed(ProviderInput::ReleaseDone { lease, result });
    }

    fn replies(&mut self) -> Vec<ManualReply> {
        self.take(|effect| match effect {
            ProviderEffect::Reply { reply, .. } => Some(reply.clone()),
            _ => None,
        })
    }

    fn closed(&mut self) -> Vec<(RotationId, RotationOutcome)> {
        self.take(|effect| match effect {
            ProviderEffect::CloseRotation { rotation, outcome } => Some((*rotation, *outcome)),
            _ => None,
        })
    }

    fn next(&self) -> Option<Duration> {
        let next = self.machine.next_deadline()?;
        Some(next.saturating_duration_since(self.now.mono()))
    }

    /// Feeds an input, and compares all of its effects.
    #[track_caller]
    fn expect(&mut self, input: ProviderInput, effects: &[ProviderEffect]) {
        let actual = self.machine.handle(input, self.now);
        assert_eq!(format!("{actual:#?}"), format!("{effects:#?}"));
    }
}
