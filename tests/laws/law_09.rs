//! Law 9: a lease is released once the last generation that uses it has drained, over all pools. An
//! abandoned drain still counts.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use claviger::Revision;
use claviger::events::Event;
use claviger_testkit::ScriptedProvider;

use super::Fixture;
use super::fixtures::{eventually, query, sqlx, until_drained, until_generation};

#[tokio::test(flavor = "multi_thread")]
async fn law_09_a_lease_is_released_when_both_of_its_pools_have_drained() {
    let fixture = Fixture::new().await;
    let credentials = fixture.add_provider().await;
    let reader = fixture
        .add_pool("reader", &credentials, fixture.pools(2))
        .await;
    let writer = fixture
        .add_pool("writer", &credentials, fixture.pools(2))
        .await;
    let transaction = writer.begin().await.expect("a transaction");
    query(&reader).await.expect("the query succeeds");
    fixture.rotate_announced().await;
    eventually("both pools adopt the next lease", || {
        reader.generation() == 2 && writer.generation() == 2
    })
    .await;
    until_drained(&reader).await;
    let draining = writer.status().expect("supervised").draining;
    assert_eq!(
        (draining[0].generation, draining[0].connections),
        (1, 1),
        "the hazard: a connection of the old lease is open"
    );
    assert_eq!(
        fixture.provider.released(),
        [],
        "no release while a connection is open"
    );
    transaction.commit().await.expect("the transaction commits");
    eventually("the old lease is released", || {
        fixture.provider.released() == [Revision::new("1")]
    })
    .await;
    fixture.supervisor.shutdown(Duration::from_secs(5)).await;
    assert_eq!(
        fixture.provider.released(),
        [Revision::new("1"), Revision::new("2")],
        "each lease is released once"
    );
    assert_eq!(fixture.provider.close_calls(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn law_09_a_busy_connection_keeps_its_lease_after_idle_ones_closed() {
    let fixture = Fixture::new().await;
    let db = fixture.pool(4).await;
    let mut transactions = Vec::new();
    for _ in 0..4 {
        transactions.push(db.begin().await.expect("a transaction"));
    }
    let mut busy = transactions.pop().expect("one of four");
    for other in transactions {
        other.commit().await.expect("the transaction commits");
    }
    eventually("the other connections are idle", || {
        db.current().num_idle() == 3
    })
    .await;
    fixture.rotate_announced().await;
    until_generation(&db, 2).await;
    eventually("the idle connections are closed", || {
        db.status()
            .is_some_and(|status| status.draining.iter().all(|old| old.connections == 1))
    })
    .await;
    for _ in 0..100 {
        query(&db).await.expect("the query succeeds");
    }
    let draining = db.status().expect("supervised").draining;
    assert_eq!(
        draining
            .iter()
            .map(|old| (old.generation, old.connections))
            .collect::<Vec<_>>(),
        [(1, 1)]
    );
    assert_eq!(
        fixture.provider.released(),
        [],
        "no release while a connection is open"
    );
    sqlx::query("SELECT 1")
        .execute(&mut *busy)
        .await
        .expect("the connection is open");
    busy.commit().await.expect("the transaction commits");
    eventually("the old lease is released", || {
        fixture.provider.released() == [Revision::new("1")]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_09_an_abandoned_drain_is_reported_and_closes_nothing() {
    let builder = claviger::Supervisor::builder().with_drain_deadline(Duration::from_millis(200));
    let fixture = Fixture::with_builder(builder).await;
    let mut events = fixture.supervisor.events();
    let db = fixture.pool(2).await;
    let mut transaction = db.begin().await.expect("a transaction");
    fixture.rotate_announced().await;
    let abandoned = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            if let Some(Event::DrainAbandoned {
                generation,
                connections,
                ..
            }) = events.next().await
            {
                return (generation, connections);
            }
        }
    })
    .await
    .expect("reported");
    assert_eq!(abandoned, (1, 1));
    let draining = db.status().expect("supervised").draining;
    assert!(draining[0].abandoned, "still counted");
    assert_eq!(fixture.provider.released(), []);
    sqlx::query("SELECT 1")
        .execute(&mut *transaction)
        .await
        .expect("the connection is open");
    transaction.commit().await.expect("the transaction commits");
    eventually("released when its last connection returned", || {
        fixture.provider.released() == [Revision::new("1")]
    })
    .await;
    assert!(db.status().expect("supervised").draining.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn law_09_a_removed_pool_keeps_its_lease_until_its_last_connection() {
    let builder = claviger::Supervisor::builder().with_drain_deadline(Duration::from_millis(200));
    let fixture = Fixture::with_builder(builder).await;
    let db = fixture.pool(2).await;
    let transaction = db.begin().await.expect("a transaction");
    fixture
        .supervisor
        .remove_pool("orders")
        .await
        .expect("the pool is removed");
    let error = fixture
        .supervisor
        .remove_provider("login")
        .await
        .expect_err("a connection is open");
    assert!(error.to_string().contains("orders"), "{error}");
    assert_eq!(fixture.provider.released(), []);
    transaction.commit().await.expect("the transaction commits");
    let mut removed = fixture.supervisor.remove_provider("login").await;
    while removed.is_err() {
        tokio::task::yield_now().await;
        removed = fixture.supervisor.remove_provider("login").await;
    }
    assert_eq!(fixture.provider.released(), [Revision::new("1")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn law_09_a_renewed_lease_moves_the_drain_deadline() {
    use claviger::lease::OldConnections;
    let provider = ScriptedProvider::new()
        .with_old_connections(OldConnections::EndWithLease)
        .with_lifetime(Duration::from_secs(20))
        .with_refresh_after(Duration::from_secs(1));
    let fixture = Fixture::with(provider).await;
    let db = fixture.pool(2).await;
    // The lease is renewed as the wall clock advances. Its first expiry has passed when it is
    // replaced.
    for _ in 0..3 {
        fixture.clock.jump(Duration::from_secs(10));
        let calls = fixture.provider.calls().len();
        eventually("the lease was renewed", || {
            fixture.provider.calls().len() > calls + 1
        })
        .await;
    }
    assert!(
        db.status().expect("supervised").serving,
        "renewals extend the lease"
    );
    let transaction = db.begin().await.expect("a transaction");
    fixture.rotate_announced().await;
    until_generation(&db, 2).await;
    let draining = db.status().expect("supervised").draining;
    assert!(
        draining.len() == 1 && !draining[0].abandoned,
        "its connections have until the later expiry: {draining:?}"
    );
    transaction.commit().await.expect("the transaction commits");
}

#[tokio::test(flavor = "multi_thread")]
async fn law_09_shutdown_releases_leases_despite_an_abandoned_drain() {
    let fixture = Fixture::new().await;
    let db = fixture.pool(2).await;
    let transaction = db.begin().await.expect("a transaction");
    let report = fixture.supervisor.shutdown(Duration::from_secs(1)).await;
    assert!(!report.clean);
    assert_eq!(
        (report.abandoned.len(), report.abandoned[0].connections),
        (1, 1)
    );
    assert_eq!(fixture.provider.released(), [Revision::new("1")]);
    assert_eq!(fixture.provider.close_calls(), 1);
    drop(transaction);
}
