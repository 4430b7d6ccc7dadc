//! Checks of `update_in_place`.

use std::pin::pin;

use claviger::pool::{PoolFactory, Taken};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::PoolControls;
use super::permits::require_own_queue;
use super::world::{Opened, World};
use crate::conformance::runner::{
    CheckResult, Planned, STEP, failed, not_applicable, planned, require,
};
use crate::conformance::tools::{is_pending, show};

pub(super) fn checks<F: PoolFactory, C: PoolControls<F>>() -> Vec<Planned<World<F, C>>> {
    vec![
        planned(
            "update_in_place_keeps_connections",
            "PoolFactory::update_in_place: \"keeps its connections\"",
            update_in_place_keeps_connections,
        ),
        planned(
            "update_in_place_logs_in_with_the_new_credentials",
            "PoolFactory::update_in_place: \"Makes the pool log in with `new` from now on\"",
            update_in_place_logs_in_with_the_new_credentials,
        ),
        planned(
            "a_waiting_login_uses_the_new_credentials",
            "PoolFactory::update_in_place: \"Makes the pool log in with `new` from now on\"; \
             PoolSettings::own_queue: logins wait for a permit during a handover",
            a_waiting_login_uses_the_new_credentials,
        ),
        planned(
            "update_in_place_is_false_for_another_address",
            "PoolFactory::update_in_place: \"Returns `false`, and changes nothing, if the pool \
             must be replaced (another host, port or database)\"",
            update_in_place_is_false_for_another_address,
        ),
    ]
}

const REPLACED: &str =
    "`update_in_place` returns `false`, which is its default: pools are replaced";

async fn update_in_place_keeps_connections<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    let opened = world.open_fresh().await?;
    let old = world.credentials();
    let mut busy = world.get(&opened.pool).await?;
    world.change_password().await?;
    let new = world.credentials();
    let updated = world.factory.update_in_place(&opened.pool, &old, &new);
    let checked = world.query(&mut busy).await;
    let open = world.controls.open_connections().await?;
    world.give_back(busy).await?;
    if !updated {
        world.close(&opened).await?;
        return Err(not_applicable(REPLACED));
    }
    checked?;
    require(open == 1, "the open connection stays open", || {
        format!("{open} connections are open")
    })?;
    // It is used again, although it logged in with the old password.
    let mut again = world.get(&opened.pool).await?;
    world.query(&mut again).await?;
    world.give_back(again).await?;
    world
        .until_open(1, "the old connection is used again")
        .await?;
    world.close(&opened).await
}

async fn update_in_place_logs_in_with_the_new_credentials<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    let opened = world.open_fresh().await?;
    let old = world.credentials();
    world.change_password().await?;
    let new = world.credentials();
    let updated = world.factory.update_in_place(&opened.pool, &old, &new);
    let got = timeout(STEP, world.factory.get(&opened.pool)).await;
    if !updated {
        // Nothing was changed, so a login is with the old password.
        let expected = "`update_in_place` changes nothing when it returns `false`";
        let got = matches!(got, Ok(Ok(_)));
        require(!got, expected, || {
            "a login with the new password".to_owned()
        })?;
        world.close(&opened).await?;
        return Err(not_applicable(REPLACED));
    }
    finish_login(&world, &opened, got).await
}

/// Fails unless `get` returned a connection, and closes the pool.
async fn finish_login<F: PoolFactory, C: PoolControls<F>>(
    world: &World<F, C>,
    opened: &Opened<F>,
    got: Result<Result<Taken<F::Connection>, F::Error>, Elapsed>,
) -> CheckResult {
    let expected = "a login with the new password";
    let mut taken = match got {
        Ok(Ok(taken)) => taken,
        Ok(Err(error)) => return Err(failed(expected, show(&error))),
        Err(_) => return Err(failed(expected, "`get` was pending for 10 s")),
    };
    world.query(&mut taken.connection).await?;
    world.give_back(taken.connection).await?;
    world.close(opened).await
}

async fn a_waiting_login_uses_the_new_credentials<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    require_own_queue(&world)?;
    let opened = world.open_fresh().await?;
    let old = world.credentials();
    opened.permits.withhold(true);
    let mut getting = pin!(world.factory.get(&opened.pool));
    if !is_pending(getting.as_mut()).await {
        let expected = "`get` waits while no login is permitted";
        return Err(failed(expected, "it returned within 250 ms"));
    }
    world.change_password().await?;
    let new = world.credentials();
    let updated = world.factory.update_in_place(&opened.pool, &old, &new);
    opened.permits.withhold(false);
    let got = timeout(STEP, getting).await;
    if !updated {
        drop(got);
        world.close(&opened).await?;
        return Err(not_applicable(REPLACED));
    }
    finish_login(&world, &opened, got).await
}

async fn update_in_place_is_false_for_another_address<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    let Some(elsewhere) = world.unreachable_credentials() else {
        return Err(not_applicable(
            "the controls have no `unreachable_credentials`",
        ));
    };
    let opened = world.open_fresh().await?;
    let old = world.credentials();
    let updated = world
        .factory
        .update_in_place(&opened.pool, &old, &elsewhere);
    require(!updated, "`false` for another address", || {
        "`true`".to_owned()
    })?;
    let mut connection = world.get(&opened.pool).await?;
    world.query(&mut connection).await?;
    world.give_back(connection).await?;
    world.close(&opened).await
}
