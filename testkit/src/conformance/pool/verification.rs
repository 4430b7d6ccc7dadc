//! Checks of `verify` and `verify_as_pool`.

use claviger::error::{ConnectError, ConnectErrorKind};
use claviger::pool::PoolFactory;

use super::PoolControls;
use super::world::World;
use crate::conformance::runner::{
    CheckResult, Planned, VERIFY_DEADLINE, failed, not_applicable, planned, require, step,
};
use crate::conformance::tools::{drop_after_polls, show};

pub(super) fn checks<F: PoolFactory, C: PoolControls<F>>() -> Vec<Planned<World<F, C>>> {
    vec![
        planned(
            "check_accepts_a_valid_lease",
            "PoolFactory::check: \"Rejects a lease that is invalid for this pool\"",
            check_accepts_a_valid_lease,
        ),
        planned(
            "verify_accepts_valid_credentials",
            "PoolFactory::verify: \"Logs in without a pool, probes the connection\"",
            verify_accepts_valid_credentials,
        ),
        planned(
            "verify_rejects_an_old_password",
            "PoolFactory::verify: \"Only `ConnectErrorKind::Rejected` may cause a fetch\"",
            verify_rejects_an_old_password,
        ),
        planned(
            "verify_reports_an_unreachable_server",
            "ConnectErrorKind::Unreachable: \"The database cannot be reached or is not up\"",
            verify_reports_an_unreachable_server,
        ),
        planned(
            "verify_leaves_no_connection",
            "PoolFactory::verify: \"probes the connection and closes it\"",
            verify_leaves_no_connection,
        ),
        planned(
            "a_dropped_verify_leaves_no_connection",
            "PoolFactory::verify: \"Dropped when it takes longer than the verify deadline\"",
            a_dropped_verify_leaves_no_connection,
        ),
        planned(
            "verify_as_pool_leaves_no_connection",
            "PoolFactory::verify_as_pool: \"Opens one connection as a new pool for this secret \
             would, and closes it\"",
            verify_as_pool_leaves_no_connection,
        ),
    ]
}

async fn check_accepts_a_valid_lease<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    let lease = world.lease().await;
    let checked = world.factory.check(&lease);
    checked.map_err(|error| failed("`check` accepts valid credentials", show(&error)))
}

async fn verify_accepts_valid_credentials<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    for time in ["before", "after"] {
        let verified = verify(&world, &world.credentials()).await?;
        verified.map_err(|error| {
            let expected = format!("valid credentials are verified {time} a password change");
            failed(expected, show(&error))
        })?;
        world.change_password().await?;
    }
    Ok(())
}

async fn verify_rejects_an_old_password<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    let old = world.credentials();
    // The subject may keep a connection, or the result of the last login.
    let _ = verify(&world, &old).await?;
    world.change_password().await?;
    let verified = verify(&world, &old).await?;
    require_error_of_kind(ConnectErrorKind::Rejected, verified)
}

async fn verify_reports_an_unreachable_server<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    if let Some(elsewhere) = world.unreachable_credentials() {
        let verified = verify(&world, &elsewhere).await?;
        return require_error_of_kind(ConnectErrorKind::Unreachable, verified);
    }
    let reason = "the controls have neither `unreachable_credentials` nor `set_running`";
    if !world.controls.set_running(false).await? {
        return Err(not_applicable(reason));
    }
    let verified = verify(&world, &world.credentials()).await;
    world.controls.set_running(true).await?;
    require_error_of_kind(ConnectErrorKind::Unreachable, verified?)
}

async fn verify_leaves_no_connection<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    world.reset().await?;
    let old = world.credentials();
    let verified = verify(&world, &old).await?;
    verified.map_err(|error| failed("valid credentials are verified", show(&error)))?;
    let expected = "no connection is open after a verification";
    world.until_open(0, expected).await?;
    world.change_password().await?;
    let _ = verify(&world, &old).await?;
    let expected = "no connection is open after a rejected verification";
    world.until_open(0, expected).await
}

async fn a_dropped_verify_leaves_no_connection<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    world.reset().await?;
    let credentials = world.credentials();
    for polls in 1..=12 {
        let _ = drop_after_polls(polls, world.factory.verify(&credentials)).await;
    }
    let expected = "no connection is open after dropped verifications";
    world.until_open(0, expected).await?;
    let verified = verify(&world, &credentials).await?;
    let expected = "valid credentials are verified after dropped verifications";
    verified.map_err(|error| failed(expected, show(&error)))
}

async fn verify_as_pool_leaves_no_connection<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    world.reset().await?;
    let credentials = world.credentials();
    let verified = step(
        "`verify_as_pool`",
        world.factory.verify_as_pool(&credentials, VERIFY_DEADLINE),
    );
    let expected = "valid credentials are verified";
    verified
        .await?
        .map_err(|error| failed(expected, show(&error)))?;
    world
        .until_open(0, "no connection is open after `verify_as_pool`")
        .await
}

async fn verify<F: PoolFactory, C: PoolControls<F>>(
    world: &World<F, C>,
    credentials: &F::Secret,
) -> CheckResult<Result<(), ConnectError>> {
    step("`verify`", world.factory.verify(credentials)).await
}

pub(super) fn require_error_of_kind(
    kind: ConnectErrorKind,
    result: Result<(), ConnectError>,
) -> CheckResult {
    let seen = result.as_ref().err().map(ConnectError::kind);
    require(
        seen == Some(kind),
        format!("an error of kind {kind:?}"),
        || {
            result.map_or_else(
                |error| format!("kind {:?}: {}", error.kind(), show(&error)),
                |()| "it succeeded".to_owned(),
            )
        },
    )
}
