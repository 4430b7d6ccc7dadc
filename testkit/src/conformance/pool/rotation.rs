//! Rotations under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use claviger::lease::OldConnections;
use claviger::pool::PoolFactory;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::PoolControls;
use super::reauthentication::require_reauthenticates;
use super::supervised::{PROVIDER, Supervised, supervised};
use super::world::World;
use crate::conformance::runner::{
    CheckResult, Planned, STEP, eventually, failed, planned, require, step,
};
use crate::conformance::tools::show;

pub(super) fn checks<F: PoolFactory, C: PoolControls<F>>() -> Vec<Planned<World<F, C>>> {
    vec![
        planned(
            "no_call_fails_when_the_pool_is_replaced",
            "law 1: \"No query that ends before its generation's drain deadline fails because of \
             a rotation\"; law 10: connections stay within the maximum plus the overlap",
            |world| rotate(world, OldConnections::Drain),
        ),
        planned(
            "no_call_fails_when_the_pool_is_updated",
            "law 1: \"No query that ends before its generation's drain deadline fails because of \
             a rotation\"; law 10: connections stay within the maximum plus the overlap",
            |world| rotate(world, OldConnections::Keep),
        ),
        planned(
            "no_call_fails_when_connections_reauthenticate",
            "law 1: \"No query that ends before its generation's drain deadline fails because of \
             a rotation\"; PoolFactory::reauthenticate: \"The old lease is released then\"",
            async |world| {
                require_reauthenticates(&world)?;
                rotate(world, OldConnections::Reauthenticate).await
            },
        ),
    ]
}

const ROTATIONS: u32 = 3;

/// Callers that query until they are stopped.
struct Load {
    stop: Arc<AtomicBool>,
    queries: Arc<AtomicU64>,
    callers: JoinSet<CheckResult>,
}

impl Load {
    fn start<F: PoolFactory, C: PoolControls<F>>(
        world: &World<F, C>,
        supervised: &Supervised<F>,
    ) -> Self {
        let mut load = Self {
            stop: Arc::default(),
            queries: Arc::default(),
            callers: JoinSet::new(),
        };
        for _ in 0..world.max() * 2 {
            let (world, pool) = (world.clone(), supervised.pool.clone());
            let (stop, queries) = (Arc::clone(&load.stop), Arc::clone(&load.queries));
            load.callers.spawn(async move {
                while !stop.load(Ordering::Acquire) {
                    let got = pool.get().await;
                    let mut connection = got.map_err(|error| {
                        failed(
                            "every call during rotations gets a connection",
                            show(&error),
                        )
                    })?;
                    world.query(&mut connection).await?;
                    // As callers do. The pool is a new one by now, or the same.
                    drop(connection);
                    queries.fetch_add(1, Ordering::AcqRel);
                    tokio::task::yield_now().await;
                }
                Ok(())
            });
        }
        load
    }

    /// Waits until each caller can have queried again.
    async fn continues(&self) -> CheckResult {
        let before = self.queries.load(Ordering::Acquire);
        let wanted = before + 2 * self.callers.len() as u64;
        eventually("queries continue", || async {
            let now = self.queries.load(Ordering::Acquire);
            Ok((now < wanted).then(|| format!("{} queries since", now - before)))
        })
        .await
    }

    async fn end(mut self) -> CheckResult {
        self.stop.store(true, Ordering::Release);
        while let Some(ended) = step("a caller", self.callers.join_next()).await? {
            ended.map_err(|error| failed("no caller panics", error))??;
        }
        Ok(())
    }
}

async fn rotate<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
    old_connections: OldConnections,
) -> CheckResult {
    supervised(&world, old_connections, async |supervised| {
        let mut load = Load::start(&world, &supervised);
        let rotated = rotate_under_load(&world, &supervised, &load).await;
        if rotated.is_err() {
            // A failed call shows the cause. The error of the rotation may only follow from it.
            while let Some(ended) = load.callers.try_join_next() {
                ended.map_err(|error| failed("no caller panics", error))??;
            }
        }
        load.end().await?;
        rotated
    })
    .await
}

async fn rotate_under_load<F: PoolFactory, C: PoolControls<F>>(
    world: &World<F, C>,
    supervised: &Supervised<F>,
    load: &Load,
) -> CheckResult {
    let limit = world.max() + world.factory.settings().overlap;
    for _ in 0..ROTATIONS {
        load.continues().await?;
        let before = supervised.pool.generation();
        world.change_password().await?;
        let rotation = supervised.supervisor.rotate_now(PROVIDER);
        let rotated = timeout(STEP, rotation).await.map_err(|_| {
            let status = supervised.pool.status();
            let actual = format!("it was pending after 10 s: {status:?}");
            failed("a rotation completes", actual)
        })?;
        rotated.map_err(|error| failed("the rotation succeeds", show(&error)))?;
        let open = world.controls.open_connections().await?;
        let expected = format!("at most {limit} connections are open during a rotation");
        require(open <= limit, expected, || format!("{open} are open"))?;
        let after = supervised.pool.generation();
        require(after > before, "a rotation publishes a generation", || {
            format!("generation {after} after {before}")
        })?;
        load.continues().await?;
    }
    Ok(())
}
