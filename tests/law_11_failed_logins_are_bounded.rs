//! needs: postgresql
//!
//! Law 11: all rejected revisions of one database user together cost at most `max_connections + 3`
//! failed logins per pool and window.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "laws/law_11.rs"]
mod on_postgresql;

use std::time::Duration;

use claviger::PgPools as Pools;
use claviger::Revision;
use claviger_fixtures::{self as fixtures, Fixture, Scripted, rejection};
use tokio::time::{Instant, sleep};

#[tokio::test(start_paused = true)]
async fn law_11_a_rejected_revision_is_verified_at_an_even_pace_for_an_hour() {
    let Scripted { database, pool, .. } = Scripted::new().await;
    database.accept_only(["something else"]);
    let began = Instant::now();
    assert!(pool.rejected(1, &rejection()));
    let mut seen = Vec::new();
    while began.elapsed() < Duration::from_secs(3_600) {
        sleep(Duration::from_millis(100)).await;
        seen.resize(database.rejected(), began.elapsed());
    }
    // At once, because the last verification was recent; after a second; then one per seventh of
    // the window of 30 s, later 60 s.
    assert!(
        seen[0] < Duration::from_secs(1) && seen[1] < Duration::from_millis(1_500),
        "{seen:?}"
    );
    let within = |from: Duration, length: u64| {
        seen.iter()
            .filter(|at| (from..from + Duration::from_secs(length)).contains(*at))
            .count()
    };
    assert!(within(Duration::ZERO, 30) <= 7, "{seen:?}");
    let densest = seen
        .iter()
        .filter(|from| from.as_secs() > 90)
        .map(|from| within(*from, 58))
        .max();
    assert!(densest <= Some(7), "{densest:?} in a minute");
    assert!(
        seen.windows(2)
            .all(|pair| pair[1] - pair[0] <= Duration::from_secs(17)),
        "{seen:?}"
    );
    assert!(seen.len() > 300, "{} verifications in an hour", seen.len());
    // Credentials that work again are adopted within one such pause.
    database.accept_only(["password-1"]);
    sleep(Duration::from_secs(17)).await;
    assert!(pool.status().expect("supervised").serving);
}

#[tokio::test(start_paused = true)]
async fn law_11_a_rolled_back_rotation_is_adopted_at_once() {
    let Scripted {
        provider,
        database,
        pool,
        ..
    } = Scripted::new().await;
    let rejection = rejection();
    let until_password = async |password: &str| {
        let began = Instant::now();
        while pool.current().password() != password {
            assert!(
                began.elapsed() < Duration::from_millis(100),
                "the password is not adopted at once"
            );
            sleep(Duration::from_millis(1)).await;
        }
    };
    // The database changes the password, and soon after changes it back.
    provider.rotate();
    database.accept_only(["password-2"]);
    pool.rejected(1, &rejection);
    until_password("password-2").await;
    sleep(Duration::from_millis(300)).await;
    provider.roll_back_to(1);
    database.accept_only(["password-1"]);
    pool.rejected(2, &rejection);
    until_password("password-1").await;
    let rejected: Vec<_> = provider
        .calls()
        .iter()
        .map(|call| call.rejected.clone())
        .collect();
    let (first, second) = (Revision::new("1"), Revision::new("2"));
    assert_eq!(
        rejected,
        [vec![], vec![first], vec![second]],
        "a revision rejected before the change is a candidate again"
    );
}
