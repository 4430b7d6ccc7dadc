//! Law 14: a shutdown is bounded, idempotent and ordered.

use std::time::Duration;

use claviger::Revision;
use claviger::lease::OldConnections;
use claviger_tokio_postgres::CallError;
use tokio::time::Instant;

use crate::fixture::{Fixture, ONE, eventually};
use crate::{PgKind, Settings};

pub async fn law_14_a_shutdown_is_ordered_and_final<K: PgKind>() {
    let fixture = Fixture::<K>::new(OldConnections::Drain, Settings::of(4)).await;
    let mut taken = fixture.hold(3).await;
    let mut busy = taken.pop().expect("one of three");
    drop(taken);
    let supervisor = fixture.supervisor.clone();
    let shutdown = tokio::spawn(async move { supervisor.shutdown(Duration::from_secs(10)).await });
    eventually("the pool is closed to callers", || fixture.pool.is_closed()).await;
    let error = fixture.pool.get().await.map(drop).expect_err("shut down");
    assert!(matches!(error, CallError::Closed), "{error:?}");
    eventually("idle connections have closed", || {
        fixture.open_connections("app") == 1
    })
    .await;
    assert_eq!(fixture.provider.released(), [], "a connection is open");
    K::value(&mut busy, ONE).await.expect("it stays open");
    drop(busy);
    let report = shutdown.await.expect("no panic");
    assert!(report.clean, "{report:?}");
    assert_eq!(fixture.provider.released(), [Revision::new("1")]);
    assert_eq!(fixture.provider.close_calls(), 1);
    eventually("no connection is open", || {
        fixture.open_connections("app") == 0
    })
    .await;
    let again = fixture.supervisor.shutdown(Duration::from_secs(10)).await;
    assert_eq!(again, report, "one shutdown, one report");
}

pub async fn law_14_a_shutdown_is_bounded<K: PgKind>() {
    let fixture = Fixture::<K>::new(OldConnections::Drain, Settings::of(2)).await;
    // One connection is never returned, and a verification hangs.
    let taken = fixture.hold(1).await;
    fixture.server.stall().expect("the server stalls");
    fixture.provider.rotate();
    fixture.provider.hint();
    eventually("the hazard: a verification hangs", || {
        fixture.provider.calls().len() == 2
    })
    .await;
    let began = Instant::now();
    let report = fixture.supervisor.shutdown(Duration::from_secs(1)).await;
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "took {:?}",
        began.elapsed()
    );
    assert!(!report.clean && !report.abandoned.is_empty(), "{report:?}");
    fixture.server.resume().expect("the server resumes");
    drop(taken);
}
