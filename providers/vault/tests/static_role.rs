//! needs: postgresql, openbao
//!
//! A user whose password the engine rotates, under load: on schedule, late, and manually.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use claviger::provider::FetchRequest;
use claviger::report::RotationTrigger;
use claviger::{Handle, PgPools, Provider};
use claviger_fixtures::{Server, eventually_within, short_lived};
use claviger_servers::Postgres;
use claviger_testkit::FetchLease;
use claviger_vault::{Auth, SecretId, VaultSession, VaultStatic};
use claviger_vault_fixtures::{Identity, Revocation, VaultFixture, next_generation, start_callers};
use sqlx::postgres::PgPoolOptions;

const READ: &str = "database/static-creds/app";

/// Creates a fixture whose engine rotates the password of the tables' owner, at this interval in
/// seconds.
async fn fixture(seconds: u64) -> VaultFixture<Postgres> {
    let fixture = VaultFixture::new(60, 600, Revocation::Default).await;
    fixture
        .admin(move |admin| admin.static_role("app", seconds))
        .await;
    fixture
}

async fn provider(fixture: &VaultFixture<Postgres>) -> VaultStatic {
    let Identity { role_id, secret_id } = fixture.identity().await;
    let auth = Auth::app_role(role_id, SecretId::given(secret_id));
    let session =
        VaultSession::new(fixture.proxy.endpoint(), auth).expect("the settings are valid");
    VaultStatic::new(&session, "database", "app").expect("a role")
}

/// Adds a pool whose connections are closed often, so that a wrong password is found.
async fn pool_of_short_lived_connections(fixture: &VaultFixture<Postgres>) -> Handle<PgPools> {
    let credentials = fixture
        .supervisor
        .add_provider("login", provider(fixture).await)
        .await
        .expect("there is a lease");
    let options = short_lived(
        PgPoolOptions::new()
            .max_connections(8)
            .acquire_timeout(Duration::from_secs(5)),
        Duration::from_millis(300),
    );
    fixture
        .supervisor
        .add_pool(
            "orders",
            &credentials,
            Postgres::factory(fixture.server.options(None), options),
        )
        .await
        .expect("it is verified")
}

/// Returns when the credentials were read.
fn reads(fixture: &VaultFixture<Postgres>) -> Vec<Instant> {
    let path = format!("/v1/{READ}");
    fixture
        .proxy
        .log()
        .iter()
        .filter(|request| request.operation == path)
        .map(|request| request.received_at)
        .collect()
}

/// Returns the seconds until the engine's next rotation; 0 when it is due.
fn ttl(fixture: &VaultFixture<Postgres>) -> u64 {
    fixture
        .admin
        .read(READ)
        .ok()
        .and_then(|response| response["data"]["ttl"].as_u64())
        .expect("it is reported")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_is_polled_for_a_second_after_it_is_due_and_followed() {
    let fixture = fixture(8).await;
    let db = fixture.pool(provider(&fixture).await).await;
    let callers = start_callers(&db);
    let next = fixture
        .supervisor
        .status()
        .providers
        .remove(0)
        .next_fetch
        .expect("it is polled again");
    let due = Duration::from_secs(ttl(&fixture) + 1);
    assert!(
        next <= due + Duration::from_secs(1) && next + Duration::from_secs(1) >= due,
        "in {next:?}, due in {due:?}"
    );
    let mut generation = db.generation();
    for _ in 0..2 {
        generation = next_generation(&db, generation).await;
        callers.wait_for_more(50).await;
    }
    let polls = reads(&fixture);
    callers.stop_without_failure().await;
    // The old password is never published as a new one: each generation has its own password, and
    // each verification succeeded.
    assert_eq!(generation, 3);
    assert_eq!(
        fixture.server.rejected_logins(),
        0,
        "a password was tried that was not the database's"
    );
    // One read at the start, and for each rotation one or several. The engine is late by up to its
    // tick of 5 s: after 1, 2 and 4 s.
    assert!((3..=9).contains(&polls.len()), "{} reads", polls.len());
    assert!(
        polls
            .windows(2)
            .all(|pair| pair[1] - pair[0] >= Duration::from_millis(950)),
        "{polls:?}"
    );
    fixture.shutdown_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manual_rotation_is_followed_when_a_login_is_rejected() {
    let fixture = fixture(3_600).await;
    let db = pool_of_short_lived_connections(&fixture).await;
    let callers = start_callers(&db);
    callers.wait_for_more(100).await;
    let mut generation = db.generation();
    for rotation in 1..=4 {
        let (reads_before, rejected) = (reads(&fixture).len(), fixture.server.rejected_logins());
        fixture.admin(|admin| admin.rotate_role("app")).await;
        generation = next_generation(&db, generation).await;
        callers.wait_for_the_refill().await;
        let rejected = fixture.server.rejected_logins() - rejected;
        assert!(
            (1..=8 + 3).contains(&rejected),
            "{rejected} failed logins in rotation {rotation}"
        );
        let reads = reads(&fixture).len() - reads_before;
        assert!(
            (1..=3).contains(&reads),
            "{reads} reads in rotation {rotation}"
        );
    }
    callers.stop_without_failure().await;
    assert_eq!(generation, 5);
    fixture.shutdown_and_check().await;
}

/// The engine cannot log in, so nothing is rotated. The password keeps working, and is polled ever
/// more rarely.
#[tokio::test(flavor = "multi_thread")]
async fn an_overdue_rotation_is_polled_ever_more_rarely() {
    let fixture = fixture(5).await;
    let db = pool_of_short_lived_connections(&fixture).await;
    let callers = start_callers(&db);
    fixture.sql("ALTER ROLE engine NOLOGIN").await;
    fixture
        .sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'engine'")
        .await;
    eventually_within(Duration::from_secs(15), "it is due", || ttl(&fixture) == 0).await;
    let (before, generation) = (reads(&fixture).len(), db.generation());
    eventually_within(
        Duration::from_secs(40),
        "it is polled several times",
        || reads(&fixture).len() >= before + 4,
    )
    .await;
    let polls = reads(&fixture).split_off(before);
    assert_eq!(ttl(&fixture), 0, "the hazard: it is still due");
    let pauses: Vec<_> = polls.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(
        pauses.windows(2).all(|pair| pair[1] > pair[0]),
        "{pauses:?}"
    );
    let status = fixture.supervisor.status().providers.remove(0);
    assert!(
        status.last_error.is_none() && db.generation() == generation,
        "{:?}",
        status.last_error
    );
    fixture.sql("ALTER ROLE engine LOGIN").await;
    next_generation(&db, generation).await;
    callers.wait_for_more(100).await;
    callers.stop_without_failure().await;
    fixture.shutdown_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_the_rotation_is_the_revision() {
    let fixture = fixture(3_600).await;
    let role = provider(&fixture).await;
    let first = role
        .fetch_lease(FetchRequest::first())
        .await
        .expect("there is a lease");
    let same = role
        .fetch_lease(FetchRequest::new(RotationTrigger::Manual).with_current(first.clone()))
        .await
        .expect("there is a lease");
    assert_eq!(
        (same.revision(), same.secret().user()),
        (first.revision(), "app")
    );
    fixture.admin(|admin| admin.rotate_role("app")).await;
    // A rejected password that is unchanged is read again once, shortly after.
    let rejected = FetchRequest::new(RotationTrigger::Rejected)
        .with_current(first.clone())
        .with_rejected([first.revision().clone()]);
    let second = role.fetch_lease(rejected).await.expect("there is a lease");
    assert!(
        second.revision() != first.revision()
            && second.secret().expose_password() != first.secret().expose_password()
    );
    assert_eq!(reads(&fixture).len(), 3);
    let rejected = FetchRequest::new(RotationTrigger::Rejected)
        .with_current(second.clone())
        .with_rejected([second.revision().clone()]);
    assert_eq!(
        role.fetch_lease(rejected)
            .await
            .expect("there is a lease")
            .revision(),
        second.revision()
    );
    assert_eq!(reads(&fixture).len(), 5);
    role.close().await;
    fixture.shutdown_and_check().await;
}
