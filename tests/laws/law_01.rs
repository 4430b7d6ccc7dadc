//! Law 1: no query that ends before its generation's drain deadline fails because of a rotation.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use claviger::Handle;
use claviger::events::Event;
use claviger::lease::OldConnections;
use claviger_testkit::ScriptedProvider;

use super::fixtures::{Callers, eventually, query, short_lived, sqlx, until_drained};
use super::{Fixture, Pools};

/// Rotates `times` times under 16 callers, with a transaction open across each rotation.
async fn rotate_under_load(fixture: &Fixture, db: &Handle<Pools>, times: u32) {
    let callers = Callers::start(db, 16);
    callers.wait_for_more(200).await;
    for _ in 0..times {
        let before = db.generation();
        let mut transaction = db.begin().await.expect("a transaction begins");
        sqlx::query("INSERT INTO orders (note) VALUES ('open across a rotation')")
            .execute(&mut *transaction)
            .await
            .expect("the insert succeeds");
        fixture.rotate_announced().await;
        eventually("the next generation is current", || {
            db.generation() > before
        })
        .await;
        callers.wait_for_more(100).await;
        transaction
            .commit()
            .await
            .expect("a transaction that was open when its generation ended commits");
    }
    let tally = callers.stop().await;
    assert_eq!(tally.failed, Vec::<String>::new());
    assert_eq!(tally.interrupted, 0);
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM orders")
        .fetch_one(db)
        .await
        .expect("the query succeeds");
    assert_eq!(rows, i64::from(times));
}

#[tokio::test(flavor = "multi_thread")]
async fn law_01_replacing_loses_no_query() {
    let fixture = Fixture::new().await;
    let mut events = fixture.supervisor.events();
    let db = fixture.pool(4).await;
    rotate_under_load(&fixture, &db, 8).await;
    // The hazard: callers waited in the queue of a superseded generation.
    let status = db.status().expect("supervised");
    assert!(
        status.moved > 0,
        "no caller was moved from a superseded generation"
    );
    until_drained(&db).await;
    fixture.supervisor.shutdown(Duration::from_secs(5)).await;
    let mut drained = 0;
    while let Some(event) = events.next().await {
        drained += usize::from(matches!(event, Event::Drained { .. }));
    }
    assert!(drained >= 8, "{drained} generations drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn law_01_updating_in_place_loses_no_query() {
    let fixture =
        Fixture::with(ScriptedProvider::new().with_old_connections(OldConnections::Keep)).await;
    // Connections are short-lived, so that logins continue throughout.
    let options = short_lived(fixture.pool_options(4), Duration::from_millis(20));
    let pools = fixture.pools_with(options);
    let db = fixture.pool_from(pools).await;
    let before = fixture.accepted_logins();
    rotate_under_load(&fixture, &db, 8).await;
    assert!(
        fixture.accepted_logins() > before + 40,
        "the hazard: connections were opened during the rotations"
    );
    assert!(!db.current().is_closed(), "the pool is still the first one");
}

#[tokio::test(flavor = "multi_thread")]
async fn law_01_pool_closed_is_returned_only_after_shutdown() {
    let fixture = Fixture::new().await;
    let db = fixture.pool(2).await;
    let connections = (
        db.acquire().await.expect("one"),
        db.acquire().await.expect("two"),
    );
    // Callers wait in the queue while the pool is shut down.
    let polled = Arc::new(AtomicU32::new(0));
    let callers: Vec<_> = (0..8)
        .map(|number| {
            let (db, polled) = (db.clone(), Arc::clone(&polled));
            tokio::spawn(async move {
                let mut query = std::pin::pin!(query(&db));
                // The first poll puts the query into the queue.
                std::future::poll_fn(|context| {
                    let result = query.as_mut().poll(context);
                    polled.fetch_or(1 << number, Ordering::AcqRel);
                    result
                })
                .await
            })
        })
        .collect();
    eventually("all callers are in the queue", || {
        polled.load(Ordering::Acquire) == 0xff
    })
    .await;
    let supervisor = fixture.supervisor.clone();
    let shutdown = tokio::spawn(async move { supervisor.shutdown(Duration::from_secs(5)).await });
    for caller in callers {
        let result = caller.await.expect("no panic");
        assert!(matches!(result, Err(sqlx::Error::PoolClosed)), "{result:?}");
    }
    assert!(
        db.status().is_none_or(|status| status.moved > 0),
        "the hazard: callers waited in its queue"
    );
    drop(connections);
    assert!(shutdown.await.expect("no panic").clean);
    assert!(matches!(query(&db).await, Err(sqlx::Error::PoolClosed)));
}
