//! Checks of closed pools: `vacant` and `drain`.

use std::time::Duration;

use claviger::pool::PoolFactory;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::PoolControls;
use super::world::{Opened, World};
use crate::conformance::runner::{CheckResult, Planned, STEP, failed, planned, require, step};
use crate::conformance::tools::{is_pending, show};

pub(super) fn checks<F: PoolFactory, C: PoolControls<F>>() -> Vec<Planned<World<F, C>>> {
    vec![
        planned(
            "a_vacant_pool_is_closed",
            "PoolFactory::vacant: \"Returns a closed pool\"; is_closed: \"Returns whether this is \
             the error of a closed pool\"",
            a_vacant_pool_is_closed,
        ),
        planned(
            "drain_lets_busy_connections_finish",
            "PoolFactory::drain: \"and busy ones when they are returned\"; law 9: \"No connection \
             is cut at the drain deadline\"",
            drain_lets_busy_connections_finish,
        ),
        planned(
            "drain_closes_idle_connections_at_once",
            "PoolFactory::drain: \"closes idle ones at once\"",
            drain_closes_idle_connections_at_once,
        ),
        planned(
            "drain_resolves_when_the_last_connection_has_closed",
            "PoolFactory::drain: \"Resolves when the last has closed\"",
            drain_resolves_when_the_last_connection_has_closed,
        ),
        planned(
            "a_drained_pool_opens_no_connection",
            "PoolFactory::drain: \"Closes the pool: opens no more connections\"",
            a_drained_pool_opens_no_connection,
        ),
        planned(
            "a_login_during_a_drain_leaves_no_connection",
            "PoolFactory::drain: \"Resolves when the last has closed\"",
            a_login_during_a_drain_leaves_no_connection,
        ),
    ]
}

async fn a_vacant_pool_is_closed<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    world.reset().await?;
    let vacant = world.factory.vacant();
    let connections = world.factory.connections(&vacant);
    require(connections == 0, "`vacant` has no connection", || {
        format!("it has {connections}")
    })?;
    require_closed(&world, &vacant).await?;
    let expected = "no connection is open";
    world.stays_open(0, expected).await?;
    step("`drain` of `vacant`", world.factory.drain(vacant)).await
}

/// Fails unless the pool returns no connection, and an error that `is_closed` recognises.
async fn require_closed<F: PoolFactory, C: PoolControls<F>>(
    world: &World<F, C>,
    pool: &F::Pool,
) -> CheckResult {
    let taken = world.factory.try_get(pool);
    require(
        taken.is_none(),
        "`try_get` of a closed pool returns `None`",
        || "a connection".to_owned(),
    )?;
    let expected = "`get` of a closed pool returns an error that `is_closed` recognises";
    match timeout(STEP, world.factory.get(pool)).await {
        Ok(Ok(_)) => Err(failed(expected, "a connection")),
        Ok(Err(error)) => require(world.factory.is_closed(&error), expected, || show(&error)),
        Err(_) => Err(failed(expected, "`get` was pending for 10 s")),
    }
}

/// A pool of which one connection is busy, and of which all others are idle.
struct Draining<F: PoolFactory> {
    pool: F::Pool,
    busy: F::Connection,
    /// `None` after it has resolved.
    drain: Option<JoinHandle<()>>,
}

const WAITS: &str = "`drain` waits while a connection is busy";

async fn drain_one_busy<F: PoolFactory, C: PoolControls<F>>(
    world: &World<F, C>,
) -> CheckResult<Draining<F>> {
    let Opened { pool, .. } = world.open_fresh().await?;
    let max = world.max();
    let mut connections = world.get_many(&pool, max).await?;
    let Some(busy) = connections.pop() else {
        return Err(failed("`max_connections` is at least 1", "it is 0"));
    };
    world.give_all_back(connections).await?;
    world.until_open(max, "idle connections stay open").await?;
    let (factory, draining) = (world.factory.clone(), pool.clone());
    let drain = tokio::spawn(async move { factory.drain(draining).await });
    let drain = Some(drain);
    Ok(Draining { pool, busy, drain })
}

/// Lets the drain begin. Returns whether it waits for the busy connection.
async fn is_waiting<F: PoolFactory>(draining: &mut Draining<F>) -> bool {
    let is_waiting = match &mut draining.drain {
        Some(drain) => is_pending(drain).await,
        None => false,
    };
    if !is_waiting {
        draining.drain = None;
    }
    is_waiting
}

/// Returns the last connection, and waits for the end of the drain.
async fn finish<F: PoolFactory, C: PoolControls<F>>(
    world: &World<F, C>,
    draining: Draining<F>,
) -> CheckResult {
    world.give_back(draining.busy).await?;
    let Some(drain) = draining.drain else {
        return Ok(());
    };
    let drained = timeout(STEP, drain).await;
    let expected = "`drain` resolves when the last connection was returned";
    match drained {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(failed(expected, error)),
        Err(_) => Err(failed(expected, "it was pending for 10 s")),
    }
}

async fn drain_closes_idle_connections_at_once<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    let draining = drain_one_busy(&world).await?;
    let expected = "only the busy connection is open during the drain";
    world.until_open(1, expected).await?;
    finish(&world, draining).await
}

async fn drain_lets_busy_connections_finish<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    let mut draining = drain_one_busy(&world).await?;
    for _ in 0..3 {
        let _ = is_waiting(&mut draining).await;
        world.query(&mut draining.busy).await?;
    }
    finish(&world, draining).await?;
    world
        .until_open(0, "it is closed when it is returned")
        .await
}

async fn drain_resolves_when_the_last_connection_has_closed<F, C>(world: World<F, C>) -> CheckResult
where
    F: PoolFactory,
    C: PoolControls<F>,
{
    let mut draining = drain_one_busy(&world).await?;
    if !is_waiting(&mut draining).await {
        return Err(failed(WAITS, "it resolved within 250 ms"));
    }
    let pool = draining.pool.clone();
    finish(&world, draining).await?;
    let connections = world.factory.connections(&pool);
    require(connections == 0, "no connection after `drain`", || {
        format!("`connections` returns {connections}")
    })?;
    world
        .until_open(0, "no connection is open after `drain`")
        .await
}

async fn a_drained_pool_opens_no_connection<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    let mut draining = drain_one_busy(&world).await?;
    let _ = is_waiting(&mut draining).await;
    require_closed(&world, &draining.pool).await?;
    let pool = draining.pool.clone();
    finish(&world, draining).await?;
    require_closed(&world, &pool).await?;
    world
        .stays_open(0, "no connection is open after `drain`")
        .await
}

async fn a_login_during_a_drain_leaves_no_connection<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    // The drain begins before, during and after the login, however long that takes.
    for millis in [0, 1, 2, 4, 8, 16, 32] {
        let Opened { pool, .. } = world.open_fresh().await?;
        let (factory, logging_in) = (world.factory.clone(), pool.clone());
        let getting = tokio::spawn(async move { factory.get(&logging_in).await });
        sleep(Duration::from_millis(millis)).await;
        let (factory, draining) = (world.factory.clone(), pool.clone());
        let drain = tokio::spawn(async move { factory.drain(draining).await });
        let got = step("`get` of a pool that is closed meanwhile", getting).await?;
        // Its error may be that of a closed pool, or of the login.
        if let Ok(taken) = got.map_err(|error| failed("`get` does not panic", error))? {
            world.give_back(taken.connection).await?;
        }
        let drained = step("`drain` of a pool that logs in", drain).await?;
        drained.map_err(|error| failed("`drain` does not panic", error))?;
        let connections = world.factory.connections(&pool);
        require(connections == 0, "no connection after `drain`", || {
            format!("`connections` returns {connections}")
        })?;
        let expected = "no connection of a login is open after `drain`";
        world.until_open(0, expected).await?;
    }
    Ok(())
}
