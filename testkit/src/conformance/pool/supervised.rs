//! Checks with a supervisor: rejections, outages, cancelled calls and shutdown.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::time::Duration;

use claviger::error::{ProviderError, ProviderErrorKind};
use claviger::lease::OldConnections;
use claviger::pool::{CheckPolicy, PoolFactory};
use claviger::provider::{FetchRequest, Fetched};
use claviger::supervisor::ProviderRef;
use claviger::{Handle, Lease, Provider, Supervisor};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::PoolControls;
use super::shared_factory::SharedFactory;
use super::world::World;
use crate::conformance::runner::{
    CheckResult, ControlError, Planned, STEP, eventually, failed, not_applicable, planned, require,
    step,
};
use crate::conformance::tools::{drop_after_polls, show};

pub(super) fn checks<F: PoolFactory, C: PoolControls<F>>() -> Vec<Planned<World<F, C>>> {
    vec![
        planned(
            "a_changed_password_costs_one_fetch",
            "law 5: \"A rejection causes one fetch, however many callers\"",
            a_changed_password_costs_one_fetch,
        ),
        planned(
            "failed_logins_are_bounded",
            "law 11: \"All rejected revisions of one database user cost at most \
             `max_connections` + 3 failed logins per pool and window\"",
            failed_logins_are_bounded,
        ),
        planned(
            "killed_connections_are_not_handed_out",
            "CheckPolicy: \"Condition for a check of a connection before a handle returns it\"",
            killed_connections_are_not_handed_out,
        ),
        planned(
            "an_outage_causes_no_fetch",
            "law 6: \"only a rejection causes a fetch. A network error … does not\"",
            an_outage_causes_no_fetch,
        ),
        planned(
            "cancelled_calls_leave_the_pool_at_full_size",
            "law 15: \"A call that is cancelled at any await point costs at most its own \
             connection\"",
            cancelled_calls_leave_the_pool_at_full_size,
        ),
        planned(
            "shutdown_closes_every_connection",
            "law 14: \"A shutdown is bounded, idempotent and ordered\"",
            shutdown_closes_every_connection,
        ),
    ]
}

/// Bound of a shutdown.
const SHUTDOWN: Duration = Duration::from_secs(3);

/// Number of concurrent callers for each connection of the pool.
const CALLERS: u32 = 20;

/// Provides the credentials of the controls.
pub(super) struct WorldProvider<F, C> {
    world: World<F, C>,
    old_connections: OldConnections,
}

impl<F, C> std::fmt::Debug for WorldProvider<F, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorldProvider").finish_non_exhaustive()
    }
}

impl<F: PoolFactory, C: PoolControls<F>> Provider for WorldProvider<F, C> {
    type Secret = F::Secret;

    async fn fetch(&self, _: FetchRequest<F::Secret>) -> Result<Fetched<F::Secret>, ProviderError> {
        let lease = self.world.lease().await;
        Ok(lease.with_old_connections(self.old_connections).into())
    }

    /// Ends connections that have not authenticated again, as a backend that drops a user does.
    async fn release(&self, lease: Lease<F::Secret>) -> Result<(), ProviderError> {
        if self.old_connections == OldConnections::Reauthenticate {
            let ended = self.world.controls.kill_connections_of(lease.secret());
            let failed = |error: ControlError| {
                ProviderError::new(ProviderErrorKind::Other, format!("a control: {error}"))
            };
            ended.await.map_err(failed)?;
        }
        Ok(())
    }
}

/// The subject under a supervisor.
pub(super) struct Supervised<F: PoolFactory> {
    pub(super) supervisor: Supervisor,
    pub(super) pool: Handle<SharedFactory<F>>,
    _provider: ProviderRef<F::Secret>,
}

pub(super) const PROVIDER: &str = "conformance";

/// Resets the database, runs `work` with a supervised pool, and shuts the supervisor down.
pub(super) async fn supervised<F, C, W>(
    world: &World<F, C>,
    old_connections: OldConnections,
    work: impl FnOnce(Supervised<F>) -> W,
) -> CheckResult
where
    F: PoolFactory,
    C: PoolControls<F>,
    W: Future<Output = CheckResult>,
{
    world.reset().await?;
    let builder = Supervisor::builder().with_start_deadline(STEP);
    let started = builder.start();
    let supervisor = started.map_err(|error| failed("a supervisor starts", show(&error)))?;
    let provider = WorldProvider {
        world: world.clone(),
        old_connections,
    };
    let worked = async {
        let added = supervisor.add_provider(PROVIDER, provider).await;
        let provider = added.map_err(|error| failed("a lease", show(&error)))?;
        let factory = SharedFactory(world.factory.clone());
        let added = supervisor.add_pool("pool", &provider, factory).await;
        let pool = added.map_err(|error| failed("the pool starts", show(&error)))?;
        work(Supervised {
            supervisor: supervisor.clone(),
            pool,
            _provider: provider,
        })
        .await
    }
    .await;
    supervisor.shutdown(SHUTDOWN).await;
    worked
}

impl<F: PoolFactory> Supervised<F> {
    pub(super) async fn get(&self) -> CheckResult<F::Connection> {
        let got = step("`Handle::get`", self.pool.get()).await?;
        got.map_err(|error| failed("`Handle::get` returns a connection", show(&error)))
    }
}

/// Changes the password, and queries by many callers at once.
async fn storm<F: PoolFactory, C: PoolControls<F>>(
    world: &World<F, C>,
    supervised: &Supervised<F>,
) -> CheckResult {
    let password_changed = world.change_password();
    password_changed.await?;
    let mut callers = JoinSet::new();
    for _ in 0..world.max() * CALLERS {
        let (world, pool) = (world.clone(), supervised.pool.clone());
        callers.spawn(async move {
            let got = pool.get().await;
            let mut connection = got.map_err(|error| {
                failed(
                    "every caller gets a connection after the change",
                    show(&error),
                )
            })?;
            world.query(&mut connection).await?;
            world.give_back(connection).await
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended.map_err(|error| failed("no caller panics", error))??;
    }
    Ok(())
}

async fn a_changed_password_costs_one_fetch<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    supervised(&world, OldConnections::Keep, async |supervised| {
        storm(&world, &supervised).await?;
        eventually(
            "the new credentials are published as generation 2",
            || async {
                let generation = supervised.pool.generation();
                Ok((generation != 2).then(|| format!("generation {generation} is current")))
            },
        )
        .await?;
        let fetches = world.fetches.load(Ordering::Acquire);
        let expected = "one fetch at the start, and one for the rejection";
        require(fetches == 2, expected, || format!("{fetches} fetches"))
    })
    .await
}

async fn failed_logins_are_bounded<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    if world.controls.rejected_logins().await?.is_none() {
        return Err(not_applicable("the controls have no `rejected_logins`"));
    }
    supervised(&world, OldConnections::Keep, async |supervised| {
        let before = world.controls.rejected_logins().await?.unwrap_or(0);
        storm(&world, &supervised).await?;
        let failed_logins = async || -> CheckResult<u32> {
            let after = world.controls.rejected_logins().await?.unwrap_or(0);
            Ok(after.saturating_sub(before))
        };
        // A rejected login. It may outlast the callers, if open connections serve them all.
        eventually("the database rejects at least one login", async || {
            let rejected = failed_logins().await? > 0;
            Ok((!rejected).then(|| "it rejected none".to_owned()))
        })
        .await?;
        let failed_logins = failed_logins().await?;
        let limit = world.max() + 3;
        let expected = format!("at most {limit} failed logins");
        require(failed_logins <= limit, expected, || {
            format!(
                "{failed_logins} failed logins of {} callers",
                world.max() * CALLERS
            )
        })
    })
    .await
}

async fn killed_connections_are_not_handed_out<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    if world.factory.settings().checks != CheckPolicy::Always {
        return Err(not_applicable("`PoolSettings::checks` is not `Always`"));
    }
    supervised(&world, OldConnections::Keep, async |supervised| {
        for _ in 0..3 {
            let mut connections = Vec::new();
            for _ in 0..world.max() {
                connections.push(supervised.get().await?);
            }
            world.give_all_back(connections).await?;
            world.reset().await?;
            let mut connections = Vec::new();
            for _ in 0..world.max() {
                let mut connection = supervised.get().await?;
                world.query(&mut connection).await?;
                connections.push(connection);
            }
            world.give_all_back(connections).await?;
        }
        Ok(())
    })
    .await
}

async fn an_outage_causes_no_fetch<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    supervised(&world, OldConnections::Keep, async |supervised| {
        if !world.controls.set_running(false).await? {
            return Err(not_applicable("the controls have no `set_running`"));
        }
        let fetches = world.fetches.load(Ordering::Acquire);
        let during = timeout(Duration::from_secs(1), supervised.pool.get()).await;
        let worked = match during {
            Ok(Ok(mut connection)) => world.controls.query(&mut connection).await.is_ok(),
            _ => false,
        };
        world.controls.set_running(true).await?;
        require(
            !worked,
            "no query works while the database is stopped",
            || "one did".to_owned(),
        )?;
        eventually("a query works when the database runs again", || async {
            let got = timeout(STEP, supervised.pool.get()).await;
            Ok(match got {
                Ok(Ok(mut connection)) => {
                    let queried = world.controls.query(&mut connection).await;
                    queried.err().map(|error| error.to_string())
                }
                Ok(Err(error)) => Some(show(&error)),
                Err(_) => Some("`Handle::get` was pending".to_owned()),
            })
        })
        .await?;
        let after = world.fetches.load(Ordering::Acquire);
        require(after == fetches, "no fetch because of the outage", || {
            format!("{} fetches", after - fetches)
        })
    })
    .await
}

async fn cancelled_calls_leave_the_pool_at_full_size<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    supervised(&world, OldConnections::Keep, async |supervised| {
        let max = world.max();
        for polls in 1..=12 {
            let mut callers = JoinSet::new();
            for _ in 0..max * 3 {
                let pool = supervised.pool.clone();
                callers.spawn(async move { drop_after_polls(polls, pool.get()).await });
            }
            while callers.join_next().await.is_some() {}
        }
        // A login continues for up to 5 s without its caller.
        let mut connections = Vec::new();
        for number in 1..=max {
            let got = timeout(STEP, supervised.pool.get()).await;
            let expected = format!("{max} connections are available after cancelled calls");
            match got {
                Ok(Ok(connection)) => connections.push(connection),
                Ok(Err(error)) => {
                    return Err(failed(
                        expected,
                        format!("number {number}: {}", show(&error)),
                    ));
                }
                Err(_) => {
                    let actual = format!("`Handle::get` number {number} was pending for 10 s");
                    return Err(failed(expected, actual));
                }
            }
        }
        for connection in &mut connections {
            world.query(connection).await?;
        }
        let expected = format!("{max} connections are open after cancelled calls");
        world.until_open(max, &expected).await?;
        world.give_all_back(connections).await
    })
    .await
}

async fn shutdown_closes_every_connection<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    supervised(&world, OldConnections::Drain, async |supervised| {
        let mut connections = Vec::new();
        for _ in 0..world.max() {
            connections.push(supervised.get().await?);
        }
        let busy = connections.pop();
        world.give_all_back(connections).await?;
        let supervisor = supervised.supervisor.clone();
        let shutdown = tokio::spawn(async move { supervisor.shutdown(SHUTDOWN).await });
        let expected = "idle connections are closed by the shutdown";
        world.until_open(1, expected).await?;
        let got = step("`Handle::get`", supervised.pool.get()).await?;
        let expected = "`Handle::get` returns the error of a closed pool after a shutdown";
        match got {
            Ok(_) => return Err(failed(expected, "a connection")),
            Err(error) => {
                let is_closed = world.factory.is_closed(&error);
                require(is_closed, expected, || show(&error))?;
            }
        }
        if let Some(mut busy) = busy {
            world.query(&mut busy).await?;
            world.give_back(busy).await?;
        }
        world
            .until_open(0, "no connection is open after a shutdown")
            .await?;
        let reported = step("a shutdown whose connections are returned", shutdown).await?;
        let report = reported.map_err(|error| failed("the shutdown ends", error))?;
        let is_clean = report.abandoned.is_empty();
        require(is_clean, "the shutdown leaves nothing behind", || {
            format!("{:?}", report.abandoned)
        })
    })
    .await
}
