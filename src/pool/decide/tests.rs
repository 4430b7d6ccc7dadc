#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use super::*;
use crate::lease::OldConnections;
use crate::provider::{ProviderSlot, provider_fn};
use crate::supervisor::Context;

/// Returns a pool that has served this lease since `now`, its provider and its account.
fn serving(lease: Lease<()>, now: Timestamp) -> (State<(), ()>, Arc<ProviderSlot<()>>, Arc<str>) {
    let provider = provider_fn(|_| async {
        Err::<Lease<()>, _>(crate::ProviderError::new(
            crate::ProviderErrorKind::Other,
            "none",
        ))
    });
    let slot = Arc::new(ProviderSlot::new(
        Arc::from("login"),
        Arc::new(provider),
        Context::for_tests(),
    ));
    slot.lock().held = Some(lease);
    let mut state = State::new(4, now);
    let user: Arc<str> = Arc::from("app@db");
    if let Some(loan) = slot.lend() {
        state.published(loan, Arc::clone(&user), now);
    }
    (state, slot, user)
}

fn after(now: Timestamp, seconds: u64) -> Timestamp {
    let time = Duration::from_secs(seconds);
    Timestamp::at(now.wall() + time, now.mono() + time)
}

fn rejection() -> ConnectError {
    ConnectError::new(ConnectErrorKind::Rejected, "password authentication failed")
}

#[test]
fn no_wake_up_lies_in_the_past_once_a_lease_that_ends_its_connections_has_expired() {
    let now = Timestamp::now();
    let lease = Lease::new((), Revision::new("r"))
        .with_expiry(Expiry::after(now, Duration::from_secs(20)))
        .with_old_connections(OldConnections::EndWithLease);
    let (mut state, _slot, _) = serving(lease, now);
    for seconds in 0..120 {
        let now = after(now, seconds);
        let actions = state.decide(None, now);
        assert!(
            seconds < 20 || !actions.contains(&Action::Probe),
            "no probe of an expired role"
        );
        if state.probing {
            state.probed();
        }
        let next = state.next(now);
        assert!(
            next.is_none_or(|next| next > now.mono()),
            "after {seconds} s: {next:?}"
        );
    }
}

#[test]
fn a_rejection_of_what_was_verified_a_moment_ago_is_verified_before_it_is_reported() {
    let start = Timestamp::now();
    for (seconds, is_reported) in [(1, false), (60, true)] {
        let lease = Lease::new((), Revision::new("r"));
        let (mut state, _slot, user) = serving(lease.clone(), start);
        let now = after(start, seconds);
        state.note_rejected(1, rejection(), Some((lease.revision(), &user)), now.mono());
        let actions = state.decide(Some((&lease, &user)), now);
        assert_eq!(
            actions
                .iter()
                .any(|action| matches!(action, Action::Report(_))),
            is_reported,
            "{actions:?}"
        );
        assert_eq!(
            actions
                .iter()
                .any(|action| matches!(action, Action::HandOver { .. })),
            !is_reported,
            "{actions:?}"
        );
        if !is_reported {
            let attempt = state.attempt.clone().expect("it is verified");
            assert_eq!(
                state.failed(&attempt, &rejection(), now),
                [Revision::new("r")],
                "and then reported"
            );
        }
    }
}

#[test]
fn pauses_between_verifications_differ_from_pool_to_pool() {
    let now = Timestamp::now();
    let lease = Lease::new((), Revision::new("r"));
    let mut pauses = std::collections::HashSet::new();
    for _ in 0..8 {
        let mut state = State::<(), ()>::new(4, now);
        let user: Arc<str> = Arc::from("app@db");
        state.decide(Some((&lease, &user)), now);
        let attempt = state.attempt.clone().expect("it is verified");
        state.failed(
            &attempt,
            &ConnectError::new(ConnectErrorKind::Unreachable, "connection refused"),
            now,
        );
        state.decide(Some((&lease, &user)), now);
        pauses.insert(state.next(now).map(|at| at - now.mono()));
    }
    assert!(pauses.len() > 4, "{pauses:?}");
}

#[test]
fn a_pool_is_not_excused_from_a_rotation_before_its_handover_is_in_the_report() {
    let now = Timestamp::now();
    let lease = Lease::new((), Revision::new("r"));
    let (mut state, _slot, user) = serving(lease.clone(), now);
    assert!(
        !state
            .decide(Some((&lease, &user)), now)
            .contains(&Action::Settled)
    );
    state.reported();
    assert!(
        state
            .decide(Some((&lease, &user)), now)
            .contains(&Action::Settled)
    );
}
