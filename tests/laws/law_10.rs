//! Law 10: connections during a handover ≤ maximum + overlap, even if the maximum number of
//! transactions is open across it.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use claviger::Handle;
use claviger::lease::OldConnections;
use claviger_testkit::ScriptedProvider;

use super::fixtures::{Callers, Peak, eventually, until_drained, until_generation};
use super::{Fixture, Pools};

async fn peak_over_rotations(fixture: &Fixture, db: &Handle<Pools>, rotations: u64) -> i64 {
    let peak = Peak::watch(fixture).await;
    let callers = Callers::start(db, 16);
    for _ in 0..rotations {
        let before = db.generation();
        callers.wait_for_more(200).await;
        fixture.rotate_announced().await;
        eventually("the next generation is current", || {
            db.generation() > before
        })
        .await;
    }
    callers.wait_for_more(200).await;
    assert_eq!(callers.stop().await.failed, Vec::<String>::new());
    peak.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn law_10_replacing_under_load_stays_within_the_overlap() {
    let fixture = Fixture::new().await;
    let pools = fixture.pools_with(fixture.pool_options(10).min_connections(10));
    let db = fixture.pool_from(pools).await;
    let peak = peak_over_rotations(&fixture, &db, 6).await;
    assert!(
        (10..=12).contains(&peak),
        "{peak} connections with a maximum of 10 and an overlap of 2"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn law_10_updating_in_place_under_load_stays_within_the_overlap() {
    let fixture =
        Fixture::with(ScriptedProvider::new().with_old_connections(OldConnections::Keep)).await;
    let db = fixture.pool(10).await;
    let peak = peak_over_rotations(&fixture, &db, 4).await;
    assert!(
        (10..=11).contains(&peak),
        "{peak} connections with a maximum of 10 and the verification"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn law_10_replacing_a_pool_of_busy_connections_stays_within_the_overlap() {
    let fixture = Fixture::new().await;
    let db = fixture.pool(10).await;
    let mut transactions = Vec::new();
    for _ in 0..10 {
        transactions.push(db.begin().await.expect("a transaction"));
    }
    let peak = Peak::watch(&fixture).await;
    fixture.rotate_announced().await;
    until_generation(&db, 2).await;
    // Ten old connections are busy: the callers share the overlap.
    let callers = Callers::start(&db, 16);
    callers.wait_for_more(300).await;
    let status = db.status().expect("supervised");
    assert_eq!(
        status.draining[0].connections, 10,
        "the hazard: all old connections are busy"
    );
    assert!(
        status.connections <= 2,
        "{} new connections",
        status.connections
    );
    // As old connections return, new ones are opened.
    for transaction in transactions {
        transaction.commit().await.expect("the transaction commits");
        callers.wait_for_more(20).await;
    }
    until_drained(&db).await;
    callers.wait_for_more(300).await;
    assert_eq!(callers.stop().await.failed, Vec::<String>::new());
    let peak = peak.stop().await;
    assert!(
        (11..=12).contains(&peak),
        "{peak} connections with a maximum of 10 and an overlap of 2"
    );
}
