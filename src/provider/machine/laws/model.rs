//! A model of the provider, which checks every law at each effect.

mod checks;

use std::collections::{BTreeMap, BTreeSet};

use super::super::tests::{POLL, TestProvider, error, lease};
use super::super::*;
use crate::error::ProviderErrorKind;
use crate::expiry::Expiry;
use crate::provider::schedule;

/// Step of the environment. Numbers are indexes into the available leases or fetches.
#[derive(Clone, Copy, Debug)]
pub(super) enum LawStep {
    Pass(u64),
    Jump,
    Wake,
    Hint,
    Manual,
    Rehearse,
    Hold,
    Resume,
    /// With this revision, or the current one.
    Verified(Option<usize>),
    Rejected(Option<usize>),
    /// A pool leaves, and one that serves this revision remains, or none does.
    PoolLeaves(Option<usize>),
    Take,
    Return(usize),
    FetchEnds(FetchEnd),
    HangingEnds(usize, Option<usize>),
    ReleaseEnds(usize, Option<Result<(), ProviderErrorKind>>),
    PoolsDone,
    PoolsGone,
    Stop,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum FetchEnd {
    /// With this revision and lifetime in seconds.
    New(usize, Option<u64>),
    Renewed(u64),
    Unchanged,
    Fails(ProviderErrorKind),
    Hangs,
    Lost,
}

/// State of the provider according to its effects.
pub(super) struct ModelledProvider {
    provider: TestProvider,
    running: Option<(FetchId, Timestamp, RotationTrigger)>,
    /// Whether the last fetch only renews the current lease.
    renews: bool,
    /// Whether it is the fetch of a rehearsal.
    rehearses: bool,
    held: bool,
    /// Whether the provider was held, with a lease, before the last input.
    was_held: bool,
    hanging: Vec<FetchId>,
    /// Leases whose value is stored.
    stored: BTreeSet<LeaseId>,
    releasing: Vec<LeaseId>,
    retried: BTreeSet<LeaseId>,
    users: Vec<LeaseId>,
    allowance: BucketModel,
    /// When the next scheduled fetch may begin without a token.
    refresh: Option<Instant>,
    requested: bool,
    jumped: bool,
    last_request: Option<Instant>,
    /// Revisions that were rejected and not verified since, and when.
    rejected: BTreeMap<Revision, Instant>,
    /// Revisions that were verified while they were current, and when they last were.
    verified: BTreeMap<Revision, Instant>,
    open: BTreeSet<RotationId>,
    waiting: BTreeSet<RequestId>,
    requests: u64,
    closed: bool,
}

/// Returns whether such a fetch is repeated if it is lost.
fn trigger_has_no_timer(trigger: RotationTrigger) -> bool {
    matches!(
        trigger,
        RotationTrigger::ClockJump | RotationTrigger::Changed | RotationTrigger::Manual
    )
}

fn revision(number: usize) -> Revision {
    Revision::new(number.to_string())
}

impl ModelledProvider {
    pub(super) fn new() -> Self {
        let provider = TestProvider::new();
        let at = provider.now.mono();
        Self {
            provider,
            running: None,
            renews: false,
            rehearses: false,
            held: false,
            was_held: false,
            hanging: Vec::new(),
            stored: BTreeSet::new(),
            releasing: Vec::new(),
            retried: BTreeSet::new(),
            users: Vec::new(),
            allowance: BucketModel::full(at),
            refresh: Some(at),
            requested: false,
            jumped: false,
            last_request: None,
            rejected: BTreeMap::new(),
            verified: BTreeMap::new(),
            open: BTreeSet::new(),
            waiting: BTreeSet::new(),
            requests: 0,
            closed: false,
        }
    }

    fn current(&self) -> Option<(LeaseId, Facts)> {
        let (lease, facts) = self.provider.machine.current()?;
        Some((lease, facts.clone()))
    }

    fn revision(&self, number: Option<usize>) -> Option<Revision> {
        number
            .map(revision)
            .or_else(|| self.current().map(|(_, facts)| facts.revision))
    }

    fn is_current(&self, revision: &Revision) -> bool {
        self.current()
            .is_some_and(|(_, facts)| facts.revision == *revision)
    }

    pub(super) fn step(&mut self, step: LawStep) {
        let now = self.provider.now;
        let current = self.current().map(|(_, facts)| facts.revision);
        if let Some(at) = current.and_then(|current| self.verified.get_mut(&current)) {
            *at = now.mono();
        }
        match step {
            LawStep::Pass(millis) => self.provider.pass(Duration::from_millis(millis)),
            LawStep::Jump => {
                self.provider.now = Timestamp::at(now.wall() + 2 * JUMP, now.mono());
                self.jumped = true;
            }
            LawStep::Wake => self.wake(),
            LawStep::Hint => {
                self.requested = true;
                self.feed(ProviderInput::Hint);
            }
            LawStep::Manual => {
                self.requested = true;
                self.requests += 1;
                self.waiting.insert(RequestId(self.requests));
                self.feed(ProviderInput::Manual(RequestId(self.requests)));
            }
            LawStep::Rehearse => {
                self.requests += 1;
                self.waiting.insert(RequestId(self.requests));
                self.feed(ProviderInput::Rehearse(RequestId(self.requests)));
            }
            LawStep::Hold | LawStep::Resume => {
                self.held = matches!(step, LawStep::Hold);
                self.feed(if self.held {
                    ProviderInput::Hold
                } else {
                    ProviderInput::Resume
                });
            }
            LawStep::Verified(number) => {
                let Some(revision) = self.revision(number) else {
                    return;
                };
                self.rejected.remove(&revision);
                // A revision that was verified before counts as new after an hour.
                let last = self.verified.get(&revision);
                let is_new = last.is_none_or(|at| now.mono() >= *at + Duration::from_secs(3_600));
                if self.is_current(&revision) && is_new {
                    self.allowance.earn(now.mono());
                    self.verified.insert(revision.clone(), now.mono());
                }
                self.feed(ProviderInput::Verified(revision));
            }
            LawStep::Rejected(number) => {
                let Some(revision) = self.revision(number) else {
                    return;
                };
                self.rejected.insert(revision.clone(), now.mono());
                if self.is_current(&revision) {
                    self.allowance.refill.take_if(|at| *at > now.mono());
                }
                self.feed(ProviderInput::Rejected(revision));
            }
            LawStep::PoolLeaves(number) => {
                let served = number.map(revision);
                if let Some((_, facts)) = self.current()
                    && served
                        .as_ref()
                        .is_none_or(|served| *served == facts.revision)
                {
                    self.rejected.remove(&facts.revision);
                }
                let remaining = served.into_iter().map(Some).collect();
                self.feed(ProviderInput::PoolLeft(remaining));
            }
            LawStep::Take => {
                if let Some((lease, _)) = self.current() {
                    self.users.push(lease);
                    self.feed(ProviderInput::LeaseTaken(lease));
                }
            }
            LawStep::Return(which) if !self.users.is_empty() => {
                let lease = self.users.swap_remove(which % self.users.len());
                self.feed(ProviderInput::LeaseReturned(lease));
            }
            LawStep::FetchEnds(ending) => self.fetch_ends(ending),
            LawStep::HangingEnds(which, number) if !self.hanging.is_empty() => {
                let fetch = self.hanging.swap_remove(which % self.hanging.len());
                let lease = number.map(|number| lease(&number.to_string(), Expiry::never()));
                self.feed(ProviderInput::FetchLate { fetch, lease });
            }
            LawStep::ReleaseEnds(which, result) if !self.releasing.is_empty() => {
                let lease = self.releasing.swap_remove(which % self.releasing.len());
                let Some(result) = result else {
                    return self.feed(ProviderInput::ReleaseLost(lease));
                };
                self.retried.insert(lease);
                let result = result.map_err(error);
                self.feed(ProviderInput::ReleaseDone { lease, result });
            }
            LawStep::PoolsDone => {
                if let Some(rotation) = self.provider.machine.handing_over {
                    self.feed(ProviderInput::PoolsDone(rotation));
                }
            }
            LawStep::PoolsGone => self.feed(ProviderInput::PoolsGone),
            LawStep::Stop => self.feed(ProviderInput::Stop),
            LawStep::Return(_) | LawStep::HangingEnds(..) | LawStep::ReleaseEnds(..) => {}
        }
    }

    /// Checks that a wake acts on a past deadline, and leaves none.
    fn wake(&mut self) {
        let now = self.provider.now.mono();
        let is_due = self
            .provider
            .machine
            .next_deadline()
            .is_some_and(|at| at <= now);
        let effects = self.feed_counted(ProviderInput::Wake);
        assert!(!is_due || effects > 0, "due, but no effect");
        let next = self.provider.machine.next_deadline();
        assert!(next.is_none_or(|at| at > now), "still due after a wake");
    }

    pub(super) fn fetch_ends(&mut self, ending: FetchEnd) {
        let Some((fetch, started, trigger)) = self.running.take() else {
            return;
        };
        if matches!(ending, FetchEnd::Lost) && trigger_has_no_timer(trigger) && !self.rehearses {
            self.requested = true;
        }
        let now = self.provider.now;
        let done = |result| ProviderInput::FetchDone {
            fetch,
            result,
            jitter: 0.0,
        };
        let offer = match ending {
            FetchEnd::New(..) if self.renews && !self.rehearses => Some(Offer::Unchanged),
            FetchEnd::New(number, ttl) => {
                let expiry = ttl.map_or(Expiry::never(), |ttl| {
                    Expiry::after(now, Duration::from_secs(ttl))
                });
                Some(Offer::New(lease(&number.to_string(), expiry)))
            }
            FetchEnd::Renewed(ttl) => {
                Some(Offer::Renewed(Expiry::after(now, Duration::from_secs(ttl))))
            }
            FetchEnd::Unchanged => Some(Offer::Unchanged),
            _ => None,
        };
        let before = self.current();
        if matches!(ending, FetchEnd::Hangs) {
            self.hanging.push(fetch);
        }
        self.feed(match (ending, &offer) {
            (_, Some(offer)) => done(Ok(offer.clone())),
            (FetchEnd::Fails(kind), _) => done(Err(error(kind))),
            (FetchEnd::Hangs, _) => ProviderInput::FetchHangs {
                fetch,
                error: error(ProviderErrorKind::TimedOut),
                jitter: 0.0,
            },
            _ => ProviderInput::FetchLost(fetch),
        });
        let outcomes = self.provider.take(|effect| match effect {
            ProviderEffect::Report { outcome, .. } => Some(outcome.clone()),
            _ => None,
        });
        if std::mem::take(&mut self.rehearses) {
            assert!(outcomes.is_empty(), "a rehearsal is no rotation");
            let of = |lease: &Option<(LeaseId, Facts)>| {
                lease.as_ref().map(|(id, facts)| (*id, facts.expiry))
            };
            let after = self.current();
            assert_eq!(of(&before), of(&after), "a rehearsal changes nothing");
            return;
        }
        // The fetch listed a past rejection, and is repeated for its requests. Or it began before a
        // hold, and is repeated after it.
        self.requested |= !self.waiting.is_empty() || self.held;
        let after = self.current();
        let offered = match &offer {
            Some(Offer::New(facts)) => Some(facts),
            _ => None,
        };
        match outcomes.first() {
            None => assert!(matches!(ending, FetchEnd::Lost)),
            Some(FetchOutcome::Failed(_)) => {
                assert_eq!(before, after, "law 3: a failure changes no lease");
                self.refresh = None;
            }
            Some(FetchOutcome::Adopted) => {
                let offered = offered.map(|facts| &facts.revision);
                let of = |lease: &Option<(LeaseId, Facts)>| {
                    lease.as_ref().map(|(_, facts)| facts.revision.clone())
                };
                assert_ne!(of(&before).as_ref(), offered, "law 4: equal revision");
                assert_eq!(of(&after).as_ref(), offered);
                assert!(after.is_some_and(|(_, facts)| !facts.expiry.is_expired(now)));
                self.schedule(started);
            }
            Some(_) => {
                let of = |lease: &Option<(LeaseId, Facts)>| lease.as_ref().map(|(lease, _)| *lease);
                assert_eq!(of(&before), of(&after));
                let has_expired = |(_, facts): (LeaseId, Facts)| facts.expiry.is_expired(now);
                let is_other = offered.is_some_and(|facts| !self.is_current(&facts.revision));
                // The lease of a held provider stays, even if it has expired.
                assert!(
                    self.closed || (self.was_held && is_other) || !after.is_some_and(has_expired),
                    "law 3: an expired renewal is a failure"
                );
                let is_stale = matches!(outcomes[0], FetchOutcome::Stale { .. });
                if self.renews && matches!(offer, Some(Offer::Unchanged)) {
                    // It cannot be renewed: a fetch is due after the hold.
                    self.refresh = Some(now.mono());
                } else if !is_other || is_stale {
                    self.schedule(started);
                }
            }
        }
    }

    fn schedule(&mut self, started: Timestamp) {
        self.refresh = self
            .current()
            .map(|(_, facts)| started.mono() + schedule::refresh_after(&facts, started, POLL, 0.0));
    }

    fn feed(&mut self, input: ProviderInput) {
        self.feed_counted(input);
    }

    fn feed_counted(&mut self, input: ProviderInput) -> usize {
        let before = self.provider.effects.len();
        self.was_held = self.held && self.current().is_some();
        let ends_a_fetch = matches!(
            input,
            ProviderInput::FetchDone { .. } | ProviderInput::FetchHangs { .. }
        );
        self.provider.feed(input);
        let effects = self.provider.effects.split_off(before);
        let count = effects.len();
        // After all other effects, so that pools find the lease.
        let notifies: Vec<_> = (0..count)
            .filter(|index| matches!(effects[*index], ProviderEffect::NotifyPools))
            .collect();
        let reports_hold =
            |effect: &ProviderEffect| matches!(effect, ProviderEffect::ReportHold { .. });
        let notifies_pools = ends_a_fetch || effects.iter().any(reports_hold);
        let expected: Vec<_> = notifies_pools.then(|| count - 1).into_iter().collect();
        assert_eq!(notifies, expected, "{effects:?}");
        for effect in effects {
            self.check(&effect);
            if matches!(effect, ProviderEffect::Report { .. }) {
                self.provider.effects.push(effect);
            }
        }
        assert!(self.hanging.len() <= 3);
        let machine = &self.provider.machine;
        assert!(
            !machine.is_rejected(self.provider.now.mono())
                || machine.timers.get(Timer::Rejected).is_some(),
            "law 5: a rejection of the current lease causes a fetch"
        );
        count
    }

    /// Checks that every lease is released, and every request and rotation ends.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.feed(ProviderInput::Close);
        while let Some(lease) = self.users.pop() {
            self.feed(ProviderInput::LeaseReturned(lease));
        }
        self.fetch_ends(FetchEnd::New(99, None));
        while let Some(fetch) = self.hanging.pop() {
            let lease = Some(lease("98", Expiry::never()));
            self.feed(ProviderInput::FetchLate { fetch, lease });
        }
        while let Some(lease) = self.releasing.pop() {
            self.feed(ProviderInput::ReleaseDone {
                lease,
                result: Ok(()),
            });
        }
        assert!(!self.provider.machine.is_releasing());
        assert_eq!(self.provider.machine.unreleased(), 0);
        assert_eq!(self.provider.machine.next_deadline(), None);
        assert_eq!(
            self.stored,
            BTreeSet::new(),
            "law 9: every lease is released"
        );
        assert_eq!(self.waiting, BTreeSet::new(), "every request has its reply");
        assert_eq!(self.open, BTreeSet::new(), "every rotation ends");
    }
}

/// Largest number of tokens that law 7 allows, with fractions.
pub(super) struct BucketModel {
    tokens: f64,
    at: Instant,
    /// When a verified revision refills it.
    pub(super) refill: Option<Instant>,
}

impl BucketModel {
    pub(super) fn full(at: Instant) -> Self {
        Self {
            tokens: 3.0,
            at,
            refill: None,
        }
    }

    /// Notes a verified revision, which refills the bucket after 250 ms.
    fn earn(&mut self, now: Instant) {
        self.fill(now);
        self.refill = Some(now + Duration::from_millis(250));
    }

    fn draw(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.tokens -= 1.0;
        self.tokens > -1e-6
    }

    fn fill(&mut self, now: Instant) {
        let refilled = self.refill.take_if(|at| *at <= now).is_some();
        let earned = now.saturating_duration_since(self.at).as_secs_f64() / 10.0;
        self.tokens = if refilled {
            3.0
        } else {
            (self.tokens + earned).min(3.0)
        };
        self.at = now;
    }
}
