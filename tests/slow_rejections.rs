//! needs: postgresql
//!
//! A server that takes longer to reject a login than callers wait, as a PAM service may. The
//! rejection still causes a fetch.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use claviger_fixtures::{Callers, Fixture, eventually_within, query_at_once, short_lived};
use claviger_servers::Postgres;

/// Delay of each rejection; accepted logins are not delayed.
const DELAY: Duration = Duration::from_millis(1_500);

async fn delay_rejections(fixture: &Fixture) {
    let restart = |server: &Postgres| {
        server.shut_down().expect("the server stops");
        server.start_again().expect("the server starts");
    };
    drop(
        fixture
            .sql("ALTER SYSTEM SET shared_preload_libraries = 'auth_delay'")
            .await,
    );
    fixture.on_the_server(restart).await;
    drop(
        fixture
            .sql(&format!(
                "ALTER SYSTEM SET auth_delay.milliseconds = {}",
                DELAY.as_millis()
            ))
            .await,
    );
    fixture.on_the_server(restart).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_later_than_the_acquire_timeout_still_causes_a_fetch() {
    let fixture = Fixture::new().await;
    delay_rejections(&fixture).await;
    let options = short_lived(
        fixture.pool_options(4).acquire_timeout(DELAY / 3),
        Duration::from_millis(10),
    );
    let db = fixture.pool_with(options).await;
    let callers = Callers::start_with_pause(&db, 8, "SELECT 1", Duration::from_millis(5));
    callers.wait_for_more(100).await;

    let password = fixture.provider.rotate();
    fixture.set_password(&password).await;
    eventually_within(Duration::from_secs(30), "callers timed out", || {
        callers.failures() > 0
    })
    .await;
    eventually_within(
        Duration::from_secs(30),
        "the new password is adopted",
        || {
            db.status()
                .is_some_and(|status| status.generation == 2 && status.serving)
        },
    )
    .await;
    callers.wait_for_more(100).await;
    let tally = callers.stop().await;
    let timed_out = tally
        .failed
        .iter()
        .filter(|failure| failure.contains("timed out"))
        .count();
    assert!(
        timed_out >= 8,
        "the hazard: {timed_out} of {} errors are timeouts",
        tally.failed.len()
    );
    assert_eq!(
        fixture.provider.calls().len(),
        2,
        "one refresh, however many callers timed out"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn queued_callers_of_a_full_pool_cost_no_login_after_a_slow_rejection() {
    let fixture = Fixture::new().await;
    delay_rejections(&fixture).await;
    let options = fixture
        .pool_options(10)
        .acquire_timeout(Duration::from_secs(12));
    let db = fixture.pool_with(options).await;
    let connections: Vec<_> = futures_util::future::join_all((0..10).map(|_| db.acquire())).await;
    assert!(connections.iter().all(Result::is_ok), "the pool is full");
    drop(connections);
    fixture.set_password("another password").await;
    fixture.terminate_connections().await;
    let outcomes = query_at_once(&db, 300).await;
    assert!(outcomes.iter().all(Result::is_err), "no login is accepted");
    let failed = fixture.rejected_logins();
    assert!((1..=13).contains(&failed), "{failed} failed logins");
}
