//! Law 2: while a lease cannot be verified, the old generation stays in use. The verification is
//! retried without a fetch, and at once when the old lease is rejected.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use claviger::error::{ConnectError, ConnectErrorKind};
use claviger::events::Event;

use super::Fixture;
use super::fixtures::{Callers, eventually, eventually_within, sqlx, until_generation};

#[tokio::test(flavor = "multi_thread")]
async fn law_02_an_unverified_lease_serves_no_caller() {
    let fixture = Fixture::new().await;
    let db = fixture.pool(4).await;
    let callers = Callers::start(&db, 8);
    callers.wait_for_more(100).await;

    // The backend announces a password that the database does not accept yet.
    let next = fixture.provider.rotate();
    fixture.provider.hint();
    eventually("the announced password was tried", || {
        fixture.rejected_logins() >= 1
    })
    .await;
    callers.wait_for_more(500).await;
    assert_eq!(db.generation(), 1, "an unverified lease is not published");
    let status = db.status().expect("supervised");
    assert!(status.serving && !status.rejected);
    assert_eq!(
        status.last_error.as_ref().and_then(ConnectError::code),
        Some(Fixture::REJECTED)
    );

    // Verified again after a second, without a fetch.
    eventually("the verification was retried", || {
        fixture.rejected_logins() >= 2
    })
    .await;
    assert_eq!(
        fixture.provider.calls().len(),
        2,
        "only the start and the hint fetch"
    );

    fixture.set_password(&next).await;
    until_generation(&db, 2).await;
    let tally = callers.stop().await;
    assert_eq!(tally.failed, Vec::<String>::new());
    assert_eq!(fixture.provider.calls().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn law_02_a_rejection_of_the_old_lease_verifies_the_new_one_at_once() {
    let fixture = Fixture::new().await;
    let mut events = fixture.supervisor.events();
    let db = fixture.pool(4).await;
    let next = fixture.provider.rotate();
    fixture.provider.hint();
    // After three failed verifications the next one is due 4.3 s later.
    eventually_within(
        Duration::from_secs(10),
        "the candidate was rejected three times",
        || fixture.rejected_logins() >= 3,
    )
    .await;
    let third = tokio::time::Instant::now();
    fixture.set_password(&next).await;
    fixture.terminate_connections().await;
    let result: i32 = loop {
        // The idle connections were terminated; that interruption is not caused by a rotation.
        match sqlx::query_scalar("SELECT 1").fetch_one(&db).await {
            Ok(result) => break result,
            Err(sqlx::Error::Io(_)) => {}
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(result, 1);
    // The fourth scheduled verification is due 4.3 s after the third: 30 s divided by
    // `max_connections + 3`.
    assert!(
        third.elapsed() < Duration::from_millis(3_500),
        "the caller waited {:?}",
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
