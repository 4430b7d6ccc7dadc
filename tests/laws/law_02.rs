//! Law 2: what cannot be verified leaves the old generation serving; the verification is retried
//! without a fetch, and at once when the old one is rejected.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use claviger::{ConnectError, ConnectErrorKind, Event};
use claviger_fixtures::{Callers, eventually, eventually_within, until_generation};

use super::Fixture;

#[tokio::test(flavor = "multi_thread")]
async fn law_02_an_unverified_lease_serves_nobody() {
    let fixture = Fixture::new().await;
    let db = fixture.pool(4).await;
    let callers = Callers::start(&db, 8);
    callers.wait_for_more(100).await;

    // The store announces what the database does not take yet.
    let next = fixture.provider.rotate();
    fixture.provider.hint();
    eventually("the announced password was tried", || {
        fixture.rejected_logins() >= 1
    })
    .await;
    callers.wait_for_more(500).await;
    assert_eq!(db.generation(), 1, "what was not verified is not served");
    let status = db.status().expect("supervised");
    assert!(status.serving && !status.rejected);
    assert_eq!(
        status.last_error.as_ref().and_then(ConnectError::code),
        Some(Fixture::REJECTED)
    );

    // Verified again after a second, without a fetch.
    eventually("it was tried again", || fixture.rejected_logins() >= 2).await;
    assert_eq!(
        fixture.provider.calls().len(),
        2,
        "the start and the hint, nothing else"
    );

    fixture.set_password(&next).await;
    until_generation(&db, 2).await;
    let tally = callers.stop().await;
    assert_eq!(tally.failed, Vec::<String>::new());
    assert_eq!(fixture.provider.calls().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn law_02_the_candidate_is_verified_at_once_when_the_old_one_is_rejected() {
    let fixture = Fixture::new().await;
    let mut events = fixture.supervisor.events();
    let db = fixture.pool(4).await;
    let next = fixture.provider.rotate();
    fixture.provider.hint();
    // Three verifications fail: the next one would come 4.3 s later.
    eventually_within(
        Duration::from_secs(10),
        "the candidate was rejected three times",
        || fixture.rejected_logins() >= 3,
    )
    .await;
    let third = tokio::time::Instant::now();
    fixture.set_password(&next).await;
    fixture.terminate_connections().await;
    let answer: i32 = loop {
        // The idle connections were cut; what the server interrupts is not a rotation's doing.
        match sqlx::query_scalar("SELECT 1").fetch_one(&db).await {
            Ok(answer) => break answer,
            Err(sqlx::Error::Io(_)) => {}
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(answer, 1);
    // The fourth scheduled verification comes 4.3 s after the third: a window of 30 s divided by
    // max_connections + 3.
    assert!(
        third.elapsed() < Duration::from_millis(3_500),
        "not at once but after {:?}",
        third.elapsed()
    );
    assert_eq!(db.generation(), 2);
    fixture.supervisor.shutdown(Duration::from_secs(5)).await;
    let mut rejected = 0;
    while let Some(event) = events.next().await {
        if let Event::Rejected {
            generation,
            error: connect_error,
            ..
        } = event
        {
            assert_eq!(
                (generation, connect_error.kind()),
                (1, ConnectErrorKind::Rejected)
            );
            rejected += 1;
        }
    }
    assert_eq!(rejected, 1, "the old generation was rejected, once");
}
