//! needs: postgresql
//!
//! Scenario: a service reads its password once, then `ALTER USER … PASSWORD` changes it. Open
//! connections continue, but every new one fails with 28P01. With Claviger: one fetch, no insert
//! lost, none doubled, no restart.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use claviger::events::Event;
use claviger::{Handle, PgPools};
use claviger_fixtures::{Fixture, sqlstate, until_drained};

const INSERTS: i64 = 100;
/// Time between two inserts.
const PACE: Duration = Duration::from_millis(10);

async fn numbers(fixture: &Fixture) -> Vec<i64> {
    let text = fixture
        .sql("SELECT note::bigint FROM orders ORDER BY note::bigint")
        .await;
    text.lines()
        .map(|line| line.parse().expect("a number"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_claviger_every_new_connection_fails() {
    let fixture = Fixture::new().await;
    // One connection, so that only its loss makes the pool log in again.
    let plain = fixture.plain_pool("password-1", fixture.pool_options(1));
    let mut pace = tokio::time::interval(PACE);
    let mut lost = Vec::new();
    for number in 0..INSERTS {
        pace.tick().await;
        if number == 30 {
            fixture.set_password("password-2").await;
        }
        if number == 60 {
            fixture.terminate_connections().await;
        }
        let inserted = sqlx::query("INSERT INTO orders (note) VALUES ($1)")
            .bind(number.to_string())
            .execute(&plain)
            .await;
        if let Err(error) = inserted {
            lost.push((number, sqlstate(&error)));
        }
    }
    // Open connections continued; after their loss nothing worked.
    assert!(lost.iter().all(|(number, _)| *number >= 60), "{lost:?}");
    assert!(
        lost.iter()
            .filter(|(_, code)| code.as_deref() == Some("28P01"))
            .count()
            >= 35,
        "{lost:?}"
    );
    assert!(fixture.rejected_logins() >= 35, "a failed login per caller");
}

/// Inserts at an even pace without retries. After an interruption by the server it checks whether
/// the row exists.
async fn insert_all(fixture: &Fixture, db: &Handle<PgPools>) {
    let mut pace = tokio::time::interval(PACE);
    for number in 0..INSERTS {
        pace.tick().await;
        if number == 30 {
            // An unannounced rotation; the backend has the new password.
            fixture.provider.rotate();
            fixture.set_password("password-2").await;
        }
        if number == 60 {
            fixture.terminate_connections().await;
        }
        loop {
            match sqlx::query("INSERT INTO orders (note) VALUES ($1)")
                .bind(number.to_string())
                .execute(db)
                .await
            {
                Ok(_) => break,
                Err(sqlx::Error::Io(_)) => {
                    let exists: bool =
                        sqlx::query_scalar("SELECT exists(SELECT FROM orders WHERE note = $1)")
                            .bind(number.to_string())
                            .fetch_one(db)
                            .await
                            .expect("the query succeeds");
                    if exists {
                        break;
                    }
                }
                Err(error) => panic!("insert {number}: {error}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_claviger_no_insert_is_lost_and_none_doubled() {
    let fixture = Fixture::new().await;
    let mut events = fixture.supervisor.events();
    let db = fixture.pool(4).await;
    insert_all(&fixture, &db).await;
    assert_eq!(numbers(&fixture).await, (0..INSERTS).collect::<Vec<_>>());
    assert_eq!(
        fixture.provider.calls().len(),
        2,
        "one fetch after the start"
    );
    assert_eq!(db.generation(), 2);
    assert!(
        (1..=7).contains(&fixture.rejected_logins()),
        "{} failed logins",
        fixture.rejected_logins()
    );
    until_drained(&db).await;
    fixture.supervisor.shutdown(Duration::from_secs(5)).await;
    let mut rejected = 0;
    while let Some(event) = events.next().await {
        assert!(
            !matches!(event, Event::Restarted { .. }),
            "no actor restarts"
        );
        rejected += usize::from(matches!(event, Event::Rejected { .. }));
    }
    assert_eq!(rejected, 1, "the hazard: the database rejected, once");
}
