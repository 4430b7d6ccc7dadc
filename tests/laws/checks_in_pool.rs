//! A pool that itself checks the connections that it hands out to users of `Handle::current`.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use super::fixtures::{eventually, sqlx};
use super::{Fixture, Handle, Pools};

const CONNECTIONS: u32 = 4;

/// Registers a pool with all its connections open.
async fn pool(fixture: &Fixture, configure: impl FnOnce(Pools) -> Pools) -> Handle<Pools> {
    let options = fixture
        .pool_options(CONNECTIONS)
        .min_connections(CONNECTIONS);
    let db = fixture
        .pool_from(configure(fixture.pools_with(options)))
        .await;
    until_idle(&db).await;
    db
}

async fn until_idle(db: &Handle<Pools>) {
    eventually("all connections are idle", || {
        db.current().num_idle() == CONNECTIONS as usize
    })
    .await;
}

/// Terminates all connections, and sends as many queries through the pool itself. Returns how many
/// of them fail.
async fn failed_after_termination(fixture: &Fixture, db: &Handle<Pools>) -> usize {
    until_idle(db).await;
    let terminated = fixture.terminate_connections().await;
    assert_eq!(
        terminated, CONNECTIONS as usize,
        "the hazard: idle connections end"
    );
    sleep(Duration::from_millis(150)).await;
    let pool = db.current();
    // All at once, so that each uses a connection of its own.
    let queries = (0..CONNECTIONS).map(|_| async {
        let mut connection = pool.acquire().await?;
        let result = sqlx::query("SELECT 1").execute(&mut *connection).await;
        result.map(|_| connection)
    });
    let results: Vec<Result<_, sqlx::Error>> = futures_util::future::join_all(queries).await;
    results.iter().filter(|result| result.is_err()).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_checks_in_the_pool_its_users_get_terminated_connections() {
    let fixture = Fixture::new().await;
    let db = pool(&fixture, |pools| pools).await;
    assert_eq!(
        failed_after_termination(&fixture, &db).await,
        CONNECTIONS as usize
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn with_checks_in_the_pool_its_users_get_open_connections() {
    let fixture = Fixture::new().await;
    let db = pool(&fixture, Pools::with_checks_in_pool).await;
    for _ in 0..3 {
        assert_eq!(failed_after_termination(&fixture, &db).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_in_the_pool_are_made_after_idle_too_and_call_the_hook() {
    let fixture = Fixture::new().await;
    let calls = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&calls);
    let db = pool(&fixture, |pools| {
        pools
            .with_checks_in_pool()
            .with_check_after_idle(Duration::from_millis(100))
            .with_before_acquire(move |_, _| {
                counted.fetch_add(1, Ordering::AcqRel);
                Box::pin(std::future::ready(Ok(true)))
            })
    })
    .await;
    assert_eq!(failed_after_termination(&fixture, &db).await, 0);
    assert_eq!(
        calls.load(Ordering::Acquire),
        0,
        "no hook on a terminated connection"
    );
    until_idle(&db).await;
    drop(db.current().acquire().await.expect("a connection"));
    assert_eq!(calls.load(Ordering::Acquire), 1);
}
