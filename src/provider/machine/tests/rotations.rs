//! Rotations and their ends.

use super::*;

#[test]
fn a_rotation_ends_when_pools_adopt_its_lease_or_a_newer_one_supersedes_it() {
    let mut provider = TestProvider::serving();
    provider.feed(ProviderInput::PoolsDone(RotationId(1)));
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
    provider.feed(ProviderInput::PoolsDone(RotationId(2)));
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

#[test]
fn a_handover_does_not_belong_to_a_rotation_whose_fetch_still_runs() {
    let mut provider = TestProvider::serving();
    provider.feed(ProviderInput::PoolsDone(RotationId(1)));
    provider.feed(ProviderInput::Hint);
    assert!(provider.begin().is_some());
    let now = provider.now.mono();
    assert_eq!(provider.machine.rotation(now), None);
    provider.rejected("current");
    assert_eq!(provider.machine.rotation(now), Some(RotationId(2)));
}
