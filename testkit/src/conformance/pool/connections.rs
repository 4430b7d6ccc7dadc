//! Checks of single connections: opened, handed out, returned, discarded.

use std::future::ready;
use std::sync::atomic::{AtomicBool, Ordering};

use claviger::pool::{Check, CheckPolicy, PoolFactory, Taken};
use tokio::time::{Instant, sleep};

use super::PoolControls;
use super::world::World;
use crate::conformance::runner::{
    CheckResult, Planned, VERIFY_DEADLINE, WATCH, eventually, failed, not_applicable, planned,
    require, step,
};
use crate::conformance::tools::show;

pub(super) fn checks<F: PoolFactory, C: PoolControls<F>>() -> Vec<Planned<World<F, C>>> {
    vec![
        planned(
            "open_opens_no_connection",
            "PoolFactory::open: \"Creates a pool for this secret, and opens no connection\"",
            open_opens_no_connection,
        ),
        planned(
            "try_get_returns_idle_connections_alone",
            "PoolFactory::try_get: \"Returns an idle connection, without waiting or a login\"",
            try_get_returns_idle_connections_alone,
        ),
        planned(
            "give_back_makes_a_connection_available",
            "PoolFactory::give_back: \"Resolves when it is available again\"",
            give_back_makes_a_connection_available,
        ),
        planned(
            "a_dropped_connection_becomes_available",
            "Handle::get: callers drop a connection to return it",
            a_dropped_connection_becomes_available,
        ),
        planned(
            "discard_closes_the_connection",
            "PoolFactory::discard: \"Closes a connection instead of returning it to its pool, and \
             frees its place\"",
            discard_closes_the_connection,
        ),
        planned(
            "connections_and_idle_are_true",
            "PoolFactory::connections: \"Returns the number of connections: busy, idle and being \
             opened\"; PoolFactory::idle: \"Returns how many of them are idle\"",
            connections_and_idle_are_true,
        ),
        planned(
            "idle_times_are_true",
            "Taken::idle_for: \"Time since it was last used: zero for one that was just opened, \
             `None` if unknown\"",
            idle_times_are_true,
        ),
        planned(
            "check_connection_finds_killed_connections",
            "PoolFactory::check_connection: \"Verifies that an open connection works\"",
            check_connection_finds_killed_connections,
        ),
        planned(
            "warm_opens_connections",
            "PoolFactory::warm: \"Opens connections until the pool has `connections` of them. \
             Returns how many it has\"",
            warm_opens_connections,
        ),
        planned(
            "make_room_closes_no_busy_connection",
            "PoolFactory::make_room: \"Closes one connection of the current pool that no caller \
             uses\"",
            make_room_closes_no_busy_connection,
        ),
    ]
}

async fn open_opens_no_connection<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    let opened = world.open_fresh().await?;
    let expected = "no connection is open after `open`";
    world.stays_open(0, expected).await?;
    let granted = opened.permits.granted();
    require(granted == 0, expected, || format!("{granted} logins"))?;
    world.abandon(&opened).await;
    Ok(())
}

async fn try_get_returns_idle_connections_alone<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    let opened = world.open_fresh().await?;
    let began = Instant::now();
    let taken = world.factory.try_get(&opened.pool);
    let took = began.elapsed();
    require(
        taken.is_none(),
        "`None` from a pool without connections",
        || "a connection".to_owned(),
    )?;
    require(took < WATCH, "`try_get` returns at once", || {
        format!("it took {took:?}")
    })?;
    let expected = "no connection is open after `try_get` on a pool without connections";
    world.stays_open(0, expected).await?;
    drop(world.get(&opened.pool).await?);
    let mut taken = None;
    eventually("`try_get` returns an idle connection", || {
        taken = world.factory.try_get(&opened.pool);
        ready(Ok(taken.is_none().then(|| "`None`".to_owned())))
    })
    .await?;
    if let Some(Taken { mut connection, .. }) = taken {
        world.query(&mut connection).await?;
    }
    world.until_open(1, "the idle connection is used").await?;
    world.abandon(&opened).await;
    Ok(())
}

async fn give_back_makes_a_connection_available<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    let opened = world.open_fresh().await?;
    for _ in 0..20 {
        let mut connection = world.get(&opened.pool).await?;
        world.query(&mut connection).await?;
        world.give_back(connection).await?;
    }
    let expected = "one connection is used again by one caller after another";
    world.until_open(1, expected).await?;
    let taken = world.factory.try_get(&opened.pool);
    let Some(Taken { connection, .. }) = taken else {
        let expected = "a connection is available when `give_back` has resolved";
        return Err(failed(expected, "`try_get` returned `None`"));
    };
    world.give_back(connection).await?;
    world.abandon(&opened).await;
    Ok(())
}

async fn a_dropped_connection_becomes_available<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    let opened = world.open_fresh().await?;
    for _ in 0..3 {
        drop(world.get_many(&opened.pool, world.max()).await?);
    }
    let open = world.controls.open_connections().await?;
    let max = world.max();
    let expected = format!("at most {max} connections are open after callers dropped them");
    require(open <= max, expected, || format!("{open} are open"))?;
    world.abandon(&opened).await;
    Ok(())
}

async fn discard_closes_the_connection<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    let opened = world.open_fresh().await?;
    let (pool, max) = (&opened.pool, world.max());
    for connection in world.get_many(pool, max).await? {
        world.factory.discard(connection);
    }
    world
        .until_open(0, "discarded connections are closed at the server")
        .await?;
    // The places are free.
    let mut connections = world.get_many(pool, max).await?;
    for connection in &mut connections {
        world.query(connection).await?;
    }
    world
        .until_open(max, "the pool opens its maximum after discards")
        .await?;
    world.give_all_back(connections).await?;
    world.close(&opened).await
}

async fn connections_and_idle_are_true<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    let opened = world.open_fresh().await?;
    let (factory, pool, max) = (&world.factory, &opened.pool, world.max());
    // The default of `idle` is 0.
    let counts_idle = AtomicBool::new(false);
    let expect = async |situation: &str, connections: u32, idle: u32| {
        // A pool may count a moment later.
        let expected = format!("{connections} connections, {idle} idle, {situation}");
        eventually(&expected, || async {
            let seen = (factory.connections(pool), factory.idle(pool));
            if seen.1 > 0 {
                counts_idle.store(true, Ordering::Release);
            }
            let is_default = seen.1 == 0 && !counts_idle.load(Ordering::Acquire);
            let is_right = seen.0 == connections && (seen.1 == idle || is_default);
            Ok((!is_right).then(|| format!("{} connections, {} idle", seen.0, seen.1)))
        })
        .await
    };
    expect("when the pool was opened", 0, 0).await?;
    let mut connections = world.get_many(pool, max).await?;
    expect("with all connections busy", max, 0).await?;
    let Some(one) = connections.pop() else {
        return Err(failed("`max_connections` is at least 1", "it is 0"));
    };
    world.give_back(one).await?;
    expect("after one was returned", max, 1).await?;
    let one = world.get(pool).await?;
    expect("with all connections busy again", max, 0).await?;
    factory.discard(one);
    let expected = "the connection is closed after `discard`";
    world.until_open(max - 1, expected).await?;
    expect("after one was discarded", max - 1, 0).await?;
    world.give_all_back(connections).await?;
    expect("after the others were returned", max - 1, max - 1).await?;
    world.close(&opened).await
}

async fn idle_times_are_true<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    let opened = world.open_fresh().await?;
    let pool = &opened.pool;
    for waits in [false, true] {
        let connection = world.get(pool).await?;
        world.give_back(connection).await?;
        // A pool may return a dropped connection in the background.
        sleep(WATCH).await;
        let returned = Instant::now();
        sleep(WATCH).await;
        let idle = returned.elapsed();
        let (call, taken) = if waits {
            ("`get`", step("`get`", world.factory.get(pool)).await?.ok())
        } else {
            ("`try_get`", world.factory.try_get(pool))
        };
        let Some(taken) = taken else {
            return Err(failed(format!("{call} returns an idle connection"), "none"));
        };
        let idle_for = taken.idle_for;
        world.give_back(taken.connection).await?;
        let expected = format!("`idle_for` of {call} is at least {idle:?}, or `None`");
        let is_true = idle_for.is_none_or(|idle_for| idle_for >= idle);
        require(is_true, expected, || format!("{idle_for:?}"))?;
    }
    world.close(&opened).await
}

async fn check_connection_finds_killed_connections<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    let opened = world.open_fresh().await?;
    for check in [Check::Ping, Check::Probe] {
        let mut connection = world.get(&opened.pool).await?;
        let checking = world.factory.check_connection(&mut connection, check);
        let checked = step("`check_connection`", checking).await?;
        checked.map_err(|error| {
            failed(
                format!("{check:?} accepts an open connection"),
                show(&error),
            )
        })?;
        world.reset().await?;
        let checking = world.factory.check_connection(&mut connection, check);
        let checked = step("`check_connection`", checking).await?;
        if checked.is_ok() && world.factory.settings().checks == CheckPolicy::Never {
            world.factory.discard(connection);
            return Err(not_applicable(
                "`CheckPolicy::Never`, and `check_connection` verifies nothing",
            ));
        }
        require(
            checked.is_err(),
            format!("{check:?} fails on a connection that the server closed"),
            || "it succeeded".to_owned(),
        )?;
        world.factory.discard(connection);
    }
    world.close(&opened).await
}

async fn warm_opens_connections<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    let opened = world.open_fresh().await?;
    let (factory, pool) = (&world.factory, &opened.pool);
    for number in [1, world.max()] {
        let warmed = step("`warm`", factory.warm(pool, number, VERIFY_DEADLINE)).await?;
        let warmed = warmed.map_err(|error| failed("`warm` opens connections", show(&error)))?;
        if warmed == 0 && factory.settings().warm_connections == 0 {
            world
                .stays_open(0, "no connection, as `warm` returned")
                .await?;
            return Err(not_applicable(
                "`warm` opens no connection, which is its default",
            ));
        }
        let expected = format!("{number} connections after `warm`");
        require(warmed == number, expected.as_str(), || {
            format!("`warm` returned {warmed}")
        })?;
        world.until_open(number, &expected).await?;
        let connections = factory.connections(pool);
        require(connections == number, expected, || {
            format!("`connections` returns {connections}")
        })?;
    }
    world.close(&opened).await
}

async fn make_room_closes_no_busy_connection<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    let max = world.max();
    if max < 2 {
        return Err(not_applicable("the pool has less than two connections"));
    }
    let opened = world.open_fresh().await?;
    let mut connections = world.get_many(&opened.pool, 2).await?;
    if let Some(idle) = connections.pop() {
        world.give_back(idle).await?;
    }
    let closed = step("`make_room`", world.factory.make_room(&opened.pool)).await?;
    let expected = if closed {
        "the idle connection is closed, because `make_room` returned `true`"
    } else {
        "no connection is closed, because `make_room` returned `false`"
    };
    let left = if closed { 1 } else { 2 };
    world.until_open(left, expected).await?;
    for connection in &mut connections {
        world.query(connection).await?;
    }
    world.give_all_back(connections).await?;
    world.close(&opened).await
}
