//! A model of the provider, which checks every law at each effect.

mod bucket;
mod checks;
mod fetches;
mod operations;

use std::collections::{BTreeMap, BTreeSet};

use super::super::tests::{POLL, TestProvider, error, lease};
use super::super::*;
use crate::error::ProviderErrorKind;
use crate::expiry::Expiry;
use crate::provider::schedule;
use bucket::BucketModel;
use operations::ModelledRehearsal;

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
    RehearsalEnds(FetchEnd),
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
    rehearsal: Option<ModelledRehearsal>,
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
            rehearsal: None,
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
            LawStep::Rehearse => self.rehearse(),
            LawStep::RehearsalEnds(ending) => self.rehearsal_ends(ending),
            LawStep::Hold => self.set_held(true),
            LawStep::Resume => self.set_held(false),
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

    fn feed(&mut self, input: ProviderInput) {
        self.feed_counted(input);
    }

    fn feed_counted(&mut self, input: ProviderInput) -> usize {
        let before = self.provider.effects.len();
        self.was_held = self.held && self.current().is_some();
        let ends_a_fetch = match &input {
            ProviderInput::FetchDone { fetch, .. } | ProviderInput::FetchHangs { fetch, .. } => {
                !self.is_rehearsal(*fetch)
            }
            _ => false,
        };
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
        self.rehearsal_ends(FetchEnd::New(96, None));
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
