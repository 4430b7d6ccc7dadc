//! Checks of the maximum, of waiting and of cancelled acquires.

use std::time::Duration;

use claviger::pool::PoolFactory;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::PoolControls;
use super::world::World;
use crate::conformance::runner::{CheckResult, PAUSE, Planned, STEP, failed, planned, require};
use crate::conformance::tools::{drop_after_polls, is_pending, show};

pub(super) fn checks<F: PoolFactory, C: PoolControls<F>>() -> Vec<Planned<World<F, C>>> {
    vec![
        planned(
            "get_opens_up_to_the_maximum",
            "PoolFactory::get: \"Returns an idle connection, or opens one if the pool has room\"",
            get_opens_up_to_the_maximum,
        ),
        planned(
            "get_waits_for_a_returned_connection",
            "PoolFactory::get: \"Otherwise waits for a returned one\"",
            get_waits_for_a_returned_connection,
        ),
        planned(
            "many_callers_stay_within_the_maximum",
            "PoolSettings::max_connections: \"Maximum number of connections that one pool opens\"",
            many_callers_stay_within_the_maximum,
        ),
        planned(
            "a_dropped_get_keeps_no_place",
            "PoolFactory::get: \"May be dropped while it waits\"; law 15",
            a_dropped_get_keeps_no_place,
        ),
    ]
}

async fn get_opens_up_to_the_maximum<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    let opened = world.open_fresh().await?;
    let max = world.max();
    require(max > 0, "`max_connections` is at least 1", || {
        "it is 0".into()
    })?;
    let mut connections = world.get_many(&opened.pool, max).await?;
    for connection in &mut connections {
        world.query(connection).await?;
    }
    let expected = format!("{max} connections are open");
    world.until_open(max, &expected).await?;
    world.give_all_back(connections).await?;
    world.abandon(&opened).await;
    Ok(())
}

async fn get_waits_for_a_returned_connection<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    let opened = world.open_fresh().await?;
    let (factory, max) = (&world.factory, world.max());
    let mut connections = world.get_many(&opened.pool, max).await?;
    let mut waiting = std::pin::pin!(factory.get(&opened.pool));
    if !is_pending(waiting.as_mut()).await {
        let expected = "`get` waits while all connections are busy";
        return Err(failed(expected, "it returned within 250 ms"));
    }
    let expected = format!("{max} connections are open while a caller waits");
    world.until_open(max, &expected).await?;
    if let Some(connection) = connections.pop() {
        world.give_back(connection).await?;
    }
    let expected = "the waiting `get` returns the connection that was returned";
    let Ok(Ok(mut taken)) = timeout(STEP, waiting).await else {
        return Err(failed(
            expected,
            "it returned an error, or nothing for 10 s",
        ));
    };
    world.query(&mut taken.connection).await?;
    world.give_back(taken.connection).await?;
    world.give_all_back(connections).await?;
    world.close(&opened).await
}

async fn many_callers_stay_within_the_maximum<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    let opened = world.open_fresh().await?;
    let max = world.max();
    let mut callers = JoinSet::new();
    for _ in 0..max * 4 {
        let (world, pool) = (world.clone(), opened.pool.clone());
        callers.spawn(async move {
            for _ in 0..5 {
                let mut connection = world.get(&pool).await?;
                world.query(&mut connection).await?;
                world.give_back(connection).await?;
            }
            CheckResult::Ok(())
        });
    }
    let mut most = 0;
    while !callers.is_empty() {
        most = most.max(world.controls.open_connections().await?);
        while let Some(ended) = callers.try_join_next() {
            ended.map_err(|error| failed("no caller panics", error))??;
        }
        sleep(Duration::from_millis(2)).await;
    }
    let expected = format!("at most {max} connections are open at any time");
    require(most <= max, expected, || format!("{most} were open"))?;
    world.close(&opened).await
}

async fn a_dropped_get_keeps_no_place<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    let opened = world.open_fresh().await?;
    let (factory, pool, max) = (&world.factory, &opened.pool, world.max());
    // Dropped before, during and after the login.
    for polls in 1..=12 {
        for _ in 0..max {
            let _ = drop_after_polls(polls, factory.get(pool)).await;
        }
    }
    // Logins may continue for 5 s without their caller, and keep their place so long.
    let mut connections = Vec::new();
    for number in 1..=max {
        let got = timeout(STEP, factory.get(pool)).await;
        let expected = format!("{max} connections are available after dropped calls of `get`");
        match got {
            Ok(Ok(taken)) => connections.push(taken.connection),
            Ok(Err(error)) => return Err(failed(expected, format!("number {number}: {error}"))),
            Err(_) => {
                let actual = format!("`get` number {number} was pending for 10 s");
                return Err(failed(expected, actual));
            }
        }
    }
    // Dropped while it waits in the queue.
    for _ in 0..max {
        let waits = drop_after_polls(1, factory.get(pool)).await;
        let expected = "`get` waits while all connections are busy";
        require(waits, expected, || "it returned at once".to_owned())?;
    }
    let mut waiting = std::pin::pin!(factory.get(pool));
    let _ = drop_after_polls(1, waiting.as_mut()).await;
    if let Some(connection) = connections.pop() {
        world.give_back(connection).await?;
    }
    let expected = "a returned connection is handed to a caller that still waits";
    match timeout(STEP, waiting).await {
        Ok(Ok(taken)) => connections.push(taken.connection),
        Ok(Err(error)) => return Err(failed(expected, error)),
        Err(_) => return Err(failed(expected, "it waited for 10 s")),
    }
    // Dropped when a connection was handed to it, before it is polled again.
    let mut handed = Box::pin(factory.get(pool));
    let _ = drop_after_polls(1, handed.as_mut()).await;
    if let Some(connection) = connections.pop() {
        world.give_back(connection).await?;
    }
    sleep(PAUSE).await;
    drop(handed);
    let expected = "a connection that was handed to a dropped call is available";
    match timeout(STEP, factory.get(pool)).await {
        Ok(Ok(taken)) => connections.push(taken.connection),
        Ok(Err(error)) => return Err(failed(expected, show(&error))),
        Err(_) => return Err(failed(expected, "`get` was pending for 10 s")),
    }
    for connection in &mut connections {
        world.query(connection).await?;
    }
    let expected = format!("{max} connections are open after dropped calls of `get`");
    world.until_open(max, &expected).await?;
    world.give_all_back(connections).await?;
    world.close(&opened).await
}
