//! Law 10: connections during a handover stay within the maximum plus the overlap.

use claviger::lease::OldConnections;

use crate::callers::Callers;
use crate::fixture::{Fixture, eventually};
use crate::peak::Peak;
use crate::{PgKind, Settings};

const MAX: u32 = 10;

/// Returns the most connections that were open at a time, as the server counts them.
async fn peak_over_rotations<K: PgKind>(fixture: &Fixture<K>, rotations: u32) -> i64 {
    drop(fixture.hold(MAX).await);
    let peak = Peak::watch(&fixture.server).await;
    let callers = Callers::start::<K>(&fixture.pool, 16);
    for _ in 0..rotations {
        callers.wait_for_more(200).await;
        fixture.rotate().await;
    }
    callers.wait_for_more(200).await;
    assert_eq!(callers.stop().await, Vec::<String>::new());
    peak.stop().await
}

pub async fn law_10_replacing_under_load_stays_within_the_overlap<K: PgKind>() {
    let settings = Settings {
        min_connections: MAX,
        ..Settings::of(MAX)
    };
    let fixture = Fixture::<K>::new(OldConnections::Drain, settings).await;
    let peak = peak_over_rotations(&fixture, 5).await;
    assert!(
        (10..=12).contains(&peak),
        "{peak} connections with a maximum of 10 and an overlap of 2"
    );
}

pub async fn law_10_updating_in_place_stays_within_the_overlap<K: PgKind>() {
    let fixture = Fixture::<K>::new(OldConnections::Keep, Settings::of(MAX)).await;
    let peak = peak_over_rotations(&fixture, 3).await;
    assert!(
        (10..=11).contains(&peak),
        "{peak} connections with a maximum of 10 and the verification"
    );
}

pub async fn law_10_replacing_busy_connections_stays_within_the_overlap<K: PgKind>() {
    let fixture = Fixture::<K>::new(OldConnections::Drain, Settings::of(MAX)).await;
    let busy = fixture.hold(MAX).await;
    let peak = Peak::watch(&fixture.server).await;
    fixture.rotate().await;
    // Ten old connections are busy: the callers share the overlap.
    let callers = Callers::start::<K>(&fixture.pool, 16);
    callers.wait_for_more(300).await;
    let status = fixture.pool.status().expect("supervised");
    assert_eq!(
        status.draining[0].connections, MAX,
        "the hazard: all old connections are busy"
    );
    assert!(status.connections <= 2, "{} new ones", status.connections);
    // As old connections return, new ones are opened.
    for connection in busy {
        drop(connection);
        callers.wait_for_more(20).await;
    }
    fixture.until_drained().await;
    callers.wait_for_more(300).await;
    eventually("the pool grows to its size again", || {
        fixture
            .pool
            .status()
            .is_some_and(|status| status.connections > 2)
    })
    .await;
    assert_eq!(callers.stop().await, Vec::<String>::new());
    let peak = peak.stop().await;
    assert!(
        (11..=12).contains(&peak),
        "{peak} connections with a maximum of 10 and an overlap of 2"
    );
}
