//! needs: postgresql, openbao, quiet
//!
//! Dynamic users under load: renewed, replaced before their maximum, drained, revoked.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use claviger::Supervisor;
use claviger::error::ProviderErrorKind;
use claviger_fixtures::Callers;
use claviger_servers::Postgres;
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
