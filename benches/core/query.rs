//! A query through a handle compared with one through a plain pool.

use std::time::Duration;

use claviger_fixtures::{Figures, Fixture};
use sqlx::PgPool;
use tokio::runtime::Runtime;

/// Returns the allocations of one query with warm caches. Allocations are counted by thread, so the
/// runtime must have one.
fn allocations(runtime: &Runtime, query: &impl AsyncFn()) -> f64 {
    let count = || allocation_counter::measure(|| runtime.block_on(query())).count_total;
    (0..50).map(|_| count()).min().unwrap_or_default() as f64
}

pub(crate) fn measure(figures: &mut Figures, runtime: &Runtime) {
    let (fixture, credentials) = runtime.block_on(async {
        let fixture = Fixture::new().await;
        let credentials = fixture.add_provider().await;
        (fixture, credentials)
    });
    runtime.block_on(fixture.compare_with_plain_pool(
        figures,
        "query through &Handle / raw &PgPool",
        &fixture.supervisor,
        &credentials,
    ));
    let idle = Duration::from_secs(60);
    let unchecked = runtime.block_on(fixture.median_ratio(
        &fixture.supervisor,
        &credentials,
        |pools| pools.with_check_after_idle(idle),
    ));
    figures.at_most(
        "query through &Handle, checks after 60 s of idleness / raw &PgPool",
        unchecked,
        0.85,
    );

    let db = runtime.block_on(async {
        fixture
            .add_pool("orders", &credentials, fixture.pools(10))
            .await
    });
    let plain: PgPool =
        runtime.block_on(async { fixture.plain_pool("password-1", fixture.pool_options(10)) });
    let through_the_handle = async || {
        sqlx::query("SELECT 1")
            .execute(&db)
            .await
            .expect("the query succeeds");
    };
    let raw = async || {
        sqlx::query("SELECT 1")
            .execute(&plain)
            .await
            .expect("the query succeeds");
    };
    let (ours, theirs) = (
        allocations(runtime, &through_the_handle),
        allocations(runtime, &raw),
    );
    figures.at_most(
        "allocations of a query through &Handle − raw",
        ours - theirs,
        0.0,
    );
    figures.for_comparison("allocations of a raw query", theirs);
    runtime.block_on(fixture.supervisor.shutdown(Duration::from_secs(5)));
}
