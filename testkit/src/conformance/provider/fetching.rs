//! Checks of `fetch` with an available backend.

use std::time::Duration;

use claviger::Provider;
use claviger::provider::{FetchRequest, Fetched};
use claviger::report::RotationTrigger;
use claviger::testing::MovedClock;

use super::ProviderControls;
use super::world::World;
use crate::conformance::runner::{CheckResult, Planned, WATCH, not_applicable, planned, require};
use crate::conformance::tools::{drop_after_polls, longest_poll};

pub(super) fn checks<P: Provider, C: ProviderControls<P>>() -> Vec<Planned<World<P, C>>> {
    vec![
        planned(
            "fetch_returns_a_lease",
            "Provider::fetch: \"Returns the credential to use now\"",
            fetch_returns_a_lease,
        ),
        planned(
            "a_fetch_without_a_current_lease_returns_one",
            "Provider::fetch: \"`Fetched::Renewed` and `Fetched::Unchanged` without a current \
             lease count as an error\"",
            a_fetch_without_a_current_lease_returns_one,
        ),
        planned(
            "an_unchanged_credential_keeps_its_revision",
            "Revision: \"Equal revision = same credential\"; law 4: \"An equal revision causes no \
             handover\"",
            an_unchanged_credential_keeps_its_revision,
        ),
        planned(
            "fetch_returns_a_lease_despite_rejected_revisions",
            "Provider::fetch: \"Return another candidate if there is one, or the first choice \
             again if all are rejected\"",
            fetch_returns_a_lease_despite_rejected_revisions,
        ),
        planned(
            "a_changed_credential_has_another_revision",
            "Provider::fetch: \"Returns the credential to use now\", \"With a new revision it \
             causes a handover\"",
            a_changed_credential_has_another_revision,
        ),
        planned(
            "a_manual_rotation_is_no_renewal",
            "Provider::fetch: \"On `RotationTrigger::Manual` return a new credential instead\"",
            a_manual_rotation_is_no_renewal,
        ),
        planned(
            "the_expiry_is_in_the_future",
            "ProviderErrorKind::ExpiredLease: \"The lease had expired when it was returned\"",
            the_expiry_is_in_the_future,
        ),
        planned(
            "lifetimes_count_from_the_request",
            "FetchRequest::started: \"Count lifetimes from it\"",
            lifetimes_count_from_the_request,
        ),
        planned(
            "fetch_does_not_block_its_thread",
            "Provider::fetch: \"It runs in a task of its own with a deadline\", which a blocked \
             thread does not notice",
            fetch_does_not_block_its_thread,
        ),
        planned(
            "a_dropped_fetch_leaves_the_provider_usable",
            "Provider::fetch: one that panicked or missed its deadline is followed by another",
            a_dropped_fetch_leaves_the_provider_usable,
        ),
    ]
}

async fn fetch_returns_a_lease<P: Provider, C: ProviderControls<P>>(
    world: World<P, C>,
) -> CheckResult {
    let lease = world.first().await?;
    let empty = lease.revision().as_str().is_empty();
    require(!empty, "a revision", || "an empty one".to_owned())
}

async fn a_fetch_without_a_current_lease_returns_one<P: Provider, C: ProviderControls<P>>(
    world: World<P, C>,
) -> CheckResult {
    // The subject may have stored what it returned. Another supervisor has not received it.
    for trigger in [RotationTrigger::Start, RotationTrigger::Schedule] {
        world.fetch(FetchRequest::new(trigger)).await?;
    }
    Ok(())
}

async fn an_unchanged_credential_keeps_its_revision<P: Provider, C: ProviderControls<P>>(
    world: World<P, C>,
) -> CheckResult {
    let first = world.first().await?;
    let mut leases = vec![world.next(RotationTrigger::Schedule, &first).await?];
    if !world.controls.creates_credentials() {
        leases.push(world.first().await?);
    }
    for lease in leases {
        let is_same = world.secret_text(&first) == world.secret_text(&lease);
        let (before, after) = (first.revision(), lease.revision());
        if is_same {
            require(
                before == after,
                "the same credential has the same revision",
                || "another revision for the same secret".to_owned(),
            )?;
            continue;
        }
        let expected = "another credential has another revision";
        require(before != after, expected, || {
            "the same revision for another secret".to_owned()
        })?;
        // It may have expired, or be created anew.
        let expected = "the same credential, because nothing changed at the backend";
        let creates = world.controls.creates_credentials();
        require(creates, expected, || "another one".to_owned())?;
    }
    Ok(())
}

async fn a_changed_credential_has_another_revision<P: Provider, C: ProviderControls<P>>(
    world: World<P, C>,
) -> CheckResult {
    let mut current = world.first().await?;
    // `Rejected` is the trigger after a password was changed: the database rejects the current one.
    for trigger in [RotationTrigger::Manual, RotationTrigger::Rejected] {
        if !world.controls.change_credential().await? {
            return Err(not_applicable("the controls have no `change_credential`"));
        }
        let mut request = FetchRequest::new(trigger).with_current(current.clone());
        if trigger == RotationTrigger::Rejected {
            request = request.with_rejected([current.revision().clone()]);
        }
        let changed = world.fetch(request).await?;
        let is_same = world.secret_text(&current) == world.secret_text(&changed);
        let expected = format!("the changed credential, for the trigger `{trigger:?}`");
        require(!is_same, expected, || "the one from before".to_owned())?;
        let is_same = current.revision() == changed.revision();
        let expected = "another revision for the changed credential";
        require(!is_same, expected, || "the same revision".to_owned())?;
        current = changed;
    }
    Ok(())
}

async fn a_manual_rotation_is_no_renewal<P: Provider, C: ProviderControls<P>>(
    world: World<P, C>,
) -> CheckResult {
    let current = world.first().await?;
    let request = FetchRequest::new(RotationTrigger::Manual).with_current(current);
    let fetched = world.try_fetch(request).await?;
    let is_renewed = matches!(fetched, Ok(Fetched::Renewed(_)));
    let expected = "anything but `Fetched::Renewed`";
    require(!is_renewed, expected, || "`Fetched::Renewed`".to_owned())
}

async fn fetch_returns_a_lease_despite_rejected_revisions<P: Provider, C: ProviderControls<P>>(
    world: World<P, C>,
) -> CheckResult {
    let current = world.first().await?;
    for _ in 0..2 {
        let rejected = [current.revision().clone()];
        let request = FetchRequest::new(RotationTrigger::Rejected)
            .with_current(current.clone())
            .with_rejected(rejected);
        world.fetch(request).await?;
    }
    Ok(())
}

async fn the_expiry_is_in_the_future<P: Provider, C: ProviderControls<P>>(
    world: World<P, C>,
) -> CheckResult {
    let request = FetchRequest::first();
    let clock = request.clock().clone();
    let lease = world.fetch(request).await?;
    let again = world.next(RotationTrigger::Schedule, &lease).await?;
    for lease in [lease, again] {
        let remaining = lease.expiry().remaining(clock.now());
        let is_expired = lease.expiry().is_expired(clock.now());
        require(!is_expired, "an expiry in the future", || {
            format!("{remaining:?} remain")
        })?;
        let is_later = match (lease.refresh_after(), remaining) {
            (Some(after), Some(remaining)) => after > remaining,
            _ => false,
        };
        let expected = "the next fetch is before the expiry";
        require(!is_later, expected, || {
            format!(
                "after {:?}, when {remaining:?} remain",
                lease.refresh_after()
            )
        })?;
    }
    Ok(())
}

async fn lifetimes_count_from_the_request<P: Provider, C: ProviderControls<P>>(
    world: World<P, C>,
) -> CheckResult {
    let Some(lifetime) = world.controls.lifetime() else {
        return Err(not_applicable("the controls have no `lifetime`"));
    };
    let clock = MovedClock::default();
    // A provider that reads the system's clock would be off by this time.
    clock.jump(Duration::from_secs(3_600));
    let request = FetchRequest::first().with_clock(clock.clock());
    let started = request.started;
    let lease = world.fetch(request).await?;
    let remaining = lease.expiry().remaining(started);
    let is_right = remaining.is_some_and(|remaining| {
        remaining <= lifetime && lifetime - remaining <= Duration::from_secs(1)
    });
    let expected = format!("an expiry {lifetime:?} after `FetchRequest::started`");
    require(is_right, expected, || format!("{remaining:?} after it"))
}

async fn fetch_does_not_block_its_thread<P: Provider, C: ProviderControls<P>>(
    world: World<P, C>,
) -> CheckResult {
    let mut shortest = Duration::MAX;
    // On a busy machine, any poll may take long.
    for _ in 0..3 {
        let (fetched, longest) = longest_poll(world.first()).await;
        fetched?;
        shortest = shortest.min(longest);
        if shortest < WATCH {
            break;
        }
    }
    let expected = "`fetch` waits at await points, and returns from each poll within 250 ms";
    require(shortest < WATCH, expected, || {
        format!("each of three fetches blocked its thread, for {shortest:?} or longer")
    })
}

async fn a_dropped_fetch_leaves_the_provider_usable<P: Provider, C: ProviderControls<P>>(
    world: World<P, C>,
) -> CheckResult {
    for polls in 1..=12 {
        let _ = drop_after_polls(polls, world.provider.fetch(FetchRequest::first())).await;
    }
    world.first().await.map(drop)
}
