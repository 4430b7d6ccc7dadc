//! Law 5: one fetch however many callers are rejected. They share the open connections, or get the
//! original rejection at once.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use claviger::report::RotationTrigger;
use tokio::time::Instant;

use super::fixtures::{
    backend_down, eventually, eventually_within, fetches, query, query_at_once, sqlstate, sqlx,
    until_rejected,
};
use super::{Fixture, Pools};

/// Timeout of callers that must be served. A busy machine takes long for a thousand.
const PATIENCE: Duration = Duration::from_secs(25);

/// Queries from a thousand tasks at once. Returns how many succeeded, and the errors.
async fn thousand_queries(db: &claviger::Handle<Pools>) -> (usize, Vec<sqlx::Error>) {
    let outcomes = query_at_once(db, 1_000).await;
    let errors: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
    (1_000 - errors.len(), errors)
}

/// Opens `connections` connections and leaves them idle.
async fn open_connections(db: &claviger::Handle<Pools>, connections: usize) {
    let mut opened = Vec::new();
    for _ in 0..connections {
        opened.push(db.acquire().await.expect("a connection"));
    }
    drop(opened);
    eventually("the connections are idle", || {
        db.current().num_idle() == connections
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_05_a_thousand_rejected_callers_cause_one_fetch() {
    let fixture = Fixture::new().await;
    let options = fixture.pool_options(10).acquire_timeout(PATIENCE);
    let db = fixture.pool_with(options).await;
    open_connections(&db, 3).await;
    // An unannounced rotation; the backend has the password before the fetch.
    let next = fixture.provider.rotate();
    fixture.set_password(&next).await;
    let (served, errors) = thousand_queries(&db).await;
    assert_eq!((served, errors.len()), (1_000, 0));
    // The three open connections may have served all callers before the new password arrives.
    eventually_within(PATIENCE, "the next generation is current", || {
        db.generation() == 2
    })
    .await;
    assert_eq!(fetches(&fixture.provider, RotationTrigger::Rejected), 1);
    assert_eq!(fixture.provider.calls().len(), 2);
    let rejected = fixture.rejected_logins();
    assert!((1..=13).contains(&rejected), "{rejected} failed logins");
}

#[tokio::test(flavor = "multi_thread")]
async fn law_05_callers_share_open_connections_while_the_backend_is_down() {
    let fixture = Fixture::new().await;
    let options = fixture.pool_options(10).acquire_timeout(PATIENCE);
    let db = fixture.pool_with(options).await;
    open_connections(&db, 3).await;
    fixture.set_password("another password").await;
    fixture.provider.fail_next(1_000, backend_down());
    // While idle, the three connections would serve every caller, and none would log in.
    let mut opened = Vec::new();
    for _ in 0..3 {
        opened.push(db.acquire().await.expect("an open connection"));
    }
    let first = tokio::spawn({
        let db = db.clone();
        async move { query(&db).await }
    });
    until_rejected(&db).await;
    drop(opened);
    first.await.expect("no panic").expect("an open connection");
    let began = Instant::now();
    let (served, errors) = thousand_queries(&db).await;
    assert!(served >= 950, "{served} of 1,000 were served, {errors:?}");
    let rejected = fixture.rejected_logins();
    assert!((1..=13).contains(&rejected), "{rejected} failed logins");
    // The bucket has three tokens and gets another every ten seconds.
    let refilled = usize::try_from(began.elapsed().as_secs() / 10).expect("a few");
    assert!(
        fixture.provider.calls().len() <= 1 + 3 + refilled,
        "only the start and the bucket's tokens fetch"
    );
}

/// Queries every 20 ms until the task is aborted.
async fn query_forever(db: claviger::Handle<Pools>) {
    loop {
        drop(query(&db).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn law_05_without_a_timely_attempt_the_original_rejection_is_returned_at_once() {
    let fixture = Fixture::new().await;
    let patience = Duration::from_secs(2);
    let options = fixture.pool_options(4).acquire_timeout(patience);
    let db = fixture.pool_with(options).await;
    fixture.set_password("another password").await;
    fixture.terminate_connections().await;
    fixture.provider.fail_next(1_000, backend_down());
    // After the first attempts the next one is due later than these callers wait.
    let too_late = || {
        db.status()
            .and_then(|status| status.next_verification)
            .is_some_and(|next| next > patience + Duration::from_secs(1))
    };
    let first = tokio::spawn(query_forever(db.clone()));
    eventually_within(
        Duration::from_secs(20),
        "the first attempts have failed",
        || fixture.provider.calls().len() == 4 && too_late(),
    )
    .await;
    first.abort();
    let began = Instant::now();
    let (served, errors) = thousand_queries(&db).await;
    assert!(
        began.elapsed() < patience,
        "the callers waited {:?}",
        began.elapsed()
    );
    assert_eq!(served, 0);
    let rejections = errors
        .iter()
        .filter(|error| sqlstate(error).as_deref() == Some(Fixture::REJECTED))
        .count();
    let interrupted = errors
        .iter()
        .filter(|error| matches!(error, sqlx::Error::Io(_)))
        .count();
    assert_eq!(
        rejections + interrupted,
        1_000,
        "{:?}",
        errors
            .iter()
            .find(|error| error.as_database_error().is_none())
    );
    assert!(rejections > 900);
    let other = errors
        .iter()
        .filter_map(|error| error.as_database_error())
        .find(|error| error.message() != Fixture::REJECTION);
    assert!(other.is_none(), "{other:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn law_05_callers_wait_for_an_attempt_before_their_deadline() {
    let fixture = Fixture::new().await;
    let options = fixture.pool_options(4).acquire_timeout(PATIENCE);
    let db = fixture.pool_with(options).await;
    fixture.set_password("password-2").await;
    fixture.terminate_connections().await;
    // The first fetch fails; the second, a second later, returns the new password.
    fixture.provider.fail_next(1, backend_down());
    fixture.provider.rotate();
    let (served, errors) = thousand_queries(&db).await;
    let other = errors
        .iter()
        .filter(|error| !matches!(error, sqlx::Error::Io(_)))
        .collect::<Vec<_>>();
    assert!(
        other.is_empty(),
        "{} of {}, such as {:?}; {} failed logins",
        other.len(),
        errors.len(),
        other.first(),
        fixture.rejected_logins()
    );
    assert!(served > 900);
    assert_eq!(fetches(&fixture.provider, RotationTrigger::Rejected), 2);
}
