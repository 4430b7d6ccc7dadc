//! Checks of `reauthenticate`.

use claviger::pool::PoolFactory;

use super::PoolControls;
use super::world::{Opened, World};
use crate::conformance::runner::{
    CheckResult, Planned, VERIFY_DEADLINE, failed, not_applicable, planned, step,
};

pub(super) fn checks<F: PoolFactory, C: PoolControls<F>>() -> Vec<Planned<World<F, C>>> {
    vec![
        planned(
            "reauthenticate_keeps_connections",
            "PoolFactory::reauthenticate: \"Authenticates the open connections again\"",
            reauthenticate_keeps_connections,
        ),
        planned(
            "reauthenticated_connections_outlast_old_credentials",
            "PoolFactory::reauthenticate: \"Resolves when each of them has done so, or will be \
             used for no further call\"",
            reauthenticated_connections_outlast_old_credentials,
        ),
    ]
}

pub(super) fn require_reauthenticates<F: PoolFactory, C: PoolControls<F>>(
    world: &World<F, C>,
) -> CheckResult {
    if world.factory.settings().reauthenticates {
        return Ok(());
    }
    Err(not_applicable("`PoolSettings::reauthenticates` is `false`"))
}

/// A pool whose connections have authenticated again, and the credentials from before.
struct Reauthenticated<F: PoolFactory> {
    opened: Opened<F>,
    /// Another connection is idle, if the pool has room for it.
    busy: F::Connection,
    old: F::Secret,
}

impl<F: PoolFactory> Reauthenticated<F> {
    async fn new<C: PoolControls<F>>(world: &World<F, C>) -> CheckResult<Self> {
        require_reauthenticates(world)?;
        let opened = world.open_fresh().await?;
        let (factory, old) = (&world.factory, world.credentials());
        let number = world.max().min(2);
        let mut connections = world.get_many(&opened.pool, number).await?;
        let Some(busy) = connections.pop() else {
            return Err(failed("`max_connections` is at least 1", "it is 0"));
        };
        world.give_all_back(connections).await?;
        world.change_password().await?;
        let new = world.credentials();
        if !factory.update_in_place(&opened.pool, &old, &new) {
            let expected = "`update_in_place` returns `true` if `PoolSettings::reauthenticates` is";
            return Err(failed(expected, "`false`"));
        }
        let reauthenticated = factory.reauthenticate(&opened.pool, VERIFY_DEADLINE);
        step("`reauthenticate`", reauthenticated).await?;
        Ok(Self { opened, busy, old })
    }

    /// Queries on the connection that was busy, and on one that was not.
    async fn finish<C: PoolControls<F>>(mut self, world: &World<F, C>) -> CheckResult {
        world.query(&mut self.busy).await?;
        if world.max() > 1 {
            let mut other = world.get(&self.opened.pool).await?;
            world.query(&mut other).await?;
            world.give_back(other).await?;
        }
        world.give_back(self.busy).await?;
        world.close(&self.opened).await
    }
}

async fn reauthenticate_keeps_connections<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    Reauthenticated::new(&world).await?.finish(&world).await
}

async fn reauthenticated_connections_outlast_old_credentials<F, C>(
    world: World<F, C>,
) -> CheckResult
where
    F: PoolFactory,
    C: PoolControls<F>,
{
    let reauthenticated = Reauthenticated::new(&world).await?;
    let ended = world.controls.kill_connections_of(&reauthenticated.old);
    let is_ended = ended.await?;
    reauthenticated.finish(&world).await?;
    if is_ended {
        return Ok(());
    }
    Err(not_applicable("the controls have no `kill_connections_of`"))
}
