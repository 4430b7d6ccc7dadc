use super::*;
use crate::error::ProviderErrorKind;
use crate::expiry::Expiry;
use crate::lease::OldConnections;

pub(super) const POLL: Duration = Duration::from_secs(300);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

pub(super) fn lease(revision: &str, expiry: Expiry) -> Facts {
    Facts {
        revision: Revision::new(revision),
        expiry,
        old_connections: OldConnections::Drain,
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

fn done(fetch: u64, result: Result<Offer, ProviderError>) -> ProviderInput {
    ProviderInput::FetchDone {
        fetch: FetchId(fetch),
        result,
        jitter: 0.0,
    }
}

fn release_done(lease: u64, result: Result<(), ProviderError>) -> ProviderInput {
    ProviderInput::ReleaseDone {
        lease: LeaseId(lease),
        result,
    }
}

fn open(rotation: u64, trigger: RotationTrigger) -> ProviderEffect {
    ProviderEffect::OpenRotation {
        rotation: RotationId(rotation),
        trigger,
    }
}

fn start(fetch: u64, trigger: RotationTrigger, rotation: u64) -> ProviderEffect {
    ProviderEffect::StartFetch {
        fetch: FetchId(fetch),
        trigger,
        rotation: RotationId(rotation),
        requests: Vec::new(),
        rejected: [].into(),
    }
}

fn report(outcome: FetchOutcome, rotation: u64) -> ProviderEffect {
    ProviderEffect::Report {
        outcome,
        rotation: Some(RotationId(rotation)),
    }
}

fn hand_over(rotation: u64, lease: u64) -> ProviderEffect {
    ProviderEffect::HandOver {
        rotation: RotationId(rotation),
        lease: LeaseId(lease),
    }
}

fn close(rotation: u64, outcome: RotationOutcome) -> ProviderEffect {
    ProviderEffect::CloseRotation {
        rotation: RotationId(rotation),
        outcome,
    }
}

// Triggers and times of fetches.

#[test]
fn each_trigger_leads_to_a_fetch_of_its_own() {
    let cases: [(ProviderInput, RotationTrigger); 3] = [
        (ProviderInput::Hint, RotationTrigger::Changed),
        (ProviderInput::Manual(RequestId(1)), RotationTrigger::Manual),
        (
            ProviderInput::Rejected(Revision::new("current")),
            RotationTrigger::Rejected,
        ),
    ];
    for (input, trigger) in cases {
        let mut provider = TestProvider::serving();
        assert_eq!(provider.wake(), None);
        provider.feed(input);
        assert_eq!(provider.next(), Some(Duration::ZERO));
        assert_eq!(provider.wake(), Some((FetchId(2), trigger)));
        assert_eq!(provider.next(), None, "one fetch at a time");
    }
    let mut provider = TestProvider::new();
    assert_eq!(provider.wake(), Some((FetchId(1), RotationTrigger::Start)));
    let mut provider = TestProvider::serving();
    provider.pass(POLL);
    assert_eq!(
        provider.wake(),
        Some((FetchId(2), RotationTrigger::Schedule))
    );
}

#[test]
fn a_clock_jump_leads_to_a_fetch() {
    for jump in [61, -61i64] {
        let mut provider = TestProvider::serving();
        assert_eq!(provider.wake(), None);
        let seconds = Duration::from_secs(jump.unsigned_abs());
        let wall = if jump > 0 {
            provider.now.wall() + seconds
        } else {
            provider.now.wall() - seconds
        };
        provider.now = Timestamp::at(wall, provider.now.mono());
        assert_eq!(
            provider.wake().map(|(_, trigger)| trigger),
            Some(RotationTrigger::ClockJump)
        );
    }
}

#[test]
fn hints_and_manual_requests_share_one_fetch_a_second() {
    let mut provider = TestProvider::serving();
    provider.feed(ProviderInput::Hint);
    let fetch = provider.begin();
    provider.succeed(fetch, "current");
    for request in 0..3 {
        provider.feed(ProviderInput::Manual(RequestId(request)));
        provider.feed(ProviderInput::Hint);
    }
    assert_eq!(provider.begin(), None);
    assert_eq!(provider.next(), Some(COALESCE));
    provider.pass(COALESCE);
    let fetch = provider.begin();
    provider.succeed(fetch, "new");
    assert_eq!(provider.replies().len(), 3, "one fetch for all");
    provider.pass(COALESCE);
    assert_eq!(provider.begin(), None);
}

#[test]
fn the_next_planned_fetch_is_the_earliest_of_all() {
    let mut provider = TestProvider::new();
    provider.fetch("current");
    let now = provider.now.mono();
    assert_eq!(provider.machine.next_planned_fetch(), Some(now + POLL));
    provider.feed(ProviderInput::Hint);
    assert_eq!(provider.machine.next_planned_fetch(), Some(now + COALESCE));
}

#[test]
fn a_failed_fetch_keeps_the_lease_and_is_retried_with_back_off() {
    let mut provider = TestProvider::serving();
    provider.feed(ProviderInput::Hint);
    for pause in [1, 2, 4, 8, 10, 10] {
        let fetch = provider.begin();
        assert!(fetch.is_some(), "{pause}");
        provider.fail(fetch, ProviderErrorKind::Unavailable);
        assert!(provider.is_current("current"));
        assert!(provider.next() >= Some(pause * SECOND));
        // Once empty, the bucket allows one fetch in ten seconds.
        provider.pass(provider.next().unwrap_or_default().max(SECOND));
    }
}

#[test]
fn a_failed_manual_fetch_is_reported_and_retried_by_schedule() {
    let mut provider = TestProvider::serving();
    provider.feed(ProviderInput::Manual(RequestId(1)));
    let fetch = provider.begin();
    provider.fail(fetch, ProviderErrorKind::Unavailable);
    assert!(matches!(provider.replies()[..], [ManualReply::Failed(_)]));
    provider.pass(10 * SECOND);
    assert_eq!(
        provider.wake().map(|(_, trigger)| trigger),
        Some(RotationTrigger::Schedule)
    );
}

#[test]
fn a_lost_fetch_abandons_its_requests_and_begins_again() {
    let mut provider = TestProvider::new();
    provider.feed(ProviderInput::Manual(RequestId(1)));
    let fetch = provider.begin();
    provider.feed(ProviderInput::FetchLost(fetch.unwrap_or(FetchId(0))));
    assert!(matches!(provider.replies()[..], [ManualReply::Abandoned]));
    assert_eq!(provider.begin(), Some(FetchId(2)));
    assert!(provider.succeed(fetch, "late").is_none(), "it was given up");
}

#[test]
fn a_lost_fetch_for_a_clock_jump_or_a_hint_begins_again() {
    for jumps in [true, false] {
        let mut provider = TestProvider::serving();
        if jumps {
            let wall = provider.now.wall() + 120 * SECOND;
            provider.now = Timestamp::at(wall, provider.now.mono());
        } else {
            provider.feed(ProviderInput::Hint);
        }
        let fetch = provider.begin();
        provider.feed(ProviderInput::FetchLost(fetch.unwrap_or(FetchId(0))));
        provider.pass(SECOND);
        assert!(provider.begin().is_some(), "jumps: {jumps}");
    }
}

#[test]
fn no_fourth_fetch_begins_while_three_hang() {
    let mut provider = TestProvider::new();
    for number in 1..=3 {
        assert_eq!(provider.begin(), Some(FetchId(number)));
        provider.feed(ProviderInput::FetchHangs {
            fetch: FetchId(number),
            error: error(ProviderErrorKind::TimedOut),
            jitter: 0.0,
        });
        provider.pass(60 * SECOND);
    }
    assert_eq!(provider.begin(), None);
    provider.pass(HOUR);
    assert_eq!(provider.begin(), None);
    provider.feed(ProviderInput::Manual(RequestId(1)));
    assert_eq!(provider.next(), Some(Duration::ZERO));
    assert_eq!(provider.begin(), None);
    let replies = provider.replies();
    assert!(
        matches!(&replies[..], [ManualReply::Failed(error)]
            if error.kind() == ProviderErrorKind::TimedOut
                && error.to_string().contains("3 fetches have not ended, the first for 1h 3m")),
        "{replies:?}"
    );
    assert_eq!(provider.next(), None);
    provider.feed(ProviderInput::FetchLate {
        fetch: FetchId(2),
        lease: None,
    });
    assert_eq!(provider.begin(), Some(FetchId(4)));
}

// All effects of a transition, in their order.

#[test]
fn a_fetch_opens_a_rotation_and_its_lease_is_stored_handed_over_and_announced_to_pools() {
    let mut provider = TestProvider::new();
    provider.expect(
        ProviderInput::Wake,
        &[
            open(1, RotationTrigger::Start),
            start(1, RotationTrigger::Start, 1),
        ],
    );
    provider.expect(ProviderInput::Wake, &[]);
    provider.expect(
        done(1, Ok(Offer::New(lease("a", Expiry::never())))),
        &[
            ProviderEffect::Store(LeaseId(1)),
            report(FetchOutcome::Adopted, 1),
            hand_over(1, 1),
            ProviderEffect::NotifyPools,
        ],
    );
}

#[test]
fn a_retried_fetch_continues_the_rotation_of_the_failed_one() {
    let mut provider = TestProvider::serving();
    provider.feed(ProviderInput::PoolsSettled(RotationId(1)));
    provider.feed(ProviderInput::Manual(RequestId(1)));
    let with_request = ProviderEffect::StartFetch {
        fetch: FetchId(2),
        trigger: RotationTrigger::Manual,
        rotation: RotationId(2),
        requests: vec![RequestId(1)],
        rejected: [].into(),
    };
    provider.expect(
        ProviderInput::Wake,
        &[open(2, RotationTrigger::Manual), with_request],
    );
    let error = error(ProviderErrorKind::Unavailable);
    provider.expect(
        done(2, Err(error.clone())),
        &[
            report(FetchOutcome::Failed(error.clone()), 2),
            ProviderEffect::Reply {
                request: RequestId(1),
                reply: ManualReply::Failed(error),
            },
            ProviderEffect::NotifyPools,
        ],
    );
    provider.pass(SECOND);
    provider.expect(
        ProviderInput::Wake,
        &[start(3, RotationTrigger::Schedule, 2)],
    );
    provider.expect(
        done(3, Ok(Offer::Unchanged)),
        &[
            report(FetchOutcome::Unchanged, 2),
            close(2, RotationOutcome::Unchanged),
            ProviderEffect::NotifyPools,
        ],
    );
}

#[test]
fn a_renewal_is_stored_or_extended_and_announced_to_pools() {
    let now = TestProvider::serving().now;
    let expiry = Expiry::after(now, 500 * SECOND);
    for (offer, stored) in [
        (
            Offer::New(lease("current", expiry)),
            Some(ProviderEffect::Store(LeaseId(1))),
        ),
        (
            Offer::Renewed(expiry),
            Some(ProviderEffect::Extend(LeaseId(1), expiry)),
        ),
        (Offer::Unchanged, None),
    ] {
        let mut provider = TestProvider::serving();
        provider.now = now;
        provider.feed(ProviderInput::Hint);
        provider.expect(
            ProviderInput::Wake,
            &[
                open(2, RotationTrigger::Changed),
                start(2, RotationTrigger::Changed, 2),
            ],
        );
        let mut effects: Vec<_> = stored.into_iter().collect();
        effects.extend([
            report(FetchOutcome::Unchanged, 2),
            close(2, RotationOutcome::Unchanged),
            ProviderEffect::NotifyPools,
        ]);
        provider.expect(done(2, Ok(offer)), &effects);
    }
}

#[test]
fn a_superseded_lease_is_released_and_its_value_forgotten_once() {
    let unavailable = || error(ProviderErrorKind::Unavailable);
    for (result, forgets) in [
        (Ok(()), true),
        (Err(error(ProviderErrorKind::Denied)), true),
        (Err(unavailable()), false),
    ] {
        let mut provider = TestProvider::serving();
        provider.feed(ProviderInput::Hint);
        provider.feed(ProviderInput::Wake);
        provider.expect(
            done(2, Ok(Offer::New(lease("new", Expiry::never())))),
            &[
                ProviderEffect::Store(LeaseId(2)),
                close(1, RotationOutcome::Superseded),
                report(FetchOutcome::Adopted, 2),
                hand_over(2, 2),
                ProviderEffect::NotifyPools,
            ],
        );
        provider.expect(ProviderInput::Wake, &[ProviderEffect::Release(LeaseId(1))]);
        let forget = ProviderEffect::Forget(LeaseId(1));
        let effects = forgets.then_some(forget);
        provider.expect(release_done(1, result), effects.as_slice());
        provider.expect(release_done(1, Ok(())), &[]);
    }
}

#[test]
fn a_release_that_is_given_up_forgets_the_lease() {
    let mut provider = TestProvider::serving();
    let facts = lease("late", Expiry::after(provider.now, SECOND));
    provider.feed(ProviderInput::FetchLate {
        fetch: FetchId(9),
        lease: Some(facts),
    });
    provider.expect(ProviderInput::Wake, &[ProviderEffect::Release(LeaseId(9))]);
    let unavailable = error(ProviderErrorKind::Unavailable);
    provider.expect(release_done(9, Err(unavailable)), &[]);
    provider.pass(SECOND);
    provider.expect(ProviderInput::Wake, &[ProviderEffect::Forget(LeaseId(9))]);
}

#[test]
fn a_fetch_past_its_deadline_is_announced_and_its_late_lease_is_stored_for_release() {
    let mut provider = TestProvider::new();
    provider.feed(ProviderInput::Wake);
    let timed_out = error(ProviderErrorKind::TimedOut);
    let hangs = ProviderInput::FetchHangs {
        fetch: FetchId(1),
        error: timed_out.clone(),
        jitter: 0.0,
    };
    provider.expect(
        hangs,
        &[
            report(FetchOutcome::Failed(timed_out), 1),
            ProviderEffect::NotifyPools,
        ],
    );
    let late = ProviderInput::FetchLate {
        fetch: FetchId(1),
        lease: Some(lease("late", Expiry::never())),
    };
    provider.expect(late, &[ProviderEffect::Store(LeaseId(1))]);
    provider.expect(ProviderInput::Wake, &[ProviderEffect::Release(LeaseId(1))]);
    provider.expect(
        release_done(1, Ok(())),
        &[ProviderEffect::Forget(LeaseId(1))],
    );
}

#[test]
fn an_unneeded_lease_is_stored_for_release_and_a_second_result_only_notifies_pools() {
    let mut provider = TestProvider::serving();
    provider.rejected("current");
    provider.feed(ProviderInput::Wake);
    provider.verified("current");
    let offer = || Ok(Offer::New(lease("pending", Expiry::never())));
    provider.expect(
        done(2, offer()),
        &[
            ProviderEffect::Store(LeaseId(2)),
            report(FetchOutcome::Unchanged, 2),
            close(2, RotationOutcome::Unchanged),
            ProviderEffect::NotifyPools,
        ],
    );
    // A panic may have lost the effects of the first one.
    provider.expect(done(2, offer()), &[ProviderEffect::NotifyPools]);
}

// Results of fetches.

#[test]
fn an_equal_revision_moves_expiry_and_refresh_without_a_handover() {
    let now = TestProvider::serving().now;
    let in_seconds = |seconds| Expiry::after(now, seconds * SECOND);
    let hinted = Facts {
        refresh_after: Some(7 * SECOND),
        ..lease("current", in_seconds(60))
    };
    for (offer, expiry, refresh, lifetime) in [
        (Offer::New(hinted), in_seconds(60), 7, Some(60)),
        // 80 % of what remains.
        (
            Offer::Renewed(in_seconds(100)),
            in_seconds(100),
            80,
            Some(100),
        ),
        (Offer::Unchanged, Expiry::never(), 300, None),
    ] {
        let mut provider = TestProvider::serving();
        provider.now = now;
        provider.feed(ProviderInput::Hint);
        let fetch = provider.begin();
        let outcome = provider.end(fetch, Ok(offer));
        assert!(matches!(outcome, Some(FetchOutcome::Unchanged)));
        assert_eq!(
            provider
                .machine
                .current()
                .map(|(_, current)| current.expiry),
            Some(expiry)
        );
        assert_eq!(provider.next(), Some(refresh * SECOND));
        assert_eq!(
            provider.machine.lifetime(),
            lifetime.map(|seconds| seconds * SECOND)
        );
        assert!(matches!(
            provider.closed()[..],
            [(_, RotationOutcome::Unchanged)]
        ));
        assert!(!provider.effects.iter().any(|effect| matches!(
            effect,
            ProviderEffect::HandOver { .. } | ProviderEffect::Release(_)
        )));
    }
}

#[test]
fn a_renewal_without_a_lease_and_an_expired_lease_are_errors() {
    let mut provider = TestProvider::new();
    let expired = Offer::New(lease("a", Expiry::after(provider.now, Duration::ZERO)));
    for (offer, expected) in [
        (Offer::Renewed(Expiry::never()), ProviderErrorKind::Other),
        (Offer::Unchanged, ProviderErrorKind::Other),
        (expired, ProviderErrorKind::ExpiredLease),
    ] {
        let fetch = provider.begin();
        let outcome = provider.end(fetch, Ok(offer));
        assert!(
            matches!(&outcome, Some(FetchOutcome::Failed(error)) if error.kind() == expected),
            "{outcome:?}"
        );
        provider.pass(60 * SECOND);
    }
    assert!(provider.machine.current().is_none());
}

#[test]
fn a_corrected_secret_is_adopted_at_once() {
    let mut provider = TestProvider::new();
    provider.fetch("a");
    provider.verified("a");
    provider.fetch("b");
    assert!(provider.is_current("b"), "no login has verified it");
    assert!(matches!(provider.fetch("a"), Some(FetchOutcome::Adopted)));
    // Revision b was never verified, so it does not count as superseded.
    assert!(matches!(provider.fetch("b"), Some(FetchOutcome::Adopted)));
}

#[test]
fn a_superseded_revision_is_not_adopted_while_the_current_one_is_verified() {
    let mut provider = TestProvider::new();
    for revision in ["a", "b"] {
        provider.fetch(revision);
        provider.verified(revision);
    }
    assert!(matches!(
        provider.fetch("a"),
        Some(FetchOutcome::Stale { is_news: true })
    ));
    assert!(
        matches!(
            provider.fetch("a"),
            Some(FetchOutcome::Stale { is_news: false })
        ),
        "it is logged once"
    );
    assert!(provider.is_current("b"));
    provider.rejected("b");
    assert!(matches!(provider.fetch("a"), Some(FetchOutcome::Adopted)));
}

#[test]
fn a_superseded_revision_is_adopted_again_after_an_hour() {
    let mut provider = TestProvider::new();
    for revision in ["a", "b"] {
        provider.fetch(revision);
        provider.verified(revision);
    }
    provider.pass(HOUR);
    assert!(matches!(provider.fetch("a"), Some(FetchOutcome::Adopted)));
}

#[test]
fn alternating_superseded_revisions_are_logged_once_each() {
    let mut provider = TestProvider::new();
    for revision in ["a", "b", "c"] {
        provider.fetch(revision);
        provider.verified(revision);
    }
    let mut is_news = |revision| {
        matches!(
            provider.fetch(revision),
            Some(FetchOutcome::Stale { is_news: true })
        )
    };
    assert_eq!(
        ["a", "b", "a", "b", "a"].map(&mut is_news),
        [true, true, false, false, false]
    );
}

#[test]
fn released_leases_are_remembered_within_bounds() {
    let mut provider = TestProvider::new();
    for number in 0..1_000 {
        let revision = number.to_string();
        provider.fetch(&revision);
        provider.verified(&revision);
        for lease in provider.releases() {
            provider.released(lease, Ok(()));
        }
    }
    assert!(provider.machine.leases.len() <= 67);
}

// Rejections.

#[test]
fn a_rejection_of_another_revision_leads_to_no_fetch() {
    let mut provider = TestProvider::serving();
    provider.fetch("new");
    provider.pass(10 * SECOND);
    for revision in ["current", "unknown"] {
        provider.rejected(revision);
        assert_eq!(provider.begin(), None, "{revision}");
        assert!(!provider.machine.is_rejected(provider.now.mono()));
    }
}

#[test]
fn a_fetch_request_lists_the_excluded_revisions() {
    let mut provider = TestProvider::serving();
    for (seconds, excluded) in [(0, 1), (29, 1), (2, 0)] {
        provider.pass(seconds * SECOND);
        if seconds == 0 {
            provider.rejected("current");
            provider.verified("unknown");
        }
        provider.feed(ProviderInput::Hint);
        provider.feed(ProviderInput::Wake);
        let rejected = provider.take(|effect| match effect {
            ProviderEffect::StartFetch {
                fetch, rejected, ..
            } => Some((*fetch, rejected.len())),
            _ => None,
        });
        let fetch = rejected.first().map(|(fetch, _)| *fetch);
        assert_eq!(rejected.first().map(|(_, count)| *count), Some(excluded));
        provider.succeed(fetch, "current");
        assert!(
            provider.machine.is_rejected(provider.now.mono()),
            "until a login succeeds"
        );
    }
    provider.verified("current");
    assert!(!provider.machine.is_rejected(provider.now.mono()));
}

#[test]
fn fetches_for_a_rejected_lease_back_off() {
    let mut provider = TestProvider::serving();
    provider.rejected("current");
    let mut fetches = 0;
    for _ in 0..600 {
        if let Some(fetch) = provider.begin() {
            fetches += 1;
            provider.succeed(Some(fetch), "current");
        }
        provider.pass(SECOND / 10);
    }
    assert!((5..=9).contains(&fetches), "{fetches}");
}

#[test]
fn a_rejection_during_a_fetch_leads_to_another_one_at_once() {
    let mut provider = TestProvider::serving();
    provider.feed(ProviderInput::Hint);
    let fetch = provider.begin();
    provider.rejected("current");
    provider.succeed(fetch, "current");
    assert_eq!(provider.next(), Some(Duration::ZERO));
}

#[test]
fn a_lease_fetched_for_a_past_rejection_is_not_adopted() {
    let mut provider = TestProvider::serving();
    provider.rejected("current");
    let fetch = provider.begin();
    assert!(fetch.is_some(), "the hazard: a fetch for the rejection");
    provider.verified("current");
    assert!(matches!(
        provider.succeed(fetch, "pending"),
        Some(FetchOutcome::Unchanged)
    ));
    assert!(provider.is_current("current"));
    assert_eq!(
        provider.releases(),
        [LeaseId(2)],
        "the returned lease is released"
    );
    assert!(provider.next() <= Some(SECOND));
}

#[test]
fn a_manual_fetch_that_listed_a_past_rejection_is_repeated() {
    let mut provider = TestProvider::serving();
    provider.rejected("current");
    provider.feed(ProviderInput::Manual(RequestId(1)));
    let fetch = provider.begin();
    provider.verified("current");
    provider.succeed(fetch, "pending");
    assert!(provider.is_current("current"));
    assert!(provider.replies().is_empty(), "the request waits");
    provider.pass(COALESCE);
    let (fetch, trigger) = provider.wake().unzip();
    assert_eq!(trigger, Some(RotationTrigger::Manual));
    provider.succeed(fetch, "new");
    assert!(matches!(provider.replies()[..], [ManualReply::Rotation(_)]));
    assert!(provider.is_current("new"));
}

#[test]
fn a_lease_fetched_for_a_lasting_or_repeated_rejection_is_adopted() {
    for comes_back in [false, true] {
        let mut provider = TestProvider::serving();
        provider.rejected("current");
        let fetch = provider.begin();
        if comes_back {
            provider.verified("current");
            provider.rejected("current");
        }
        assert!(matches!(
            provider.succeed(fetch, "pending"),
            Some(FetchOutcome::Adopted)
        ));
    }
}

#[test]
fn a_lease_for_a_past_rejection_is_adopted_if_the_current_one_has_expired() {
    let mut provider = TestProvider::new();
    let expiry = Expiry::after(provider.now, 60 * SECOND);
    let fetch = provider.begin();
    provider.end(fetch, Ok(Offer::New(lease("current", expiry))));
    provider.verified("current");
    provider.pass(2 * SECOND);
    provider.rejected("current");
    let fetch = provider.begin();
    provider.verified("current");
    provider.pass(60 * SECOND);
    assert!(matches!(
        provider.succeed(fetch, "pending"),
        Some(FetchOutcome::Adopted)
    ));
}

#[test]
fn transient_rejections_lead_to_nine_fetches_a_minute() {
    let mut provider = TestProvider::serving();
    let mut fetches = 0;
    for _ in 0..600 {
        provider.rejected("current");
        let fetch = provider.wake();
        provider.verified("current");
        if let Some((fetch, trigger)) = fetch {
            fetches += 1;
            let revision = if trigger == RotationTrigger::Rejected {
                "pending"
            } else {
                "current"
            };
            provider.succeed(Some(fetch), revision);
        }
        provider.pass(SECOND / 10);
    }
    assert!((3..=9).contains(&fetches), "{fetches}");
}

#[test]
fn new_credentials_behind_a_lagging_server_are_fetched_nine_times_a_minute() {
    let mut provider = TestProvider::new();
    provider.fetch("0");
    provider.verified("0");
    provider.pass(60 * SECOND);
    let mut fetched = 0;
    for _ in 0..600 {
        let current = fetched.to_string();
        provider.rejected(&current);
        if let Some(fetch) = provider.begin() {
            fetched += 1;
            provider.succeed(Some(fetch), &fetched.to_string());
            provider.verified(&fetched.to_string());
        }
        provider.pass(SECOND / 10);
    }
    assert!((3..=9).contains(&fetched), "{fetched}");
}

#[test]
fn a_database_rollback_ends_earlier_exclusions() {
    let mut provider = TestProvider::serving();
    provider.rejected("current");
    let fetch = provider.begin();
    provider.succeed(fetch, "new");
    provider.pass(SECOND);
    provider.verified("new");
    provider.pass(SECOND);
    assert_eq!(
        provider
            .machine
            .exclusions
            .active(provider.now.mono())
            .len(),
        1
    );
    provider.rejected("new");
    let active = provider.machine.exclusions.active(provider.now.mono());
    assert_eq!(*active, [Revision::new("new")]);
}

#[test]
fn a_rejection_that_concerns_no_remaining_pool_is_forgotten() {
    let served = |revision| Some(Revision::new(revision));
    for (remaining, is_rejected) in [
        (vec![], false),
        (vec![served("current"), served("current")], false),
        (vec![served("current"), served("old")], true),
        // A pool that serves nothing, or verifies its revision again.
        (vec![served("current"), None], true),
    ] {
        let mut provider = TestProvider::serving();
        provider.rejected("current");
        provider.feed(ProviderInput::PoolLeft(remaining));
        let now = provider.now.mono();
        assert_eq!(provider.machine.is_rejected(now), is_rejected);
        assert_eq!(provider.begin().is_some(), is_rejected);
    }
}

#[test]
fn a_pool_may_leave_before_the_first_lease() {
    let mut provider = TestProvider::new();
    provider.expect(ProviderInput::PoolLeft(vec![]), &[]);
}

// Rotations.

#[test]
fn a_rotation_ends_when_pools_took_its_lease_or_a_newer_one_supersedes_it() {
    let mut provider = TestProvider::serving();
    provider.feed(ProviderInput::PoolsSettled(RotationId(1)));
    assert_eq!(
        provider.closed(),
        [(RotationId(1), RotationOutcome::Adopted)]
    );
    provider.fetch("b");
    provider.fetch("c");
    assert_eq!(
        provider.closed(),
        [(RotationId(2), RotationOutcome::Superseded)]
    );
    provider.feed(ProviderInput::PoolsSettled(RotationId(2)));
    assert!(provider.closed().is_empty(), "the rotation has ended");
    provider.feed(ProviderInput::PoolsGone);
    assert_eq!(
        provider.closed(),
        [(RotationId(3), RotationOutcome::Unfinished)]
    );
}

#[test]
fn a_rotation_continues_until_the_lease_is_verified_again() {
    let mut provider = TestProvider::serving();
    provider.feed(ProviderInput::PoolsGone);
    provider.closed();
    provider.rejected("current");
    let fetch = provider.begin();
    assert_eq!(
        provider.machine.rotation(provider.now.mono()),
        Some(RotationId(2))
    );
    provider.succeed(fetch, "current");
    assert!(provider.closed().is_empty());
    provider.verified("current");
    assert_eq!(
        provider.closed(),
        [(RotationId(2), RotationOutcome::Unchanged)]
    );
    assert_eq!(provider.machine.rotation(provider.now.mono()), None);
}

#[test]
fn a_manual_request_joins_the_rotation_that_pools_still_adopt() {
    let mut provider = TestProvider::serving();
    provider.fetch("new");
    provider.feed(ProviderInput::Manual(RequestId(1)));
    provider.pass(COALESCE);
    let fetch = provider.begin();
    provider.succeed(fetch, "new");
    assert!(matches!(
        provider.replies()[..],
        [ManualReply::Earlier(RotationId(2))]
    ));
}

// The life cycle of leases.

#[test]
fn a_lease_is_released_once_after_its_last_user_has_returned_it() {
    let mut provider = TestProvider::serving();
    let users = [provider.take_lease(), provider.take_lease()];
    provider.fetch("new");
    assert_eq!(provider.releases(), []);
    provider.return_lease(users[0]);
    assert_eq!(provider.releases(), []);
    provider.return_lease(users[1]);
    assert_eq!(provider.releases(), [LeaseId(1)]);
    assert_eq!(provider.releases(), [], "it is being released");
    provider.released(LeaseId(1), Ok(()));
    provider.pass(HOUR);
    provider.return_lease(users[1]);
    assert_eq!(provider.releases(), []);
    assert_eq!(provider.machine.unreleased(), 0);
}

#[test]
fn a_superseded_lease_that_is_offered_again_is_current_again() {
    let mut provider = TestProvider::serving();
    let user = provider.take_lease();
    provider.fetch("new");
    provider.rejected("new");
    provider.fetch("current");
    assert_eq!(provider.machine.current().map(|(lease, _)| lease), user);
    provider.return_lease(user);
    assert_eq!(provider.releases(), [LeaseId(2)], "the other one");
}

#[test]
fn a_queued_lease_that_is_offered_again_is_current_again() {
    let mut provider = TestProvider::serving();
    provider.fetch("new");
    assert_eq!(provider.releases(), [LeaseId(1)]);
    provider.rejected("new");
    let fetch = provider.begin();
    provider.released(LeaseId(1), Err(error(ProviderErrorKind::Unavailable)));
    provider.succeed(fetch, "current");
    assert_eq!(
        provider.machine.current().map(|(lease, _)| lease),
        Some(LeaseId(1))
    );
    provider.pass(HOUR);
    assert_eq!(provider.releases(), [LeaseId(2)]);
}

#[test]
fn a_revision_offered_again_during_its_release_is_another_lease() {
    for error in [None, Some(error(ProviderErrorKind::Unavailable))] {
        let mut provider = TestProvider::serving();
        provider.fetch("new");
        assert_eq!(provider.releases(), [LeaseId(1)]);
        provider.rejected("new");
        let fetch = provider.begin();
        provider.succeed(fetch, "current");
        assert_eq!(
            provider.machine.current().map(|(lease, _)| lease),
            Some(LeaseId(3))
        );
        provider.released(LeaseId(1), error.map_or(Ok(()), Err));
        provider.pass(HOUR);
        assert_eq!(provider.releases(), [LeaseId(2)], "it is not retried");
    }
}

/// Returns how often a release is attempted if every attempt fails, at most `most` times.
fn attempts(expiry: impl Fn(Timestamp) -> Expiry, most: u32) -> u32 {
    let mut provider = TestProvider::serving();
    let facts = lease("late", expiry(provider.now));
    provider.feed(ProviderInput::FetchLate {
        fetch: FetchId(9),
        lease: Some(facts),
    });
    for attempt in 0..most {
        provider.machine.bucket = TokenBucket::full(provider.now.mono());
        provider
            .machine
            .timers
            .set(Timer::Release(LeaseId(9)), provider.now.mono());
        if provider.machine.unreleased() == 0 || provider.releases().is_empty() {
            return attempt;
        }
        provider.released(LeaseId(9), Err(error(ProviderErrorKind::Unavailable)));
    }
    most
}

#[test]
fn a_release_is_retried_until_the_lease_expires_and_ten_times_if_it_does_not() {
    assert_eq!(attempts(|now| Expiry::after(now, HOUR), 100), 100);
    assert_eq!(attempts(|_| Expiry::never(), 100), 10);
    assert_eq!(attempts(|now| Expiry::after(now, Duration::ZERO), 100), 1);
}

#[test]
fn a_release_is_retried_no_sooner_than_the_backend_requests_and_not_after_a_permanent_error() {
    let unavailable = || error(ProviderErrorKind::Unavailable);
    for (error, next) in [
        (unavailable(), Some(SECOND)),
        (
            unavailable().with_retry_after(60 * SECOND),
            Some(60 * SECOND),
        ),
        (error(ProviderErrorKind::Denied), None),
    ] {
        let mut provider = TestProvider::serving();
        provider.fetch("new");
        assert_eq!(provider.releases(), [LeaseId(1)]);
        provider.released(LeaseId(1), Err(error));
        assert_eq!(
            provider.machine.timers.get(Timer::Release(LeaseId(1))),
            next.map(|pause| provider.now.mono() + pause)
        );
        assert_eq!(provider.machine.unreleased(), usize::from(next.is_some()));
    }
}

#[test]
fn a_retried_release_leaves_a_token_for_a_fetch() {
    let mut provider = TestProvider::serving();
    provider.fetch("new");
    while provider.machine.bucket.take_spare(provider.now.mono()) {}
    assert_eq!(provider.releases(), [LeaseId(1)], "the first one is free");
    provider.released(LeaseId(1), Err(error(ProviderErrorKind::Unavailable)));
    provider.pass(2 * SECOND);
    assert_eq!(provider.releases(), []);
    provider.rejected("new");
    assert!(provider.begin().is_some());
}

#[test]
fn a_lost_release_is_started_again() {
    let mut provider = TestProvider::serving();
    provider.fetch("new");
    assert_eq!(provider.releases(), [LeaseId(1)]);
    provider.feed(ProviderInput::ReleaseLost(LeaseId(1)));
    assert_eq!(provider.releases(), [LeaseId(1)]);
}

#[test]
fn a_late_lease_is_released_unless_its_revision_is_known() {
    for (revision, released) in [("current", 0), ("new", 0), ("other", 1)] {
        let mut provider = TestProvider::serving();
        let _user = provider.take_lease();
        provider.fetch("new");
        provider.feed(ProviderInput::FetchLate {
            fetch: FetchId(9),
            lease: Some(lease(revision, Expiry::never())),
        });
        assert_eq!(provider.releases().len(), released, "{revision}");
    }
}

// Stop and close.

#[test]
fn nothing_starts_after_stop_and_a_running_fetch_is_adopted() {
    let mut provider = TestProvider::serving();
    provider.feed(ProviderInput::Hint);
    let fetch = provider.begin();
    provider.feed(ProviderInput::Manual(RequestId(1)));
    provider.feed(ProviderInput::Stop);
    provider.feed(ProviderInput::Manual(RequestId(2)));
    assert!(matches!(
        provider.replies()[..],
        [ManualReply::Abandoned, ManualReply::Abandoned]
    ));
    assert!(matches!(
        provider.succeed(fetch, "new"),
        Some(FetchOutcome::Adopted)
    ));
    provider.pass(HOUR);
    assert_eq!((provider.begin(), provider.next()), (None, None));
}

#[test]
fn close_releases_every_lease_once_and_late_ones_at_once() {
    let mut provider = TestProvider::serving();
    let user = provider.take_lease();
    provider.fetch("new");
    provider.feed(ProviderInput::Hint);
    provider.pass(COALESCE);
    let fetch = provider.begin();
    provider.feed(ProviderInput::Close);
    let released = |provider: &mut TestProvider| {
        provider.take(|effect| match effect {
            ProviderEffect::Release(lease) => Some(*lease),
            _ => None,
        })
    };
    assert_eq!(released(&mut provider), [LeaseId(1), LeaseId(2)]);
    assert!(provider.machine.current().is_none());
    provider.return_lease(user);
    provider.succeed(fetch, "later");
    provider.feed(ProviderInput::FetchLate {
        fetch: FetchId(9),
        lease: Some(lease("latest", Expiry::never())),
    });
    assert_eq!(released(&mut provider), [LeaseId(3), LeaseId(9)]);
    provider.released(LeaseId(1), Ok(()));
    provider.released(LeaseId(2), Err(error(ProviderErrorKind::Denied)));
    provider.feed(ProviderInput::ReleaseLost(LeaseId(3)));
    provider.released(LeaseId(9), Ok(()));
    assert!(!provider.machine.is_releasing());
    assert_eq!(provider.machine.unreleased(), 2, "those that failed");
    assert_eq!(provider.releases(), []);
}

#[test]
fn close_ends_rotations_and_requests() {
    let mut provider = TestProvider::serving();
    provider.feed(ProviderInput::Manual(RequestId(1)));
    provider.begin();
    provider.feed(ProviderInput::Close);
    assert_eq!(
        provider.closed(),
        [
            (RotationId(2), RotationOutcome::Unfinished),
            (RotationId(1), RotationOutcome::Unfinished)
        ]
    );
    assert!(matches!(provider.replies()[..], [ManualReply::Abandoned]));
}
