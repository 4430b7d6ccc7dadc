//! needs: postgresql
//!
//! Leases of connections that are taken out of their pool, as documented at `Handle::acquire`.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use claviger::{Revision, Supervisor};
use claviger_fixtures::{Fixture, eventually, query};

#[tokio::test(flavor = "multi_thread")]
async fn a_detached_connection_does_not_keep_its_lease() {
    let fixture = Fixture::new().await;
    let db = fixture.pool(2).await;
    let mut detached = db.acquire().await.expect("a connection").detach();
    fixture.rotate_announced().await;
    eventually("the lease is released", || {
        fixture.provider.released() == [Revision::new("1")]
    })
    .await;
    assert!(
        db.status().expect("supervised").draining.is_empty(),
        "a detached connection does not count"
    );
    sqlx::query("SELECT 1")
        .execute(&mut detached)
        .await
        .expect("the hazard: the connection is open");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaked_connection_keeps_its_lease_until_shutdown() {
    let builder = Supervisor::builder().with_drain_deadline(Duration::from_millis(200));
    let fixture = Fixture::with_builder(builder).await;
    let db = fixture.pool(2).await;
    let leaked = db.acquire().await.expect("a connection").leak();
    fixture.rotate_announced().await;
    eventually("the drain is abandoned", || {
        db.status().is_some_and(|status| {
            status
                .draining
                .first()
                .is_some_and(|drain| drain.abandoned && drain.connections == 1)
        })
    })
    .await;
    drop(leaked);
    query(&db).await.expect("the next generation serves");
    assert_eq!(
        fixture.provider.released(),
        [],
        "a leaked connection counts though it is closed"
    );
    let report = fixture.supervisor.shutdown(Duration::from_secs(2)).await;
    assert_eq!(report.abandoned.len(), 1, "{report:?}");
    assert!(
        fixture.provider.released().contains(&Revision::new("1")),
        "released at shutdown: {:?}",
        fixture.provider.released()
    );
}
