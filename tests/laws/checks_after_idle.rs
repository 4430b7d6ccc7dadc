//! A pool that checks only connections that were idle for long.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use tokio::time::sleep;

use super::fixtures::{Callers, Queried, eventually};
use super::{Fixture, Handle, Pools};

const CONNECTIONS: u32 = 6;
const CALLERS: usize = 8;

/// Registers a pool that checks connections after `idle`, with all its connections open.
async fn pool(fixture: &Fixture, idle: Duration) -> Handle<Pools> {
    let provider = fixture.add_provider().await;
    let options = fixture
        .pool_options(CONNECTIONS)
        .min_connections(CONNECTIONS);
    let pools = fixture.pools_with(options).with_check_after_idle(idle);
    let added = fixture
        .supervisor
        .add_pool("orders", &provider, pools)
        .await;
    let db = added.expect("verified");
    eventually("all connections are idle", || {
        db.current().num_idle() == CONNECTIONS as usize
    })
    .await;
    db
}

async fn terminate_all(fixture: &Fixture) {
    let terminated = fixture.terminate_connections().await;
    assert_eq!(
        terminated, CONNECTIONS as usize,
        "the hazard: idle connections end"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_were_idle_for_long_are_checked() {
    let fixture = Fixture::new().await;
    let db = pool(&fixture, Duration::from_millis(100)).await;
    terminate_all(&fixture).await;
    sleep(Duration::from_millis(150)).await;
    for _ in 0..20 {
        Pools::execute(&db, "SELECT 1")
            .await
            .expect("an open connection");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_statement_fails_and_then_all_connections_are_checked() {
    let fixture = Fixture::new().await;
    let db = pool(&fixture, Duration::from_secs(600)).await;
    terminate_all(&fixture).await;
    let first = Pools::execute(&db, "SELECT 1").await;
    let error = first.expect_err("the hazard: it was not checked");
    assert!(Pools::is_interruption(&error), "{error}");
    for _ in 0..20 {
        Pools::execute(&db, "SELECT 1")
            .await
            .expect("an open connection");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_each_terminated_connection_fails_one_statement_at_most() {
    let fixture = Fixture::new().await;
    let db = pool(&fixture, Duration::from_secs(600)).await;
    let callers = Callers::start(&db, CALLERS);
    callers.wait_for_more(200).await;
    let mut terminated = 0;
    for _ in 0..5 {
        terminated += fixture.terminate_connections().await;
        callers.wait_for_more(200).await;
    }
    let tally = callers.stop().await;
    assert_eq!(tally.failed, Vec::<String>::new());
    assert!(
        tally.interrupted > 0,
        "the hazard: statements are interrupted"
    );
    let most = u64::try_from(terminated).expect("a small number");
    assert!(tally.interrupted <= most, "{} of {most}", tally.interrupted);
}
