//! Many callers on few connections, and many pools.

use std::time::Duration;

use claviger::Handle;
use claviger_fixtures::{Figures, Fixture};
use claviger_testkit::{Lab, ScriptedPools, ScriptedProvider};
use sqlx::PgExecutor;
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep};

use super::busy::{processor_time, throughput};

const CALLERS: usize = 1_500;
const CONNECTIONS: u32 = 10;
const STATEMENT: &str = "SELECT pg_sleep(0.25)";
const ROUND: Duration = Duration::from_secs(8);

const POOLS: usize = 1_000;

async fn execute_statement(pool: impl PgExecutor<'_>) {
    let outcome = sqlx::query(STATEMENT).execute(pool).await;
    outcome.expect("the query succeeds");
}

/// Measures 1,500 callers with statements of 250 ms on ten connections, and on a plain pool.
pub(crate) async fn measure_callers(figures: &mut Figures) {
    let fixture = Fixture::new().await;
    let options = || {
        let options = fixture.pool_options(CONNECTIONS);
        options.acquire_timeout(Duration::from_secs(120))
    };
    let db = fixture.pool_with(options()).await;
    let plain = fixture.plain_pool("password-1", options());
    let ours = throughput(CALLERS, ROUND, {
        let db = db.clone();
        move || {
            let db = db.clone();
            async move { execute_statement(&db).await }
        }
    });
    let ours = ours.await;
    let theirs = throughput(CALLERS, ROUND, {
        let plain = plain.clone();
        move || {
            let plain = plain.clone();
            async move { execute_statement(&plain).await }
        }
    });
    let ratio = ours / theirs.await;
    figures.at_least(
        "1,500 callers, 10 connections, statements of 250 ms: ours / a plain pool",
        ratio,
        0.97,
    );
}

/// Measures 1,000 pools without connections: memory of the library for each, and processor time at
/// rest. Allocations are counted by thread, so the runtime must have one.
pub(crate) fn measure_pools(figures: &mut Figures, runtime: &Runtime) {
    let lab = runtime.block_on(async { Lab::new() });
    let provider = runtime.block_on(async {
        let added = lab
            .supervisor
            .add_provider("login", ScriptedProvider::new());
        added.await.expect("a lease")
    });
    let mut handles: Vec<Handle<ScriptedPools>> = Vec::with_capacity(POOLS);
    let allocated = allocation_counter::measure(|| {
        runtime.block_on(async {
            for number in 0..POOLS {
                let name = format!("pool-{number}");
                let pools = ScriptedPools::new(CONNECTIONS);
                let added = lab.supervisor.add_pool(&name, &provider, pools);
                handles.push(added.await.expect("verified"));
            }
        });
    });
    figures.at_most(
        "1,000 pools: KB of the library for each",
        allocated.bytes_current as f64 / 1_024.0 / POOLS as f64,
        16.0,
    );
    let share = runtime.block_on(async {
        sleep(Duration::from_secs(3)).await;
        let (began, before) = (Instant::now(), processor_time());
        sleep(Duration::from_secs(15)).await;
        (processor_time() - before) / began.elapsed().as_secs_f64()
    });
    figures.at_most("1,000 pools at rest: share of a core", share, 0.005);
    runtime.block_on(lab.supervisor.shutdown(Duration::from_secs(5)));
}
