//! Rehearsals: fetches whose leases are verified, and neither adopted nor handed over.

use super::*;

impl TestProvider {
    fn request(&mut self, number: u64) {
        self.feed(ProviderInput::Rehearse(RequestId(number)));
    }

    /// Begins the rehearsal that is due.
    fn rehearse(&mut self) -> Option<FetchId> {
        self.feed(ProviderInput::Wake);
        let started = self.take(|effect| match effect {
            ProviderEffect::StartRehearsal { fetch, .. } => Some(*fetch),
            _ => None,
        });
        started.first().copied()
    }

    /// Ends a rehearsal with this revision.
    fn rehearsed(&mut self, fetch: Option<FetchId>, revision: &str) -> Vec<(u64, Option<LeaseId>)> {
        let outcome = self.succeed(fetch, revision);
        assert!(outcome.is_none(), "it is no rotation");
        self.rehearsals()
    }

    /// Returns the replies: a lease, or `None` for an error or no reply.
    fn rehearsals(&mut self) -> Vec<(u64, Option<LeaseId>)> {
        self.take(|effect| match effect {
            ProviderEffect::Rehearsed { request, result } => {
                Some((request.0, result.as_ref().ok().copied()))
            }
            _ => None,
        })
    }
}

#[test]
fn a_rehearsed_lease_is_in_use_until_it_is_returned_and_never_current() {
    let mut provider = TestProvider::serving();
    provider.request(1);
    let fetch = provider.rehearse();
    assert_eq!(provider.rehearsed(fetch, "next"), [(1, Some(LeaseId(2)))]);
    assert!(provider.is_current("current"));
    assert_eq!(provider.releases(), [], "it is in use");
    assert!(provider.closed().is_empty(), "no rotation was opened");
    provider.return_lease(Some(LeaseId(2)));
    assert_eq!(provider.releases(), [LeaseId(2)]);
}

#[test]
fn a_backend_without_another_credential_returns_the_current_lease() {
    for offer in [
        Offer::Unchanged,
        Offer::Renewed(Expiry::never()),
        Offer::New(lease("current", Expiry::never())),
    ] {
        let mut provider = TestProvider::serving();
        provider.request(1);
        let fetch = provider.rehearse();
        provider.end(fetch, Ok(offer));
        assert_eq!(provider.rehearsals(), [(1, Some(LeaseId(1)))]);
        provider.return_lease(Some(LeaseId(1)));
        assert_eq!(provider.releases(), []);
    }
}

#[test]
fn a_failed_rehearsal_is_not_retried_and_not_reported() {
    let mut provider = TestProvider::serving();
    let next = provider.next();
    provider.request(1);
    let fetch = provider.rehearse();
    let outcome = provider.end(fetch, Err(error(ProviderErrorKind::Unavailable)));
    assert!(outcome.is_none() && provider.machine.last_error().is_none());
    assert_eq!(provider.rehearsals(), [(1, None)]);
    assert_eq!(provider.next(), next, "the schedule is as before");
}

#[test]
fn one_fetch_serves_the_rehearsals_that_wait_and_the_next_begins_a_second_later() {
    let mut provider = TestProvider::serving();
    provider.request(1);
    provider.request(2);
    let fetch = provider.rehearse();
    provider.request(3);
    let lease = Some(LeaseId(2));
    assert_eq!(provider.rehearsed(fetch, "next"), [(1, lease), (2, lease)]);
    assert_eq!(provider.rehearse(), None);
    assert_eq!(provider.next(), Some(SECOND));
    provider.pass(SECOND);
    let fetch = provider.rehearse();
    assert_eq!(provider.rehearsed(fetch, "next"), [(3, lease)], "known");
    for _ in 0..3 {
        assert_eq!(provider.releases(), []);
        provider.return_lease(lease);
    }
    assert_eq!(provider.releases(), [LeaseId(2)]);
}

#[test]
fn a_rejection_causes_a_fetch_at_once_during_a_rehearsal() {
    let mut provider = TestProvider::serving();
    provider.request(1);
    let rehearsal = provider.rehearse();
    assert!(rehearsal.is_some());
    let next = provider.machine.next_attempt(provider.now.mono());
    assert!(matches!(next, NextAttempt::Due(_)), "no help for callers");
    provider.rejected("current");
    let fetch = provider.wake();
    assert!(matches!(fetch, Some((_, RotationTrigger::Rejected))));
    provider.succeed(fetch.map(|(fetch, _)| fetch), "corrected");
    assert!(provider.is_current("corrected"));
    let lease = rehearsal.map(|fetch| LeaseId(fetch.0));
    assert_eq!(provider.rehearsed(rehearsal, "next"), [(1, lease)]);
    assert!(provider.is_current("corrected"));
}

#[test]
fn a_rehearsal_begins_beside_a_fetch() {
    let mut provider = TestProvider::serving();
    provider.feed(ProviderInput::Hint);
    let fetch = provider.begin();
    provider.pass(2 * SECOND);
    provider.request(1);
    let rehearsal = provider.rehearse();
    assert_eq!(provider.rehearsed(rehearsal, "next").len(), 1);
    provider.succeed(fetch, "newer");
    assert!(provider.is_current("newer"));
}

#[test]
fn a_held_provider_is_rehearsed() {
    let mut provider = TestProvider::serving();
    provider.feed(ProviderInput::Hold);
    provider.request(1);
    let fetch = provider.rehearse();
    assert_eq!(provider.rehearsed(fetch, "next"), [(1, Some(LeaseId(2)))]);
}

#[test]
fn a_rehearsed_lease_that_is_fetched_meanwhile_is_the_current_one() {
    let mut provider = TestProvider::serving();
    provider.request(1);
    let fetch = provider.rehearse();
    provider.rehearsed(fetch, "next");
    provider.fetch("next");
    assert!(provider.is_current("next"));
    provider.return_lease(Some(LeaseId(2)));
    assert_eq!(provider.releases(), [LeaseId(1)], "the superseded one");
}

#[test]
fn a_failed_release_stays_a_retry_after_another_rehearsal() {
    let mut provider = TestProvider::serving();
    let (rehearsed, mut attempts) = (LeaseId(2), 0);
    for number in 1..=8 {
        provider.request(number);
        let fetch = provider.rehearse();
        provider.pass(Duration::from_millis(900));
        assert_eq!(
            provider.rehearsed(fetch, "next"),
            [(number, Some(rehearsed))]
        );
        provider.return_lease(Some(rehearsed));
        if provider.releases() == [rehearsed] {
            attempts += 1;
            provider.released(rehearsed, Err(error(ProviderErrorKind::Unavailable)));
        }
        // Before the release is retried, a second after it failed.
        provider.pass(Duration::from_millis(100));
    }
    assert!(attempts <= 1 + 3, "law 7: {attempts} attempts in 8 s");
}

#[test]
fn a_release_that_ends_after_the_next_rehearsal_makes_its_release_a_retry() {
    let mut provider = TestProvider::serving();
    let (mut slow, mut attempts) = (None, 0);
    for number in 1..=8 {
        provider.request(number);
        let fetch = provider.rehearse();
        provider.pass(Duration::from_millis(900));
        let rehearsed = provider.rehearsed(fetch, "next");
        let lease = rehearsed.first().and_then(|(_, lease)| *lease);
        if let Some(slow) = slow.take() {
            provider.released(slow, Err(error(ProviderErrorKind::Unavailable)));
        }
        provider.return_lease(lease);
        slow = provider.releases().first().copied();
        attempts += usize::from(slow.is_some());
        provider.pass(Duration::from_millis(100));
    }
    assert!(attempts <= 1 + 3, "law 7: {attempts} attempts in 8 s");
}

#[test]
fn a_failed_release_is_not_retried_beside_the_next_one_of_its_revision() {
    let mut provider = TestProvider::serving();
    for number in 1..=2 {
        provider.request(number);
        let fetch = provider.rehearse();
        let lease = LeaseId(number + 1);
        assert_eq!(provider.rehearsed(fetch, "next"), [(number, Some(lease))]);
        if number == 1 {
            provider.return_lease(Some(lease));
            assert_eq!(provider.releases(), [lease]);
        }
        provider.pass(2 * SECOND);
    }
    provider.feed(ProviderInput::Hint);
    let fetch = provider.begin();
    provider.return_lease(Some(LeaseId(3)));
    provider.released(LeaseId(2), Err(error(ProviderErrorKind::Unavailable)));
    provider.succeed(fetch, "next");
    assert!(provider.is_current("next"));
    provider.pass(60 * SECOND);
    assert_eq!(provider.releases(), [LeaseId(1)], "the superseded one");
}

#[test]
fn a_rehearsal_that_hangs_fails_and_its_late_lease_is_released() {
    let mut provider = TestProvider::serving();
    provider.request(1);
    let fetch = provider.rehearse();
    let late = |fetch| ProviderInput::FetchLate {
        fetch,
        lease: Some(lease("next", Expiry::never())),
    };
    if let Some(fetch) = fetch {
        provider.feed(ProviderInput::FetchHangs {
            fetch,
            error: error(ProviderErrorKind::TimedOut),
            jitter: 0.0,
        });
        assert_eq!(provider.rehearsals(), [(1, None)]);
        provider.feed(late(fetch));
    }
    assert_eq!(provider.releases(), [LeaseId(2)]);
}

#[test]
fn a_lost_rehearsal_ends_and_causes_no_fetch() {
    let mut provider = TestProvider::serving();
    provider.request(1);
    let fetch = provider.rehearse();
    provider.feed(ProviderInput::FetchLost(fetch.unwrap_or(FetchId(0))));
    assert_eq!(provider.rehearsals(), [(1, None)]);
    provider.pass(2 * SECOND);
    assert_eq!(provider.begin(), None);
}

#[test]
fn the_close_ends_rehearsals_and_releases_a_lease_that_arrives_later() {
    let mut provider = TestProvider::serving();
    provider.request(1);
    let fetch = provider.rehearse();
    provider.request(2);
    provider.feed(ProviderInput::Close);
    assert_eq!(provider.rehearsals(), [(2, None), (1, None)]);
    provider.request(3);
    assert_eq!(provider.rehearsals(), [(3, None)]);
    provider.rehearsed(fetch, "next");
    let releases = provider.take(|effect| match effect {
        ProviderEffect::Release(lease) => Some(*lease),
        _ => None,
    });
    assert_eq!(releases, [LeaseId(1), LeaseId(2)]);
}

#[test]
fn a_hanging_rehearsal_fails_further_ones_until_it_ends_and_delays_no_fetch() {
    let mut provider = TestProvider::serving();
    provider.request(1);
    let hanging = provider.rehearse().unwrap_or(FetchId(0));
    provider.feed(ProviderInput::FetchHangs {
        fetch: hanging,
        error: error(ProviderErrorKind::TimedOut),
        jitter: 0.0,
    });
    assert_eq!(provider.rehearsals(), [(1, None)]);
    assert_eq!(provider.machine.hanging().len(), 0);
    provider.pass(2 * SECOND);
    provider.request(2);
    assert_eq!(provider.next(), Some(Duration::ZERO));
    assert_eq!(provider.rehearse(), None);
    assert_eq!(provider.rehearsals(), [(2, None)]);
    provider.fetch("newer");
    assert!(provider.is_current("newer"));
    let lease = None;
    provider.feed(ProviderInput::FetchLate {
        fetch: hanging,
        lease,
    });
    provider.pass(2 * SECOND);
    provider.request(3);
    assert!(provider.rehearse().is_some());
}

#[test]
fn a_rehearsal_begins_while_as_many_fetches_hang_as_are_allowed() {
    let mut provider = TestProvider::serving();
    for _ in 0..MAX_HANGING {
        provider.pass(2 * SECOND);
        provider.feed(ProviderInput::Hint);
        if let Some(fetch) = provider.begin() {
            provider.feed(ProviderInput::FetchHangs {
                fetch,
                error: error(ProviderErrorKind::TimedOut),
                jitter: 0.0,
            });
        }
    }
    assert_eq!(provider.machine.hanging().len(), MAX_HANGING);
    provider.request(1);
    provider.pass(2 * SECOND);
    assert!(provider.rehearse().is_some());
}

#[test]
fn a_stop_ends_the_rehearsals_that_wait_and_not_the_one_that_runs() {
    let mut provider = TestProvider::serving();
    provider.request(1);
    let fetch = provider.rehearse();
    provider.request(2);
    provider.feed(ProviderInput::Stop);
    assert_eq!(provider.rehearsals(), [(2, None)]);
    assert_eq!(provider.rehearsed(fetch, "next"), [(1, Some(LeaseId(2)))]);
}

#[test]
fn a_superseded_revision_that_was_rehearsed_is_still_not_adopted_again() {
    let mut provider = TestProvider::serving();
    provider.verified("current");
    provider.fetch("next");
    provider.verified("next");
    assert_eq!(provider.releases(), [LeaseId(1)]);
    provider.released(LeaseId(1), Ok(()));
    provider.pass(2 * SECOND);
    provider.request(1);
    let fetch = provider.rehearse();
    let rehearsed = LeaseId(3);
    assert_eq!(
        provider.rehearsed(fetch, "current"),
        [(1, Some(rehearsed))],
        "the earlier revision"
    );
    provider.return_lease(Some(rehearsed));
    assert_eq!(provider.releases(), [rehearsed]);
    provider.released(rehearsed, Ok(()));
    provider.fetch("current");
    assert!(provider.is_current("next"));
}
