//! Law 14: shutdown is bounded, idempotent and ordered. A pool exists until it is removed or shut
//! down. Removing a provider in use names its pools.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use super::Fixture;
use super::fixtures::{Callers, eventually, query, sqlx};
use claviger::Revision;
use claviger::error::ErrorKind;
use claviger::pool::HandoverPolicy;
use tokio::time::Instant;

#[tokio::test(flavor = "multi_thread")]
async fn law_14_shutdown_is_bounded_when_everything_hangs() {
    let fixture = Fixture::new().await;
    let db = fixture.pool(2).await;
    // A fetch and a verification that never end, and a connection that is never returned.
    let transaction = db.begin().await.expect("a transaction");
    fixture
        .on_the_server(|server| server.stall().expect("the server stalls"))
        .await;
    fixture.provider.rotate();
    fixture.provider.hint();
    eventually("a verification hangs", || {
        fixture.provider.calls().len() == 2
    })
    .await;
    fixture.provider.stall();
    let rotation = tokio::spawn({
        let supervisor = fixture.supervisor.clone();
        async move { supervisor.rotate_now("login").await }
    });
    eventually("a fetch hangs", || fixture.provider.calls().len() == 3).await;
    let began = Instant::now();
    let both = tokio::join!(
        fixture.supervisor.shutdown(Duration::from_secs(1)),
        fixture.supervisor.shutdown(Duration::from_secs(60))
    );
    // Much less than the sixty seconds of the second call.
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "took {:?}",
        began.elapsed()
    );
    assert_eq!(both.0, both.1, "one shutdown, one report");
    assert!(
        !both.0.clean && !both.0.unfinished.is_empty() && !both.0.abandoned.is_empty(),
        "{:?}",
        both.0
    );
    assert!(rotation.await.expect("no panic").is_err());
    fixture
        .on_the_server(|server| server.resume().expect("the server resumes"))
        .await;
    drop(transaction);
}

#[tokio::test(flavor = "multi_thread")]
async fn law_14_shutdown_is_ordered_and_final() {
    let fixture = Fixture::new().await;
    let credentials = fixture.add_provider().await;
    let db = fixture
        .add_pool("orders", &credentials, fixture.pools(4))
        .await;
    let transaction = db.begin().await.expect("a transaction");
    let shutdown = tokio::spawn({
        let supervisor = fixture.supervisor.clone();
        async move { supervisor.shutdown(Duration::from_secs(10)).await }
    });
    eventually("the pool is closed to callers", || db.is_closed()).await;
    assert!(matches!(query(&db).await, Err(sqlx::Error::PoolClosed)));
    assert_eq!(
        fixture.provider.released(),
        [],
        "no release before the last connection is returned"
    );
    transaction
        .commit()
        .await
        .expect("an open transaction commits");
    let report = shutdown.await.expect("no panic");
    assert!(report.clean, "{report:?}");
    assert_eq!(
        (fixture.provider.released(), fixture.provider.close_calls()),
        (vec![Revision::new("1")], 1)
    );
    let connections = fixture
        .on_the_server(|server| server.connection_count("app").expect("the query succeeds"))
        .await;
    assert_eq!(connections, 0);
    // Calls after shutdown.
    let supervisor = &fixture.supervisor;
    let errors = [
        supervisor
            .add_provider("x", fixture.provider.clone())
            .await
            .err(),
        supervisor
            .add_pool("x", &credentials, fixture.pools(1))
            .await
            .err(),
        supervisor.rotate_now("login").await.err(),
        supervisor.remove_pool("orders").await.err(),
    ];
    assert_eq!(
        errors.map(|error| error.map(|error| error.kind())),
        [Some(ErrorKind::ShutDown); 4]
    );
    assert!(fixture.supervisor.events().next().await.is_none());
    assert!(!fixture.supervisor.readiness().ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn law_14_dropping_handles_and_supervisors_stops_nothing() {
    let fixture = Fixture::new().await;
    let credentials = fixture.add_provider().await;
    // As sea-orm and session stores do: only the plain pool is kept.
    let plain = fixture
        .add_pool(
            "orders",
            &credentials,
            fixture
                .pools(2)
                .with_handover_policy(HandoverPolicy::AlwaysInPlace),
        )
        .await
        .current();
    drop(credentials);
    let other = fixture.supervisor.clone();
    drop(other);
    fixture.rotate_announced().await;
    eventually("the credentials were rotated", || {
        fixture.supervisor.status().pools[0].generation == 2
    })
    .await;
    fixture.terminate_connections().await;
    let mut result = sqlx::query("SELECT 1").execute(&plain).await;
    while matches!(result, Err(sqlx::Error::Io(_))) {
        result = sqlx::query("SELECT 1").execute(&plain).await;
    }
    result.expect("the plain pool logs in with the new password");
}

#[tokio::test(flavor = "multi_thread")]
async fn law_14_shutdown_accepts_the_longest_duration() {
    let fixture = Fixture::new().await;
    let _db = fixture.pool(2).await;
    assert!(fixture.supervisor.shutdown(Duration::MAX).await.clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn law_14_pools_and_providers_can_be_removed() {
    let fixture = Fixture::new().await;
    let credentials = fixture.add_provider().await;
    let first = fixture
        .add_pool("first", &credentials, fixture.pools(2))
        .await;
    let second = fixture
        .add_pool("second", &credentials, fixture.pools(2))
        .await;
    let error = fixture
        .supervisor
        .remove_provider("login")
        .await
        .expect_err("the provider has pools");
    assert_eq!(error.kind(), ErrorKind::InUse);
    assert!(
        error.to_string().contains("first") && error.to_string().contains("second"),
        "{error}"
    );
    let callers = Callers::start(&second, 4);
    callers.wait_for_more(50).await;
    fixture
        .supervisor
        .remove_pool("first")
        .await
        .expect("the pool is removed");
    assert!(first.is_closed());
    assert!(matches!(query(&first).await, Err(sqlx::Error::PoolClosed)));
    assert_eq!(
        fixture
            .supervisor
            .remove_pool("first")
            .await
            .expect_err("the database is gone")
            .kind(),
        ErrorKind::NotRegistered
    );
    callers.wait_for_more(50).await;
    assert_eq!(callers.stop().await.failed, Vec::<String>::new());
    assert_eq!(
        fixture.provider.released(),
        [],
        "the second pool uses the lease"
    );
    fixture
        .supervisor
        .remove_pool("second")
        .await
        .expect("the pool is removed");
    fixture
        .supervisor
        .remove_provider("login")
        .await
        .expect("the provider is removed");
    assert_eq!(
        (fixture.provider.released(), fixture.provider.close_calls()),
        (vec![Revision::new("1")], 1)
    );
    // The names are free again.
    let credentials = fixture.add_provider().await;
    let again = fixture
        .add_pool("first", &credentials, fixture.pools(2))
        .await;
    query(&again).await.expect("the query succeeds");
}
