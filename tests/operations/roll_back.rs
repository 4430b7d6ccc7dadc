//! A pool is returned to its previous lease.

use std::time::Duration;

use claviger::error::ErrorKind;
use claviger::events::Event;
use claviger::report::{RotationOutcome, RotationTrigger};
use claviger::{Credentials, Error, Lease, PgPools, Revision, Supervisor};
use claviger_fixtures::{Fixture, Scripted, query, until_generation};
use claviger_testkit::{Lab, ScriptedPools, ScriptedProvider};
use tokio::time::{sleep, timeout};

const KEPT: Duration = Duration::from_secs(900);

fn keeping() -> Lab {
    let builder = Supervisor::builder().with_previous_lease_kept_for(KEPT);
    Lab::with_builder(builder).expect("valid durations")
}

/// Keeps superseded leases. The pool serves `password-2`, and served `password-1`.
async fn rotated() -> Scripted {
    let scripted =
        Scripted::in_lab(keeping(), ScriptedProvider::new(), ScriptedPools::new(4)).await;
    rotate(&scripted).await;
    scripted
}

async fn rotate(scripted: &Scripted) {
    scripted.provider.rotate();
    scripted.provider.hint();
    until_generation(&scripted.pool, 2).await;
    sleep(Duration::from_secs(2)).await;
}

fn is_held(supervisor: &Supervisor) -> bool {
    supervisor.status().providers[0].held.is_some()
}

#[tokio::test(start_paused = true)]
async fn a_rollback_publishes_the_previous_lease_and_holds_the_provider_until_it_is_resumed() {
    let scripted = rotated().await;
    let (supervisor, pool) = (&scripted.lab.supervisor, &scripted.pool);
    let mut events = supervisor.events();
    let report = supervisor.roll_back("orders").await.expect("it is kept");
    assert_eq!(
        (report.trigger, report.outcome, report.attempts),
        (RotationTrigger::RollBack, RotationOutcome::Adopted, 0)
    );
    assert_eq!(report.revision, Some(Revision::new("1").digest()));
    let generations: Vec<_> = report.handovers.iter().map(|one| one.generation).collect();
    assert_eq!(generations, [3], "a new generation");
    assert!(report.waiting.is_empty());
    assert_eq!(pool.current().password(), "password-1");
    let status = supervisor.status();
    assert!(status.pools[0].rolled_back && is_held(supervisor));
    assert!(supervisor.readiness().ready);
    let mut seen = Vec::new();
    while seen.len() < 3 {
        match events.next().await {
            Some(Event::HandedOver(_)) => seen.push("handed over"),
            Some(Event::Held { .. }) => seen.push("held"),
            Some(Event::Rotated(report)) => {
                assert_eq!(report.trigger, RotationTrigger::RollBack);
                seen.push("rotated");
            }
            Some(_) => {}
            None => unreachable!("the supervisor runs"),
        }
    }
    assert_eq!(seen, ["handed over", "held", "rotated"]);

    let newest = scripted.provider.rotate();
    scripted.provider.hint();
    sleep(2 * KEPT).await;
    assert_eq!(pool.current().password(), "password-1", "it stays");
    assert_eq!(scripted.provider.released(), [], "its lease is in use");
    supervisor.resume("login").expect("it is registered");
    sleep(Duration::from_secs(3)).await;
    assert_eq!(pool.current().password(), newest);
    assert!(!supervisor.status().pools[0].rolled_back);
    assert_eq!(scripted.provider.released(), [], "it is kept again");
    sleep(KEPT).await;
    assert!(scripted.provider.released().contains(&Revision::new("1")));
}

#[tokio::test(start_paused = true)]
async fn a_resume_that_a_hold_follows_at_once_ends_a_rollback() {
    let scripted = rotated().await;
    let supervisor = &scripted.lab.supervisor;
    supervisor.roll_back("orders").await.expect("it is kept");
    assert_eq!(scripted.pool.current().password(), "password-1");
    // No pool reconciles between the two.
    supervisor.resume("login").expect("it is registered");
    supervisor.hold("login").expect("it is registered");
    until_generation(&scripted.pool, 4).await;
    assert_eq!(scripted.pool.current().password(), "password-2");
    sleep(Duration::from_secs(60)).await;
    assert!(!supervisor.status().pools[0].rolled_back && is_held(supervisor));
    assert_eq!(scripted.pool.generation(), 4);
}

#[tokio::test(start_paused = true)]
async fn another_pool_of_the_provider_keeps_its_lease() {
    let scripted =
        Scripted::in_lab(keeping(), ScriptedProvider::new(), ScriptedPools::new(4)).await;
    let database = ScriptedPools::new(4);
    let other = scripted
        .lab
        .add_pool("other", &scripted.credentials, database)
        .await;
    rotate(&scripted).await;
    until_generation(&other, 2).await;
    let supervisor = &scripted.lab.supervisor;
    supervisor.roll_back("orders").await.expect("it is kept");
    sleep(Duration::from_secs(60)).await;
    assert_eq!(scripted.pool.current().password(), "password-1");
    assert_eq!(
        (other.current().password(), other.generation()),
        ("password-2".to_owned(), 2)
    );
}

/// Asserts that a failed rollback changed nothing.
fn assert_unchanged(scripted: &Scripted) {
    let status = scripted.lab.supervisor.status();
    assert!(!status.pools[0].rolled_back && status.providers[0].held.is_none());
    assert_eq!(
        (
            scripted.pool.current().password(),
            scripted.pool.generation()
        ),
        ("password-2".to_owned(), 2)
    );
}

fn not_possible(result: Result<claviger::report::RotationReport, Error>, text: &str) {
    let error = result.expect_err("it is not possible");
    assert_eq!(error.kind(), ErrorKind::NotPossible, "{error}");
    assert!(error.to_string().contains(text), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_the_database_rejects_changes_nothing() {
    let scripted = rotated().await;
    scripted.database.accept_only(["password-2"]);
    let rolling_back = scripted.lab.supervisor.roll_back("orders").await;
    let error = rolling_back.expect_err("it is rejected");
    assert_eq!(error.kind(), ErrorKind::Pool);
    let cause = error.connect_error().expect("the login failed");
    assert_eq!(cause.code(), Some("28P01"));
    assert_unchanged(&scripted);
    let provider = &scripted.lab.supervisor.status().providers[0];
    let last = provider.last_rotation.as_ref().map(|one| one.trigger);
    assert_ne!(last, Some(RotationTrigger::RollBack), "nothing was rotated");
    let rejected = scripted.database.rejected();
    sleep(KEPT / 2).await;
    assert_eq!(scripted.database.rejected(), rejected, "one login");
    assert_unchanged(&scripted);
    scripted.database.accept_only(["password-1", "password-2"]);
    let again = scripted.lab.supervisor.roll_back("orders").await;
    again.expect("it may be tried again");
}

#[tokio::test(start_paused = true)]
async fn a_failed_rollback_does_not_end_a_hold() {
    let scripted = rotated().await;
    let supervisor = &scripted.lab.supervisor;
    supervisor.hold("login").expect("it is registered");
    scripted.database.accept_only(["password-2"]);
    supervisor.roll_back("orders").await.expect_err("rejected");
    assert!(is_held(supervisor));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_not_kept_cannot_be_returned_to() {
    let scripted = Scripted::new().await;
    let supervisor = scripted.lab.supervisor.clone();
    let first = supervisor.roll_back("orders").await;
    not_possible(first, "it has served one lease only");
    rotate(&scripted).await;
    assert_eq!(
        scripted.provider.released(),
        [Revision::new("1")],
        "the hazard: it is released"
    );
    let rolling_back = supervisor.roll_back("orders").await;
    not_possible(rolling_back, "with_previous_lease_kept_for");
    assert_unchanged(&scripted);
}

#[tokio::test(start_paused = true)]
async fn a_kept_lease_is_released_after_its_time() {
    let scripted = rotated().await;
    let leases = || {
        let status = scripted.lab.supervisor.status();
        (status.providers[0].kept, status.providers[0].unreleased)
    };
    sleep(KEPT - Duration::from_secs(30)).await;
    assert_eq!((leases(), scripted.provider.released()), ((1, 0), vec![]));
    sleep(Duration::from_secs(60)).await;
    assert_eq!(leases(), (0, 0));
    assert_eq!(scripted.provider.released(), [Revision::new("1")]);
    let rolling_back = scripted.lab.supervisor.roll_back("orders").await;
    not_possible(rolling_back, "was released");
}

#[tokio::test(start_paused = true)]
async fn a_kept_lease_is_released_at_shutdown() {
    let scripted = rotated().await;
    let report = scripted.lab.supervisor.shutdown(KEPT).await;
    assert!(report.clean, "{report:?}");
    let mut released = scripted.provider.released();
    released.sort();
    assert_eq!(released, [Revision::new("1"), Revision::new("2")]);
}

#[tokio::test(start_paused = true)]
async fn a_pool_is_rolled_back_once() {
    let scripted = rotated().await;
    let supervisor = &scripted.lab.supervisor;
    let (first, second) = tokio::join!(
        supervisor.roll_back("orders"),
        supervisor.roll_back("orders")
    );
    assert_eq!(
        [first.is_ok(), second.is_ok()]
            .into_iter()
            .filter(|ok| *ok)
            .count(),
        1,
        "{first:?}, {second:?}"
    );
    let again = supervisor.roll_back("orders").await;
    not_possible(again, "call resume(\"login\") first");
}

#[tokio::test(start_paused = true)]
async fn a_rollback_continues_without_its_caller_and_outlives_the_actors() {
    let scripted = rotated().await;
    scripted.database.stall();
    let supervisor = scripted.lab.supervisor.clone();
    let calling = tokio::spawn(async move { supervisor.roll_back("orders").await });
    sleep(Duration::from_secs(1)).await;
    calling.abort();
    scripted.lab.failpoints.set("orders", "pool.wake", 1);
    scripted.lab.failpoints.set("login", "provider.wake", 1);
    scripted.database.resume();
    sleep(Duration::from_secs(60)).await;
    let status = scripted.lab.supervisor.status();
    assert!(status.pools[0].restarts >= 1, "the actor crashed");
    assert!(status.pools[0].rolled_back && is_held(&scripted.lab.supervisor));
    assert_eq!(scripted.pool.current().password(), "password-1");
}

#[tokio::test(start_paused = true)]
async fn a_panic_after_the_publication_does_not_lose_a_rollback() {
    let scripted = rotated().await;
    let supervisor = &scripted.lab.supervisor;
    scripted.lab.failpoints.set("orders", "pool.published", 1);
    let rolling_back = timeout(KEPT / 2, supervisor.roll_back("orders")).await;
    let report = rolling_back.expect("it returns").expect("it is published");
    assert_eq!(report.outcome, RotationOutcome::Adopted);
    assert_eq!(scripted.lab.failpoints.left("orders", "pool.published"), 0);
    sleep(Duration::from_secs(60)).await;
    assert!(supervisor.status().pools[0].rolled_back && is_held(supervisor));
    assert_eq!(scripted.pool.current().password(), "password-1");
}

#[tokio::test(start_paused = true)]
async fn a_rollback_that_the_removal_of_its_pool_ends_is_reported_as_unfinished() {
    let scripted = rotated().await;
    scripted.database.stall();
    let mut events = scripted.lab.supervisor.events();
    let supervisor = scripted.lab.supervisor.clone();
    let calling = tokio::spawn(async move { supervisor.roll_back("orders").await });
    sleep(Duration::from_secs(1)).await;
    let supervisor = scripted.lab.supervisor.clone();
    let stopping = tokio::spawn(async move { supervisor.shutdown(KEPT).await });
    calling.await.expect("no panic").expect_err("it is closed");
    scripted.database.resume();
    stopping.await.expect("no panic");
    let mut outcomes = Vec::new();
    while let Some(event) = events.next().await {
        if let Event::Rotated(report) = event {
            outcomes.push((report.trigger, report.outcome));
        }
    }
    let ended = (RotationTrigger::RollBack, RotationOutcome::Unfinished);
    assert_eq!(outcomes, [ended]);
}

#[tokio::test(start_paused = true)]
async fn the_error_for_an_unknown_pool_names_the_registered_ones() {
    let scripted = Scripted::new().await;
    let error = scripted.lab.supervisor.roll_back("order").await;
    let error = error.expect_err("there is none");
    assert_eq!(error.kind(), ErrorKind::NotRegistered);
    assert!(
        error.to_string().contains("registered: \"orders\""),
        "{error}"
    );
}

async fn user_of(db: &claviger::Handle<PgPools>) -> String {
    let user = sqlx::query_scalar("SELECT current_user::text");
    user.fetch_one(db).await.expect("the query succeeds")
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_use_the_previous_database_user_after_a_rollback() {
    let builder = Supervisor::builder().with_previous_lease_kept_for(KEPT);
    let fixture = Fixture::with_builder(builder).await;
    let db = fixture.pool(4).await;
    fixture
        .sql("CREATE ROLE app_2 LOGIN PASSWORD 'password-of-2'")
        .await;
    let credentials = Credentials::new("app_2", "password-of-2");
    let next = Lease::new(credentials, Revision::new("user 2"));
    fixture.provider.return_next(next);
    fixture.provider.hint();
    until_generation(&db, 2).await;
    assert_eq!(user_of(&db).await, "app_2");
    let report = fixture.supervisor.roll_back("orders").await;
    assert_eq!(report.expect("it is kept").handovers.len(), 1);
    assert_eq!((user_of(&db).await.as_str(), db.generation()), ("app", 3));
    fixture
        .supervisor
        .resume("login")
        .expect("it is registered");
    until_generation(&db, 4).await;
    assert_eq!(user_of(&db).await, "app_2");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_error_has_the_sqlstate_when_the_password_of_the_one_user_was_changed() {
    let builder = Supervisor::builder().with_previous_lease_kept_for(KEPT);
    let fixture = Fixture::with_builder(builder).await;
    let db = fixture.pool(4).await;
    fixture.rotate_announced().await;
    until_generation(&db, 2).await;
    let rolling_back = fixture.supervisor.roll_back("orders").await;
    let error = rolling_back.expect_err("the database has the new password");
    let cause = error.connect_error().expect("the login failed");
    assert_eq!(cause.code(), Some("28P01"), "{error}");
    assert_eq!(db.generation(), 2);
    assert!(!is_held(&fixture.supervisor));
    query(&db).await.expect("the current lease is in use");
}
