//! Law 4: an equal revision causes no handover and no event; a later expiry is adopted. An equal
//! but rejected revision is verified again with backoff.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use super::Fixture;
use super::fixtures::{Callers, eventually, eventually_within, query, sqlx, until_rejected};
use claviger::events::Event;
use claviger::report::RotationOutcome;
use claviger_testkit::ScriptedProvider;

#[tokio::test(flavor = "multi_thread")]
async fn law_04_a_renewal_changes_only_the_expiry() {
    let provider = ScriptedProvider::new()
        .with_lifetime(Duration::from_secs(600))
        .with_refresh_after(Duration::from_secs(1));
    let fixture = Fixture::with(provider).await;
    let mut events = fixture.supervisor.events();
    let db = fixture.pool(4).await;
    let first = db
        .status()
        .expect("supervised")
        .expires
        .expect("the lease expires");
    let verified = db.status().expect("supervised").verified;
    let callers = Callers::start(&db, 2);
    eventually("the lease was renewed twice", || {
        fixture.provider.calls().len() >= 3
    })
    .await;
    let report = fixture
        .supervisor
        .rotate_now("login")
        .await
        .expect("a report");
    assert_eq!(
        (report.outcome, report.revision),
        (RotationOutcome::Unchanged, None)
    );
    eventually("the later expiry is adopted", || {
        db.status()
            .is_some_and(|status| status.expires > Some(first))
    })
    .await;
    assert_eq!(callers.stop().await.failed, Vec::<String>::new());
    assert_eq!(db.generation(), 1);
    assert_eq!(
        db.status().expect("supervised").verified,
        verified,
        "nothing was verified again"
    );
    fixture.supervisor.shutdown(Duration::from_secs(5)).await;
    while let Some(event) = events.next().await {
        match event {
            Event::HandedOver(report) => assert_eq!(report.generation, 1),
            Event::Rotated(report) => {
                assert_eq!(report.trigger, claviger::report::RotationTrigger::Start)
            }
            Event::Drained { generation, .. } => assert_eq!(generation, 1),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn law_04_the_pool_recovers_from_a_temporary_rejection() {
    let fixture = Fixture::new().await;
    let db = fixture.pool(4).await;
    // The database rejects the password for a while, and the backend has no other.
    fixture.set_password("another password").await;
    fixture.terminate_connections().await;
    let waiting = tokio::spawn({
        let db = db.clone();
        async move {
            loop {
                match query(&db).await {
                    Ok(_) => break,
                    Err(sqlx::Error::Io(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    });
    until_rejected(&db).await;
    assert!(!fixture.supervisor.readiness().ready);
    fixture.set_password("password-1").await;
    tokio::time::timeout(Duration::from_secs(5), waiting)
        .await
        .expect("the pool recovers without a restart")
        .expect("no panic");
    eventually_within(
        Duration::from_secs(5),
        "the pool serves callers again",
        || db.status().is_some_and(|status| status.serving),
    )
    .await;
    let status = db.status().expect("supervised");
    assert_eq!(
        status.generation, 2,
        "a rejected revision that works again gets a new generation"
    );
    assert!(fixture.rejected_logins() >= 1);
    assert!(fixture.supervisor.readiness().ready);
}
