//! What a provider's slot knows, and what follows from it: no I/O, no clock, no task.

mod settle;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

pub(crate) use settle::{Settled, alive};

use super::bucket::TokenBucket;
use super::exclusion::Exclusions;
use super::release::Debts;
use crate::clock::Timestamp;
use crate::error::{ProviderError, ProviderErrorKind};
use crate::lease::{Lease, Revision};
use crate::rotation::{Rotation, RotationReport};
use crate::telemetry::{Caller, Origin};
use crate::trigger::RotationTrigger;

/// Hints and manual requests are answered at most this often.
const COALESCE: Duration = Duration::from_secs(1);
/// A clock jump of more than this means that the machine slept or that time was set.
const JUMP: Duration = Duration::from_secs(60);

/// So many fetches that have not ended by their deadline may be out; no further one is begun before
/// one of them ends.
const HANGING_MOST: usize = 3;
/// How many verified revisions are remembered.
const VERIFIED_MOST: usize = 64;

/// Somebody asks for a new credential.
#[derive(Debug)]
pub(crate) struct ManualRequest {
    /// Who is told of the rotation. Dropped, which they see, when there will be none.
    pub(crate) reply: oneshot::Sender<Result<Arc<Rotation>, ProviderError>>,
    pub(crate) caller: Caller,
}

/// Everything that must outlive a crash of the actor.
pub(crate) struct State<S> {
    /// No more fetches: the provider is being removed, or the supervisor shut down.
    pub(crate) closing: bool,
    pub(crate) held: Option<Lease<S>>,
    held_life: Option<Duration>,
    /// The rotation that brought the held lease.
    pub(crate) origin: Origin,
    /// The revisions that were verified by a login, the latest last.
    verified: Vec<Revision>,
    /// The revision that a login worked with and that was not rejected since, and when it first
    /// worked.
    working: Option<(Revision, Instant)>,
    /// Everything was given back: what still comes is given back at once.
    closed: bool,
    /// When the held lease is to be refreshed; `None` while a failed attempt awaits its retry.
    pub(crate) refresh_at: Option<Instant>,
    pub(crate) in_flight: Option<InFlight>,
    /// Fetches that have not ended by their deadline, and when they began.
    pub(crate) hanging: Vec<(u64, Timestamp)>,
    retry: Option<Retry>,
    failures: u32,
    pub(crate) last_error: Option<ProviderError>,
    changed: Option<Instant>,
    last_hinted: Option<Instant>,
    manual: Vec<ManualRequest>,
    pub(crate) woke: bool,
    /// When the held revision, which is rejected, may be asked about.
    rejected_due: Option<Instant>,
    pub(crate) exclusions: Exclusions,
    /// The database rejected what is held, and no login with it has worked since.
    rejected: bool,
    pub(crate) bucket: TokenBucket,
    retired: Vec<Retired>,
    /// How many generations, attempts and drains use each revision, over all pools.
    tenants: HashMap<Revision, usize>,
    /// Leases that are no longer held but still in use.
    parked: HashMap<Revision, Lease<S>>,
    pub(crate) debts: Debts<S>,
    pub(crate) last_beat: Timestamp,
    /// The rotation whose fetch is due, runs or is retried.
    pub(crate) fetching: Option<Arc<Rotation>>,
    /// The rotation whose new lease pools have not all taken.
    pub(crate) settling: Option<Arc<Rotation>>,
    /// The last rotation that ended.
    pub(crate) last_rotation: Option<RotationReport>,
    /// Attempts so far.
    pub(crate) fetches: u64,
    fetch_number: u64,
}

/// A fetch that runs.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) number: u64,
    trigger: RotationTrigger,
    manual: Vec<ManualRequest>,
    /// The held revision was rejected after this fetch had begun: its answer may be older than the
    /// rejection.
    rejected_since: bool,
    /// It was begun because the held revision was rejected, and a login with that has worked since.
    moot: bool,
}

impl InFlight {
    /// Those who asked for it.
    pub(crate) fn callers(&self) -> impl Iterator<Item = &Caller> {
        self.manual.iter().map(|request| &request.caller)
    }
}

/// A fetch to come.
struct Due {
    at: Instant,
    trigger: RotationTrigger,
    paid: bool,
}

/// A superseded revision.
struct Retired {
    revision: Revision,
    since: Instant,
    /// It came instead of a newer one, and that was logged.
    is_known: bool,
}

/// A further attempt after one that failed.
#[derive(Debug)]
struct Retry {
    at: Instant,
    trigger: RotationTrigger,
}

/// What the shell is to do.
pub(crate) struct Decision<S> {
    pub(crate) fetch: Option<(u64, RotationTrigger)>,
    pub(crate) releases: Vec<Lease<S>>,
    /// When something falls due that no message announces.
    pub(crate) next: Option<Instant>,
}

impl<S> State<S> {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            closing: false,
            held: None,
            held_life: None,
            origin: Origin::default(),
            verified: Vec::new(),
            working: None,
            closed: false,
            refresh_at: Some(now.mono()),
            in_flight: None,
            hanging: Vec::new(),
            retry: None,
            failures: 0,
            last_error: None,
            changed: None,
            last_hinted: None,
            manual: Vec::new(),
            woke: false,
            rejected_due: None,
            exclusions: Exclusions::default(),
            rejected: false,
            bucket: TokenBucket::full(now.mono()),
            retired: Vec::new(),
            tenants: HashMap::new(),
            parked: HashMap::new(),
            debts: Debts::default(),
            last_beat: now,
            fetching: None,
            settling: None,
            last_rotation: None,
            fetches: 0,
            fetch_number: 0,
        }
    }

    /// The database rejected a login with this revision.
    pub(crate) fn note_rejected(&mut self, revision: &Revision, now: Instant) {
        // What worked does not any more: the database was changed, maybe back to what it rejected
        // before (a rotation rolled back).
        if let Some((_, since)) = self.working.take_if(|(working, _)| working == revision) {
            self.exclusions.lift_older(since, now);
        }
        let fresh = self.exclusions.reject(revision, now);
        if !self.holds(revision) {
            return;
        }
        self.bucket.forfeit(now);
        self.rejected = true;
        if let Some(in_flight) = &mut self.in_flight {
            // Rejected again: what the fetch brings is needed after all.
            in_flight.moot = false;
        }
        if fresh || self.rejected_due.is_none() {
            self.rejected_due.get_or_insert(now);
            if let Some(in_flight) = &mut self.in_flight {
                in_flight.rejected_since = true;
            }
        }
    }

    /// A login with this revision worked.
    pub(crate) fn note_verified(&mut self, revision: &Revision, now: Instant) {
        self.exclusions.clear(revision);
        if self
            .working
            .as_ref()
            .is_none_or(|(working, _)| working != revision)
        {
            self.working = Some((revision.clone(), now));
        }
        // Earlier failures are forgotten once a new revision works. Not when it is adopted: a
        // backend that mints at each fetch would fill its own bucket.
        if !self.was_verified(revision) {
            self.verified.push(revision.clone());
            let surplus = self.verified.len().saturating_sub(VERIFIED_MOST);
            self.verified.drain(..surplus);
            if self.holds(revision) {
                self.bucket.earn(now);
            }
        }
        if self.holds(revision) {
            self.accepted();
        }
    }

    pub(super) fn was_verified(&self, revision: &Revision) -> bool {
        self.verified.contains(revision)
    }

    /// Nobody is rejected with what is held.
    fn accepted(&mut self) {
        self.rejected = false;
        self.rejected_due = None;
        if let Some(in_flight) = self
            .in_flight
            .as_mut()
            .filter(|in_flight| in_flight.trigger == RotationTrigger::Rejected)
        {
            in_flight.moot = in_flight.manual.is_empty();
        }
        if let Some(retry) = self
            .retry
            .as_mut()
            .filter(|retry| retry.trigger == RotationTrigger::Rejected)
        {
            retry.trigger = RotationTrigger::Schedule;
        }
    }

    /// No fetch runs, and none is due but by schedule.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.in_flight.is_none() && self.retry.is_none() && self.rejected_due.is_none()
    }

    /// Whether the database rejects what is held: until a login with it works, also when its
    /// cool-down is over. What comes back within its cool-down is rejected as it was.
    pub(crate) fn held_is_rejected(&self, now: Instant) -> bool {
        self.held
            .as_ref()
            .is_some_and(|held| self.rejected || self.exclusions.contains(held.revision(), now))
    }

    /// Of the pools that are left none would find out whether the database still rejects this
    /// revision: those whom it rejected are gone.
    pub(crate) fn forget_rejection(&mut self, revision: &Revision) {
        self.exclusions.clear(revision);
        if self.holds(revision) {
            self.accepted();
        }
    }

    pub(crate) fn note_changed(&mut self, now: Instant) {
        self.changed.get_or_insert(now);
    }

    /// Dropped, which the caller sees, when nothing will be fetched any more.
    pub(crate) fn note_manual(&mut self, request: ManualRequest) {
        if !self.closing {
            self.manual.push(request);
        }
    }

    /// Compares the clocks; a jump makes everything count as unlooked-at.
    pub(crate) fn beat(&mut self, now: Timestamp) {
        if now.skew_since(&self.last_beat) > JUMP {
            self.woke = true;
        }
        self.last_beat = now;
    }

    /// How long the held lease was to live when it came.
    pub(crate) fn held_life(&self) -> Option<Duration> {
        self.held_life
    }

    pub(crate) fn holds(&self, revision: &Revision) -> bool {
        self.held
            .as_ref()
            .is_some_and(|held| held.revision() == revision)
    }

    /// Lends the held lease to a pool: it is not released until given back as often as lent.
    pub(crate) fn lend(&mut self) -> Option<(Lease<S>, Option<Duration>, Origin)> {
        let lease = self.held.clone()?;
        *self.tenants.entry(lease.revision().clone()).or_default() += 1;
        Some((lease, self.held_life, self.origin.clone()))
    }

    /// A pool's attempt failed, or its generation has drained.
    pub(crate) fn give_back(&mut self, revision: &Revision, now: Instant) {
        let Some(count) = self.tenants.get_mut(revision) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            self.tenants.remove(revision);
            if let Some(lease) = self.parked.remove(revision) {
                self.debts.owe(lease, now);
            }
        }
    }

    fn in_use(&self, revision: &Revision) -> bool {
        self.tenants.contains_key(revision)
    }

    /// The next fetch; `None` when one runs or none will. Rejections and further attempts draw on
    /// the bucket; a start, a schedule after success, a hint, a manual request and a wake take
    /// none.
    fn next_fetch(&self, now: Instant) -> Option<Due> {
        if self.closing || self.in_flight.is_some() || self.hanging.len() >= HANGING_MOST {
            return None;
        }
        let hinted = |at: Instant| self.last_hinted.map_or(at, |last| at.max(last + COALESCE));
        let free = |at: Instant, trigger| Due {
            at: at.max(now),
            trigger,
            paid: false,
        };
        let paid = |at: Instant, trigger| Due {
            at: at.max(self.bucket.available_at(now)),
            trigger,
            paid: true,
        };
        let scheduled = if self.held.is_none() {
            RotationTrigger::Start
        } else {
            RotationTrigger::Schedule
        };
        // Of those that fall due together the first is taken; it answers the others' question, too.
        [
            (!self.manual.is_empty()).then(|| free(hinted(now), RotationTrigger::Manual)),
            self.woke.then(|| free(now, RotationTrigger::Woke)),
            self.changed
                .map(|at| free(hinted(at), RotationTrigger::Changed)),
            self.rejected_due
                .map(|at| paid(at, RotationTrigger::Rejected)),
            self.retry
                .as_ref()
                .map(|retry| paid(retry.at, retry.trigger)),
            self.refresh_at.map(|at| free(at, scheduled)),
        ]
        .into_iter()
        .flatten()
        .min_by_key(|due| due.at.max(now))
    }

    /// When the next fetch is due, if one is.
    pub(crate) fn next_fetch_at(&self, now: Instant) -> Option<Instant> {
        self.next_fetch(now).map(|due| due.at)
    }

    /// When the next look is planned, whatever runs at present.
    pub(crate) fn next_look_at(&self, now: Instant) -> Option<Instant> {
        self.refresh_at
            .into_iter()
            .chain(self.next_fetch_at(now))
            .min()
    }

    /// What is to be done now, and when to look again.
    pub(crate) fn decide(&mut self, now: Timestamp) -> Decision<S> {
        self.beat(now);
        let mono = now.mono();
        let mut fetch = None;
        if let Some(Due { at, trigger, paid }) = self.next_fetch(mono)
            && at <= mono
            && (!paid || self.bucket.take(mono))
        {
            self.fetch_number += 1;
            self.fetches += 1;
            let manual = std::mem::take(&mut self.manual);
            if matches!(trigger, RotationTrigger::Manual | RotationTrigger::Changed) {
                self.last_hinted = Some(mono);
            }
            // Whatever is fetched now answers every question that was open.
            self.changed = None;
            self.woke = false;
            self.in_flight = Some(InFlight {
                number: self.fetch_number,
                trigger,
                manual,
                rejected_since: false,
                moot: false,
            });
            fetch = Some((self.fetch_number, trigger));
        }
        let releases = if self.closing {
            Vec::new()
        } else {
            self.debts.due(now, &mut self.bucket)
        };
        let debts = if self.closing {
            None
        } else {
            self.debts.next(mono, &self.bucket)
        };
        let next = [self.next_fetch_at(mono), debts]
            .into_iter()
            .flatten()
            .min();
        Decision {
            fetch,
            releases,
            next,
        }
    }

    /// A fetch answered after its deadline: its lease is owed back, unless it is the one in use.
    pub(crate) fn late(&mut self, lease: Lease<S>, now: Instant) {
        if !self.holds(lease.revision()) && !self.in_use(lease.revision()) {
            self.debts.owe(lease, now);
        }
    }

    /// A fetch that was late has ended.
    pub(crate) fn no_longer_hangs(&mut self, number: u64) {
        self.hanging.retain(|(hanging, _)| *hanging != number);
    }

    /// Everything that is to be released now that no pool is left.
    pub(crate) fn last_debts(&mut self) -> Vec<Lease<S>> {
        let mut leases: Vec<Lease<S>> = self.held.take().into_iter().collect();
        leases.extend(self.parked.drain().map(|(_, lease)| lease));
        leases.extend(self.debts.drain());
        self.closed = true;
        // Whoever still waits for a fetch that hangs is told.
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.manual.clear();
        }
        leases
    }

    /// What came after everything was given back.
    pub(crate) fn orphans(&mut self) -> Vec<Lease<S>> {
        if self.closed {
            self.last_debts()
        } else {
            Vec::new()
        }
    }

    /// Manual requests that no fetch will answer soon, and why: as many fetches as may be out have
    /// not ended.
    pub(crate) fn blocked_manual(
        &mut self,
        now: Timestamp,
    ) -> Option<(Vec<ManualRequest>, ProviderError)> {
        if self.hanging.len() < HANGING_MOST || self.manual.is_empty() {
            return None;
        }
        let oldest = self
            .hanging
            .iter()
            .map(|(_, began)| now.mono().saturating_duration_since(began.mono()))
            .max()
            .unwrap_or_default();
        let message = format!(
            "{HANGING_MOST} fetches have not ended, the first for {}; no other begins before one of them ends; give the provider's own calls a time-out",
            humantime::format_duration(Duration::from_secs(oldest.as_secs()))
        );
        Some((
            self.abandon_manual(),
            ProviderError::new(ProviderErrorKind::TimedOut, message),
        ))
    }

    /// Manual requests that no fetch will answer any more.
    pub(crate) fn abandon_manual(&mut self) -> Vec<ManualRequest> {
        std::mem::take(&mut self.manual)
    }
}

#[cfg(test)]
mod tests;
