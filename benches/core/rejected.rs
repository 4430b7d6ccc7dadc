//! A thousand callers that are rejected at once.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use claviger::{Handle, PgPools};
use claviger_fixtures::{Fixture, backend_down, eventually};
use sqlx::PgPool;
use tokio::sync::Barrier;

use claviger_fixtures::Figures;

const CALLERS: usize = 1_000;
const OPEN: usize = 3;

/// Returns how many of the callers were served.
async fn count_served<F: Future<Output = bool> + Send>(
    query: impl Fn() -> F + Clone + Send + Sync + 'static,
) -> usize {
    let barrier = Arc::new(Barrier::new(CALLERS));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (query, barrier) = (query.clone(), Arc::clone(&barrier));
            tokio::spawn(async move {
                barrier.wait().await;
                query().await
            })
        })
        .collect();
    let mut served = 0;
    for caller in callers {
        served += usize::from(caller.await.expect("no panic"));
    }
    served
}

async fn query_succeeds(db: Handle<PgPools>) -> bool {
    sqlx::query("SELECT 1").execute(&db).await.is_ok()
}

async fn open_connections(pool: &PgPool) {
    let mut acquired = Vec::new();
    for _ in 0..OPEN {
        acquired.push(pool.acquire().await.expect("a connection"));
    }
    drop(acquired);
    eventually("the connections are idle", || pool.num_idle() == OPEN).await;
}

pub(crate) async fn measure(figures: &mut Figures) {
    // The backend has the new password.
    let fixture = Fixture::new().await;
    let db = fixture.pool(10).await;
    open_connections(&db.current()).await;
    let next = fixture.provider.rotate();
    fixture.set_password(&next).await;
    let handle = db.clone();
    let completed = count_served(move || query_succeeds(handle.clone())).await;
    figures.at_most(
        "1,000 callers rejected at once: fetches",
        fixture.provider.calls().len() as f64 - 1.0,
        1.0,
    );
    figures.at_most(
        "1,000 callers rejected at once: failed logins (10 connections)",
        fixture.rejected_logins() as f64,
        13.0,
    );
    figures.at_least(
        "1,000 callers rejected at once: served",
        completed as f64,
        1_000.0,
    );

    // The backend is down, three connections are open, and `acquire_timeout` is 3 s.
    let fixture = Fixture::new().await;
    let options = fixture
        .pool_options(10)
        .acquire_timeout(Duration::from_secs(3));
    let db = fixture
        .pool_from(PgPools::new(fixture.connect_options(), options.clone()))
        .await;
    let plain = fixture.plain_pool("password-1", options);
    open_connections(&db.current()).await;
    open_connections(&plain).await;
    fixture.set_password("no lease has this one").await;
    fixture.provider.fail_next(1_000, backend_down());
    let handle = db.clone();
    let ours = count_served(move || query_succeeds(handle.clone())).await;
    figures.at_least(
        "backend down, three connections open: served of 1,000",
        ours as f64,
        950.0,
    );
    let failed_logins = fixture.rejected_logins();
    figures.at_most(
        "backend down, three connections open: failed logins",
        failed_logins as f64,
        13.0,
    );
    let pool = plain.clone();
    let theirs = count_served(move || {
        let pool = pool.clone();
        async move { sqlx::query("SELECT 1").execute(&pool).await.is_ok() }
    })
    .await;
    figures.for_comparison("the same with plain sqlx: served of 1,000", theirs as f64);
    figures.for_comparison(
        "the same with plain sqlx: failed logins",
        (fixture.rejected_logins() - failed_logins) as f64,
    );
}
