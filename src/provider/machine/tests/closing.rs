//! Stop and close.

use super::*;

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
