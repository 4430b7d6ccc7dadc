//! Law 1: no query that ends before its generation's drain deadline fails because of a rotation.

use std::time::Duration;

use claviger::lease::OldConnections;
use claviger_tokio_postgres::CallError;

use crate::callers::Callers;
use crate::fixture::{Fixture, ONE, eventually};
use crate::{PgKind, Settings};

const ROTATIONS: u64 = 4;

/// Rotates under 16 callers, with a connection in use across each rotation.
async fn rotate_under_load<K: PgKind>(fixture: &Fixture<K>) {
    let callers = Callers::start::<K>(&fixture.pool, 16);
    callers.wait_for_more(200).await;
    for _ in 0..ROTATIONS {
        let mut busy = fixture.hold(1).await;
        fixture.rotate().await;
        callers.wait_for_more(200).await;
        let queried = K::value(&mut busy[0], ONE).await;
        queried.expect("a connection in use survives the rotation");
    }
    assert_eq!(callers.stop().await, Vec::<String>::new());
    assert_eq!(fixture.pool.generation(), 1 + ROTATIONS);
}

pub async fn law_01_a_replacement_loses_no_query<K: PgKind>() {
    let fixture = Fixture::<K>::new(OldConnections::Drain, Settings::of(4)).await;
    rotate_under_load(&fixture).await;
    let status = fixture.pool.status().expect("supervised");
    assert!(
        status.moved > 0,
        "the hazard: callers waited in the queue of a superseded generation"
    );
    fixture.until_drained().await;
}

pub async fn law_01_an_update_in_place_loses_no_query<K: PgKind>() {
    let fixture = Fixture::<K>::new(OldConnections::Keep, Settings::of(4)).await;
    let log = fixture.server.log().from_now().expect("a log");
    rotate_under_load(&fixture).await;
    let logins = log.authenticated_logins_of("app").expect("a log");
    // Each rotation verifies with a login of its own.
    assert!(logins as u64 >= ROTATIONS, "the hazard: {logins} logins");
    fixture.terminate_connections();
    // The pool detects by itself that its connections are closed.
    eventually("closed connections are replaced", || {
        fixture.open_connections("app") == 0
    })
    .await;
    let mut connections = fixture.hold(4).await;
    for connection in &mut connections {
        let queried = K::value(connection, ONE).await;
        queried.expect("a terminated connection is not handed out");
    }
}

pub async fn law_01_closed_is_returned_only_after_shutdown<K: PgKind>() {
    let fixture = Fixture::<K>::new(OldConnections::Drain, Settings::of(2)).await;
    let taken = fixture.hold(2).await;
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let pool = fixture.pool.clone();
            let mut getting = Box::pin(async move { pool.get().await.map(drop) });
            // The first poll puts the call into the queue.
            let polled = futures_util::FutureExt::now_or_never(&mut getting);
            assert!(polled.is_none(), "the hazard: the pool has no connection");
            tokio::spawn(getting)
        })
        .collect();
    fixture.rotate().await;
    drop(taken);
    for call in waiting {
        call.await.expect("no panic").expect("a connection");
    }
    let status = fixture.pool.status().expect("supervised");
    assert!(
        status.moved > 0,
        "the hazard: callers waited in the replaced pool"
    );
    let taken = fixture.hold(2).await;
    let pool = fixture.pool.clone();
    let waiting = tokio::spawn(async move { pool.get().await.map(drop) });
    let supervisor = fixture.supervisor.clone();
    let shutdown = tokio::spawn(async move { supervisor.shutdown(Duration::from_secs(5)).await });
    let error = waiting.await.expect("no panic").expect_err("shut down");
    assert!(matches!(error, CallError::Closed), "{error:?}");
    drop(taken);
    assert!(shutdown.await.expect("no panic").clean);
    let error = fixture.pool.get().await.map(drop).expect_err("shut down");
    assert!(matches!(error, CallError::Closed), "{error:?}");
}
