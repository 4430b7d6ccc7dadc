//! Checks of `release` and `close`.

use claviger::error::ProviderError;
use claviger::{Lease, Provider};

use super::ProviderControls;
use super::world::World;
use crate::conformance::runner::{
    CheckResult, Planned, eventually, failed, not_applicable, planned, require, step,
};
use crate::conformance::tools::{caught, show};

pub(super) fn checks<P: Provider, C: ProviderControls<P>>() -> Vec<Planned<World<P, C>>> {
    vec![
        planned(
            "release_ends_and_may_be_repeated",
            "Provider::release: \"Dropped and retried after the fetch deadline\"",
            release_ends_and_may_be_repeated,
        ),
        planned(
            "release_reaches_the_backend",
            "Provider::release: \"Releases a lease that no connection uses any more\"",
            release_reaches_the_backend,
        ),
        planned(
            "a_release_ends_its_own_lease_alone",
            "Provider::release: \"Releases a lease that no connection uses any more\"",
            a_release_ends_its_own_lease_alone,
        ),
        planned(
            "a_release_that_fails_is_a_transient_error",
            "Provider::release: \"A transient error is retried with backoff until the lease \
             expires\"",
            a_release_that_fails_is_a_transient_error,
        ),
        planned(
            "a_fetch_after_a_release_returns_a_lease",
            "Provider::fetch: \"Returns the credential to use now\"",
            a_fetch_after_a_release_returns_a_lease,
        ),
        planned(
            "a_shutdown_releases_the_lease",
            "law 14: \"A shutdown is bounded, idempotent and ordered\"",
            a_shutdown_releases_the_lease,
        ),
        planned(
            "close_ends",
            "Provider::close: \"called once after the last release at removal or shutdown, with a \
             deadline\"",
            close_ends,
        ),
    ]
}

async fn release<P: Provider, C: ProviderControls<P>>(
    world: &World<P, C>,
    lease: &Lease<P::Secret>,
) -> CheckResult<Result<(), ProviderError>> {
    step("`release`", world.provider.release(lease.clone())).await
}

async fn released<P: Provider, C: ProviderControls<P>>(world: &World<P, C>) -> CheckResult<u32> {
    let released = world.controls.released().await?;
    released.ok_or_else(|| not_applicable("the controls have no `released`"))
}

async fn release_ends_and_may_be_repeated<P: Provider, C: ProviderControls<P>>(
    world: World<P, C>,
) -> CheckResult {
    let lease = world.first().await?;
    let first = release(&world, &lease).await?;
    first.map_err(|error| failed("`release` of a valid lease succeeds", show(&error)))?;
    // A release whose response was lost is repeated.
    match release(&world, &lease).await? {
        Err(error) if error.is_transient() => {
            let expected = "a repeated release succeeds, or returns a permanent error";
            Err(failed(expected, show(&error)))
        }
        _ => Ok(()),
    }
}

async fn release_reaches_the_backend<P: Provider, C: ProviderControls<P>>(
    world: World<P, C>,
) -> CheckResult {
    let before = released(&world).await?;
    let lease = world.first().await?;
    let result = release(&world, &lease).await?;
    result.map_err(|error| failed("`release` succeeds", show(&error)))?;
    eventually("one lease is released at the backend", || async {
        let after = released(&world).await?;
        Ok((after != before + 1).then(|| format!("{} are", after - before)))
    })
    .await
}

async fn a_release_ends_its_own_lease_alone<P: Provider, C: ProviderControls<P>>(
    world: World<P, C>,
) -> CheckResult {
    released(&world).await?;
    let (old, new) = (another(&world).await?, another(&world).await?);
    let is_accepted = async |lease: &Lease<P::Secret>| -> CheckResult<bool> {
        let accepted = world.controls.is_accepted(lease.secret()).await?;
        accepted.ok_or_else(|| not_applicable("the controls have no `is_accepted`"))
    };
    let are_accepted = is_accepted(&old).await? && is_accepted(&new).await?;
    let expected = "the backend accepts two leases before a release";
    require(are_accepted, expected, || "it does not".to_owned())?;
    let result = release(&world, &old).await?;
    result.map_err(|error| failed("`release` succeeds", show(&error)))?;
    eventually("the backend rejects the released secret", async || {
        let accepted = is_accepted(&old).await?;
        Ok(accepted.then(|| "it is accepted".to_owned()))
    })
    .await?;
    let is_left = is_accepted(&new).await?;
    let expected = "the backend accepts the secret of the other lease";
    require(is_left, expected, || {
        "it was released with the old one, or instead of it".to_owned()
    })?;
    let result = release(&world, &new).await?;
    result.map_err(|error| failed("`release` of the other lease succeeds", show(&error)))
}

/// Returns a lease of another credential than before.
async fn another<P: Provider, C: ProviderControls<P>>(
    world: &World<P, C>,
) -> CheckResult<Lease<P::Secret>> {
    if !world.controls.creates_credentials() && !world.controls.change_credential().await? {
        return Err(not_applicable("the controls have no `change_credential`"));
    }
    world.first().await
}

async fn a_release_that_fails_is_a_transient_error<P: Provider, C: ProviderControls<P>>(
    world: World<P, C>,
) -> CheckResult {
    released(&world).await?;
    let lease = world.first().await?;
    if !world.controls.set_available(false).await? {
        return Err(not_applicable("the controls have no `set_available`"));
    }
    let (releasing, old) = (world.clone(), lease.clone());
    let during = caught(async move { release(&releasing, &old).await }).await;
    world.controls.set_available(true).await?;
    let expected = "a transient error of `release` while the backend is unavailable";
    match during? {
        Ok(()) => return Err(failed(expected, "it succeeded")),
        Err(error) => require(error.is_transient(), expected, || show(&error))?,
    }
    let after = release(&world, &lease).await?;
    after.map_err(|error| failed("`release` succeeds after the outage", show(&error)))
}

async fn a_fetch_after_a_release_returns_a_lease<P: Provider, C: ProviderControls<P>>(
    world: World<P, C>,
) -> CheckResult {
    let lease = world.first().await?;
    // Another check is about the result of the release.
    let _ = release(&world, &lease).await;
    world.first().await.map(drop)
}

async fn a_shutdown_releases_the_lease<P: Provider, C: ProviderControls<P>>(
    world: World<P, C>,
) -> CheckResult {
    let before = released(&world).await?;
    world
        .supervised(async |_supervisor, _provider| Ok(()))
        .await?;
    let after = released(&world).await?;
    let expected = "the lease is released at the backend";
    require(after > before, expected, || "none was released".to_owned())
}

async fn close_ends<P: Provider, C: ProviderControls<P>>(world: World<P, C>) -> CheckResult {
    step("`close`", world.provider.close()).await
}
