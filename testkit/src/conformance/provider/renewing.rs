//! Checks of `renew` and `rehearse`.

use std::time::Duration;

use claviger::provider::FetchRequest;
use claviger::report::RotationTrigger;
use claviger::{Lease, Provider};

use super::ProviderControls;
use super::world::World;
use crate::conformance::runner::{CheckResult, Planned, failed, planned, require, step};
use crate::conformance::tools::show;

pub(super) fn checks<P: Provider, C: ProviderControls<P>>() -> Vec<Planned<World<P, C>>> {
    vec![
        planned(
            "a_renewal_keeps_the_credential",
            "Provider::renew: \"Renews the current lease (`request.current`), and never creates a \
             credential\"",
            a_renewal_keeps_the_credential,
        ),
        planned(
            "a_rehearsal_changes_nothing_in_use",
            "Provider::rehearse: \"a rehearsal must change nothing that is in use\"",
            a_rehearsal_changes_nothing_in_use,
        ),
    ]
}

/// Backends count lifetimes in whole seconds.
const ROUNDING: Duration = Duration::from_secs(1);

async fn a_renewal_keeps_the_credential<P: Provider, C: ProviderControls<P>>(
    world: World<P, C>,
) -> CheckResult {
    let current = world.first().await?;
    let was_accepted = is_accepted(&world, &current).await?;
    let request = FetchRequest::new(RotationTrigger::Schedule).with_current(current.clone());
    let clock = request.clock().clone();
    let renewed = world.in_time("`renew`", world.provider.renew(request));
    let renewed = renewed.await?.map_err(|error| {
        let expected = "`renew` returns an expiry, or `None`, while the backend is available";
        failed(expected, show(&error))
    })?;
    if let Some(expiry) = renewed {
        let now = clock.now();
        let (new, old) = (expiry.remaining(now), current.expiry().remaining(now));
        let is_later = match (new, old) {
            (Some(new), Some(old)) => !expiry.is_expired(now) && new + ROUNDING >= old,
            (Some(_), None) => false,
            (None, _) => true,
        };
        let expected = "an expiry in the future, and no earlier than that of the lease";
        require(is_later, expected, || {
            format!("{new:?} remaining, before the renewal {old:?}")
        })?;
    }
    require_in_use(&world, &current, was_accepted, "`renew`").await
}

async fn a_rehearsal_changes_nothing_in_use<P: Provider, C: ProviderControls<P>>(
    world: World<P, C>,
) -> CheckResult {
    let current = world.first().await?;
    let was_accepted = is_accepted(&world, &current).await?;
    let request = FetchRequest::new(RotationTrigger::Rehearsal).with_current(current.clone());
    let rehearsed = world.in_time("`rehearse`", world.provider.rehearse(request));
    let rehearsed = rehearsed.await?;
    require_in_use(&world, &current, was_accepted, "`rehearse`").await?;
    let rehearsed = rehearsed.and_then(|fetched| fetched.into_lease(Some(current.clone())));
    let rehearsed = rehearsed.map_err(|error| {
        let expected = "`rehearse` returns a lease while the backend is available";
        failed(expected, show(&error))
    })?;
    // So that no report shows it.
    world.secret_text(&rehearsed);
    if rehearsed.revision() == current.revision() {
        return Ok(());
    }
    let released = step("`release`", world.provider.release(rehearsed)).await?;
    released.map_err(|error| failed("`release` of a rehearsed lease succeeds", show(&error)))?;
    let after = "`release` of a rehearsed lease";
    require_in_use(&world, &current, was_accepted, after).await
}

/// Returns whether the backend accepts the lease, or `None` if the controls cannot find out.
async fn is_accepted<P: Provider, C: ProviderControls<P>>(
    world: &World<P, C>,
    lease: &Lease<P::Secret>,
) -> CheckResult<Option<bool>> {
    Ok(world.controls.is_accepted(lease.secret()).await?)
}

/// Fails if the call changed whether the backend accepts the lease. Another check may have
/// released the lease earlier.
async fn require_in_use<P: Provider, C: ProviderControls<P>>(
    world: &World<P, C>,
    current: &Lease<P::Secret>,
    was_accepted: Option<bool>,
    after: &str,
) -> CheckResult {
    let is_kept = is_accepted(world, current).await? == was_accepted;
    let expected = format!("the backend accepts the current secret after {after}");
    require(is_kept, expected, || "it does not".to_owned())?;
    if world.controls.creates_credentials() {
        return Ok(());
    }
    let next = world.next(RotationTrigger::Schedule, current).await?;
    let is_same = next.revision() == current.revision();
    let expected = format!("the same credential after {after}");
    require(is_same, expected, || "one of another revision".to_owned())
}
