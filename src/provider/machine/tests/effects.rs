//! All effects of a transition, in their order.

use super::*;

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
        renews: false,
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
    provider.feed(ProviderInput::PoolsDone(RotationId(1)));
    provider.feed(ProviderInput::Manual(RequestId(1)));
    let with_request = ProviderEffect::StartFetch {
        fetch: FetchId(2),
        trigger: RotationTrigger::Manual,
        rotation: RotationId(2),
        requests: vec![RequestId(1)],
        rejected: [].into(),
        renews: false,
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
fn an_abandoned_release_removes_the_lease() {
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
