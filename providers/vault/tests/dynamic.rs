//! needs: postgresql, openbao, quiet
//!
//! Dynamic users under load: renewed, replaced before their maximum, drained, revoked.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use claviger::error::ProviderErrorKind;
use claviger::provider::FetchRequest;
use claviger::report::RotationTrigger;
use claviger::{Handle, PgPools, Provider, Supervisor};
use claviger_fixtures::{Callers, eventually_within};
use claviger_servers::{InjectedFault, Postgres};
use claviger_testkit::FetchLease;
use claviger_vault::{Auth, SecretId, VaultDynamic, VaultSession};
use claviger_vault_fixtures::{Identity, Revocation, VaultFixture, next_generation};

/// Returns the value of `CLAVIGER_VAULT_ROTATIONS`, or the default number of rotations.
fn rotations(default: u64) -> u64 {
    std::env::var("CLAVIGER_VAULT_ROTATIONS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

async fn log_in(fixture: &VaultFixture<Postgres>) -> VaultSession {
    let Identity { role_id, secret_id } = fixture.identity().await;
    VaultSession::new(
        fixture.admin.vault.address(),
        Auth::app_role(role_id, SecretId::given(secret_id)),
    )
    .expect("the settings are valid")
}

/// Rotates users (ttl 10 s, max_ttl 30 s) under load until there were `wanted` rotations.
async fn rotate_users(revocation: Revocation, wanted: u64) {
    let fixture = VaultFixture::<Postgres>::new(10, 30, revocation).await;
    let session = log_in(&fixture).await;
    let db = fixture
        .pool(VaultDynamic::new(&session, "database", "orders").expect("a role"))
        .await;
    let callers = Callers::start_with(&db, 8, "SELECT count(*) FROM orders");

    // Once by the lease's maximum, then manually.
    let mut generation = next_generation(&db, db.generation()).await;
    let mut most = 0;
    for _ in 1..wanted {
        generation = fixture.rotate(&db, generation).await;
        callers.wait_for_more(50).await;
        most = most.max(fixture.leases().await.len());
    }
    callers.stop_without_failure().await;
    assert!(generation > wanted, "{generation} generations");
    assert!(most <= 3, "{most} leases at once");
    fixture.shutdown_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_rotate_under_load_and_none_is_left() {
    rotate_users(Revocation::Terminating, rotations(20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_whose_connections_stay_open_rotate_and_none_is_left() {
    rotate_users(Revocation::Default, rotations(20) / 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_is_not_there_ends_the_registration_at_once() {
    let fixture = VaultFixture::<Postgres>::new(10, 30, Revocation::Default).await;
    let session = log_in(&fixture).await;
    let provide = async |mount: &str| {
        let supervisor = Supervisor::start();
        let error = supervisor
            .add_provider(
                "login",
                VaultDynamic::new(&session, mount, "absent").expect("a role"),
            )
            .await
            .err();
        error
            .and_then(|error| error.provider_error().cloned())
            .expect("the provider's own error")
    };
    for (mount, expected) in [("database", "no such role"), ("elsewhere", "")] {
        let error = provide(mount).await;
        assert!(
            matches!(
                error.kind(),
                ProviderErrorKind::NotFound | ProviderErrorKind::Denied
            ),
            "{error}"
        );
        assert!(error.to_string().contains(expected), "{error}");
    }
}

async fn database_user(db: &Handle<PgPools>) -> String {
    let user = sqlx::query_scalar("SELECT current_user::text");
    user.fetch_one(db).await.expect("the query succeeds")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_returns_to_its_previous_user_and_none_is_left() {
    let kept = Duration::from_secs(600);
    let builder = Supervisor::builder().with_previous_lease_kept_for(kept);
    let fixture = VaultFixture::<Postgres>::with(builder, 300, 600, Revocation::Terminating).await;
    let session = log_in(&fixture).await;
    let db = fixture
        .pool(VaultDynamic::new(&session, "database", "orders").expect("a role"))
        .await;
    let supervisor = &fixture.supervisor;
    let first = database_user(&db).await;
    supervisor.rotate_now("login").await.expect("another user");
    let second = database_user(&db).await;
    assert_ne!(first, second);
    eventually_within(Duration::from_secs(60), "the old connections close", || {
        supervisor.status().pools[0].draining.is_empty()
    })
    .await;
    assert_eq!(fixture.users().await.len(), 2, "the previous user is kept");
    supervisor.roll_back("orders").await.expect("it is kept");
    assert_eq!(database_user(&db).await, first);
    supervisor.resume("login").expect("it is registered");
    next_generation(&db, 3).await;
    assert_eq!(database_user(&db).await, second);
    fixture.shutdown_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_of_a_held_provider_creates_no_user() {
    // Shorter than the token's ttl: the lease itself is renewed.
    let fixture = VaultFixture::<Postgres>::new(30, 600, Revocation::Default).await;
    let Identity { role_id, secret_id } = fixture.identity().await;
    let auth = Auth::app_role(role_id, SecretId::given(secret_id));
    let session = VaultSession::new(fixture.proxy.endpoint(), auth).expect("valid settings");
    let provider = VaultDynamic::new(&session, "database", "orders").expect("a role");
    let lease = provider.fetch_lease(FetchRequest::first()).await;
    let lease = lease.expect("a user");
    // After a clock jump a renewal is requested, however young the lease is.
    let request = || FetchRequest::new(RotationTrigger::ClockJump).with_current(lease.clone());
    let renewed = provider.renew(request()).await.expect("it responds");
    assert!(renewed.is_some(), "it is renewed");
    assert_eq!(fixture.requests_to("sys/leases/renew"), 1);
    assert_eq!(fixture.users().await.len(), 1);
    // So does the server respond while the database is down.
    let failed = InjectedFault::reply(400, r#"{"errors":["failed to renew entry"]}"#);
    fixture.proxy.fault_on("/v1/sys/leases/renew", failed);
    let error = provider.renew(request()).await.expect_err("it fails");
    assert!(error.is_transient(), "it is tried again: {error}");
    fixture.proxy.heal();
    let renewed = provider.renew(request()).await.expect("it responds");
    assert!(renewed.is_some(), "it is renewed again");
    provider
        .release(lease.clone())
        .await
        .expect("it is revoked");
    let renewed = provider.renew(request()).await.expect("it responds");
    assert_eq!(renewed, None, "it is not known");
    assert_eq!(fixture.users().await.len(), 0, "and no other is created");
    provider.close().await;
}
