//! A query through a handle beside one through a plain pool.

use claviger_stage::Stage;
use sqlx::PgPool;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use claviger_stage::{Figures, median};

const PAIRS: usize = 60;
const QUERIES: u32 = 300;

async fn time(query: &impl AsyncFn()) -> f64 {
    let began = Instant::now();
    for _ in 0..QUERIES {
        query().await;
    }
    began.elapsed().as_secs_f64() / f64::from(QUERIES)
}

/// The allocations of one query, once whatever is cached is cached; counted by thread, so the runtime has one.
fn allocations(runtime: &Runtime, query: &impl AsyncFn()) -> f64 {
    let count = || allocation_counter::measure(|| runtime.block_on(query())).count_total;
    (0..50).map(|_| count()).min().unwrap_or_default() as f64
}

pub(crate) fn measure(figures: &mut Figures, runtime: &Runtime) {
    let (stage, db) = runtime.block_on(async {
        let stage = Stage::new().await;
        let db = stage.pool(10).await;
        (stage, db)
    });
    let plain: PgPool = runtime.block_on(async { stage.plain_pool("password-1", stage.pool_options(10)) });
    let through_the_handle = async || {
        sqlx::query("SELECT 1").execute(&db).await.expect("it answers");
    };
    let raw = async || {
        sqlx::query("SELECT 1").execute(&plain).await.expect("it answers");
    };
    let mut ratios = Vec::new();
    runtime.block_on(async {
        let _ = (time(&through_the_handle).await, time(&raw).await);
        for pair in 0..PAIRS {
            // In turn, so that neither always comes first.
            let (ours, theirs) = if pair % 2 == 0 {
                let ours = time(&through_the_handle).await;
                (ours, time(&raw).await)
            } else {
                let theirs = time(&raw).await;
                (time(&through_the_handle).await, theirs)
            };
            ratios.push(ours / theirs);
        }
    });
    figures.at_most("query through &Handle / raw &PgPool, median of alternating pairs", median(&mut ratios), 1.01);
    let (ours, theirs) = (allocations(runtime, &through_the_handle), allocations(runtime, &raw));
    figures.at_most("allocations of a query through &Handle − raw", ours - theirs, 0.0);
    figures.beside("allocations of a raw query", theirs);
    runtime.block_on(stage.supervisor.shutdown(std::time::Duration::from_secs(5)));
}
