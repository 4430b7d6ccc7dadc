//! Law 11: all rejected revisions of one database user together cost at most `max_connections + 3`
//! failed logins per pool and window.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use claviger::Handle;
use claviger_fixtures::{Callers, eventually_within, short_lived, until_serving};
use tokio::time::Instant;

use super::{Fixture, Pools};

/// A pool of four short-lived connections, and callers who wait no longer than a moment and come
/// again and again.
async fn restless(fixture: &Fixture) -> (Handle<Pools>, Callers) {
    let options = short_lived(
        fixture
            .pool_options(4)
            .acquire_timeout(Duration::from_secs(1)),
        Duration::from_millis(10),
    );
    let db = fixture.pool_with(options).await;
    let callers = Callers::start(&db, 16);
    callers.wait_for_more(100).await;
    (db, callers)
}

#[tokio::test(flavor = "multi_thread")]
async fn law_11_within_one_window_under_load() {
    let fixture = Fixture::new().await;
    let (_db, callers) = restless(&fixture).await;
    fixture.set_password("nobody knows this one").await;
    let began = Instant::now();
    eventually_within(
        Duration::from_secs(20),
        "the verifications after 1, 3 and 10 s were made",
        || began.elapsed() > Duration::from_secs(11) && callers.failures() > 1_000,
    )
    .await;
    let rejected = fixture.rejected_logins();
    assert!(
        (4..=7).contains(&rejected),
        "{rejected} failed logins with a maximum of 4"
    );
    drop(callers.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn law_11_a_database_that_changes_its_mind() {
    let fixture = Fixture::new().await;
    let (db, callers) = restless(&fixture).await;
    let began = Instant::now();
    let (mut rounds, mut rejected) = (0, 0);
    // The same password is rejected, taken, rejected …, all within the first window of thirty
    // seconds.
    while began.elapsed() < Duration::from_secs(14) {
        fixture.set_password("nobody knows this one").await;
        eventually_within(Duration::from_secs(20), "it is rejected", || {
            db.status().is_some_and(|status| status.rejected)
        })
        .await;
        fixture.set_password("password-1").await;
        eventually_within(Duration::from_secs(40), "it is taken again", || {
            // Once its budget is spent, it is taken again in the next window, which has a budget of
            // its own.
            if began.elapsed() < Duration::from_secs(28) {
                rejected = fixture.rejected_logins();
            }
            db.status().is_some_and(|status| status.serving)
        })
        .await;
        rounds += 1;
        if began.elapsed() < Duration::from_secs(12) {
            callers.wait_for_more(50).await;
        }
    }
    assert!(rounds >= 2, "the hazard: it was rejected {rounds} times");
    assert!(
        (4..=7).contains(&rejected),
        "{rejected} failed logins in {rounds} rounds with a maximum of 4"
    );
    drop(callers.stop().await);
    until_serving(&db).await;
}
