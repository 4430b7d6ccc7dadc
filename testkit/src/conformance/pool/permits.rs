//! Checks of pools with a queue of their own.

use std::pin::pin;

use claviger::pool::PoolFactory;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::PoolControls;
use super::world::World;
use crate::conformance::runner::{
    CheckResult, Planned, STEP, WATCH, failed, not_applicable, planned, require,
};
use crate::conformance::tools::is_pending;

pub(super) fn checks<F: PoolFactory, C: PoolControls<F>>() -> Vec<Planned<World<F, C>>> {
    vec![
        planned(
            "logins_wait_for_a_permit",
            "PoolSettings::own_queue: \"Such a pool makes every login by `LoginPermits::log_in`\"",
            logins_wait_for_a_permit,
        ),
        planned(
            "each_login_has_a_permit",
            "LoginPermits: \"The pool makes every login by `log_in`\"",
            each_login_has_a_permit,
        ),
        planned(
            "waiting_logins_do_not_count",
            "PoolFactory::connections: \"A login that waits for a permit does not count\"",
            waiting_logins_do_not_count,
        ),
    ]
}

pub(super) fn require_own_queue<F: PoolFactory, C: PoolControls<F>>(
    world: &World<F, C>,
) -> CheckResult {
    if world.factory.settings().own_queue {
        return Ok(());
    }
    Err(not_applicable("`PoolSettings::own_queue` is `false`"))
}

async fn logins_wait_for_a_permit<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    require_own_queue(&world)?;
    let opened = world.open_fresh().await?;
    opened.permits.withhold(true);
    let mut getting = pin!(world.factory.get(&opened.pool));
    if !is_pending(getting.as_mut()).await {
        let expected = "`get` waits while no login is permitted";
        return Err(failed(expected, "it returned within 250 ms"));
    }
    let expected = "no connection is open while no login is permitted";
    world.until_open(0, expected).await?;
    opened.permits.withhold(false);
    let expected = "`get` returns a connection when its login is permitted";
    match timeout(STEP, getting).await {
        Ok(Ok(taken)) => world.give_back(taken.connection).await?,
        Ok(Err(error)) => return Err(failed(expected, error)),
        Err(_) => return Err(failed(expected, "it was pending for 10 s")),
    }
    world.close(&opened).await
}

async fn each_login_has_a_permit<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    require_own_queue(&world)?;
    let opened = world.open_fresh().await?;
    let max = world.max();
    for round in 1..=2 {
        for connection in world.get_many(&opened.pool, max).await? {
            world.factory.discard(connection);
        }
        world
            .until_open(0, "discarded connections are closed")
            .await?;
        let (logins, granted) = ((max * round) as usize, opened.permits.granted());
        let expected = format!("{logins} permits for {logins} logins");
        require(granted == logins, expected, || format!("{granted} permits"))?;
    }
    world.close(&opened).await
}

async fn waiting_logins_do_not_count<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    require_own_queue(&world)?;
    let opened = world.open_fresh().await?;
    opened.permits.withhold(true);
    let mut callers = JoinSet::new();
    for _ in 0..world.max() {
        let (world, pool) = (world.clone(), opened.pool.clone());
        callers.spawn(async move { world.get(&pool).await });
    }
    sleep(WATCH).await;
    let connections = world.factory.connections(&opened.pool);
    let expected = "`connections` returns 0 while all logins wait for a permit";
    require(connections == 0, expected, || {
        format!("{connections}, so the supervisor permits no login to a full pool")
    })?;
    opened.permits.withhold(false);
    while let Some(got) = callers.join_next().await {
        let got = got.map_err(|error| failed("`get` does not panic", error))?;
        world.give_back(got?).await?;
    }
    world.close(&opened).await
}
