//! Checks with an unavailable backend, and of what errors show.

use claviger::error::ProviderError;
use claviger::provider::{FetchRequest, Fetched};
use claviger::report::RotationTrigger;
use claviger::{Lease, Provider};
use tokio::time::timeout;

use super::ProviderControls;
use super::world::{FETCH_DEADLINE, PROVIDER, World};
use crate::conformance::runner::{
    CheckResult, Planned, STEP, failed, not_applicable, planned, require, step,
};
use crate::conformance::tools::{caught, show, texts};

pub(super) fn checks<P: Provider, C: ProviderControls<P>>() -> Vec<Planned<World<P, C>>> {
    vec![
        planned(
            "an_unavailable_backend_is_an_error",
            "Provider::fetch: \"It runs in a task of its own with a deadline\"; \
             ProviderErrorKind::Unavailable: \"Transient\"",
            an_unavailable_backend_is_an_error,
        ),
        planned(
            "a_recovered_backend_returns_a_lease",
            "ProviderError::is_transient: \"Returns whether the same fetch may succeed later by \
             itself\"",
            a_recovered_backend_returns_a_lease,
        ),
        planned(
            "an_outage_keeps_the_lease_in_use",
            "law 3: \"A failure never replaces a lease that is still valid\"",
            an_outage_keeps_the_lease_in_use,
        ),
        planned(
            "no_secret_is_shown",
            "law 13: \"No secret is in any `Debug`, `Display`, log line, span, metric, panic, \
             error or page\"; Revision: \"It must not be the secret itself\"",
            no_secret_is_shown,
        ),
    ]
}

/// Fetches while the backend is unavailable, without a current lease and with one. The trigger is
/// `Manual`, because a scheduled fetch may keep a young lease without a request to the backend.
async fn fetch_during_outage<P: Provider, C: ProviderControls<P>>(
    world: &World<P, C>,
    current: &Lease<P::Secret>,
) -> CheckResult<Vec<Result<Lease<P::Secret>, ProviderError>>> {
    if !world.controls.set_available(false).await? {
        return Err(not_applicable("the controls have no `set_available`"));
    }
    let with_current = FetchRequest::new(RotationTrigger::Manual).with_current(current.clone());
    let fetching = world.clone();
    let fetched = caught(async move {
        let (first, next) = tokio::join!(
            fetching.try_fetch(FetchRequest::first()),
            fetching.try_fetch(with_current),
        );
        Ok((first?, next?))
    });
    let fetched = fetched.await;
    world.controls.set_available(true).await?;
    let (first, next) = fetched?;
    let lease = |fetched: Fetched<_>, current| fetched.into_lease(current);
    Ok(vec![
        first.and_then(|fetched| lease(fetched, None)),
        next.and_then(|fetched| lease(fetched, Some(current.clone()))),
    ])
}

async fn an_unavailable_backend_is_an_error<P: Provider, C: ProviderControls<P>>(
    world: World<P, C>,
) -> CheckResult {
    let current = world.first().await?;
    for result in fetch_during_outage(&world, &current).await? {
        let Err(error) = result else {
            let expected = "an error while the backend is unavailable";
            return Err(failed(expected, "`fetch` returned a lease"));
        };
        let (seen, expected) = (error.is_transient(), world.controls.is_outage_transient());
        let expected = if expected == seen {
            continue;
        } else if expected {
            "a transient error, because the outage may end by itself"
        } else {
            "a permanent error, as `is_outage_transient` returns"
        };
        return Err(failed(expected, show(&error)));
    }
    Ok(())
}

async fn a_recovered_backend_returns_a_lease<P: Provider, C: ProviderControls<P>>(
    world: World<P, C>,
) -> CheckResult {
    let before = world.first().await?;
    let _ = fetch_during_outage(&world, &before).await?;
    let after = world.next(RotationTrigger::Schedule, &before).await?;
    let is_same = before.revision() == after.revision();
    let creates = world.controls.creates_credentials();
    let expected = "the same revision, because nothing changed at the backend";
    require(is_same || creates, expected, || "another one".to_owned())
}

async fn an_outage_keeps_the_lease_in_use<P: Provider, C: ProviderControls<P>>(
    world: World<P, C>,
) -> CheckResult {
    world
        .supervised(async |supervisor, _provider| {
            let revision = || {
                let status = supervisor.status();
                status.providers.first().and_then(|it| it.revision.clone())
            };
            let before = revision();
            if !world.controls.set_available(false).await? {
                return Err(not_applicable("the controls have no `set_available`"));
            }
            let rotated = timeout(FETCH_DEADLINE + STEP, supervisor.rotate_now(PROVIDER)).await;
            let during = revision();
            world.controls.set_available(true).await?;
            let expected = "`rotate_now` fails while the backend is unavailable";
            let is_error = matches!(rotated, Ok(Err(_)));
            require(is_error, expected, || match rotated {
                Ok(_) => "it succeeded".to_owned(),
                Err(_) => "it was pending after 40 s".to_owned(),
            })?;
            let expected = "the same lease during the outage";
            require(before.is_some() && before == during, expected, || {
                format!("{before:?}, then {during:?}")
            })?;
            let rotated = step("`rotate_now`", supervisor.rotate_now(PROVIDER)).await?;
            let expected = "`rotate_now` succeeds after the outage";
            rotated
                .map(drop)
                .map_err(|error| failed(expected, show(&error)))
        })
        .await
}

async fn no_secret_is_shown<P: Provider, C: ProviderControls<P>>(
    world: World<P, C>,
) -> CheckResult {
    let lease = world.first().await?;
    let provider = &world.provider;
    let mut shown = vec![
        ("`Debug` of the provider", format!("{provider:?}")),
        ("the revision", lease.revision().as_str().to_owned()),
    ];
    // Without an outage, the rest is checked.
    if let Ok(results) = fetch_during_outage(&world, &lease).await {
        let errors = results.into_iter().filter_map(Result::err);
        shown.extend(errors.map(|error| ("the error of `fetch`", texts(&error))));
    }
    shown.push(("`Debug` of the provider", format!("{provider:?}")));
    for (what, text) in shown {
        let expected = format!("{what} contains no password");
        require(!world.secrets.are_in(&text), expected, || {
            format!("it does: {text}")
        })?;
    }
    Ok(())
}
