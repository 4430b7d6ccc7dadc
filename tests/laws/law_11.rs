//! Law 11: all rejected revisions of one database user together cost at most `max_connections + 3`
//! failed logins per pool and window.

use std::time::Duration;

use claviger::Handle;
use tokio::time::Instant;

use super::fixtures::{Callers, eventually_within, short_lived, until_serving};
use super::{Fixture, Pools};

/// Starts a pool of four short-lived connections, and callers that retry after a timeout of one
/// second.
async fn retrying_callers(fixture: &Fixture) -> (Handle<Pools>, Callers) {
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
async fn law_11_rejected_callers_cost_one_budget_per_window() {
    let fixture = Fixture::new().await;
    let (_db, callers) = retrying_callers(&fixture).await;
    fixture.set_password("another password").await;
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
async fn law_11_alternating_rejections_cost_one_budget() {
    let fixture = Fixture::new().await;
    let (db, callers) = retrying_callers(&fixture).await;
    let began = Instant::now();
    let (mut rounds, mut rejected) = (0, 0);
    // The same password is rejected and accepted alternately, within the first window of thirty
    // seconds.
    while began.elapsed() < Duration::from_secs(14) {
        fixture.set_password("another password").await;
        eventually_within(Duration::from_secs(20), "the lease is rejected", || {
            db.status().is_some_and(|status| status.rejected)
        })
        .await;
        fixture.set_password("password-1").await;
        eventually_within(
            Duration::from_secs(40),
            "the password is accepted again",
            || {
                // When the budget is spent, the password is accepted in the next window, which has
                // a new budget.
                if began.elapsed() < Duration::from_secs(28) {
                    rejected = fixture.rejected_logins();
                }
                db.status().is_some_and(|status| status.serving)
            },
        )
        .await;
        rounds += 1;
        if began.elapsed() < Duration::from_secs(12) {
            callers.wait_for_more(50).await;
        }
    }
    assert!(rounds >= 2, "the hazard: {rounds} rejections");
    assert!(
        (4..=7).contains(&rejected),
        "{rejected} failed logins in {rounds} rounds with a maximum of 4"
    );
    drop(callers.stop().await);
    until_serving(&db).await;
}
