//! needs: postgresql, openbao
//!
//! A secret id is used up under load. The error is reported while callers still succeed. The next
//! id in the file is used at once.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::time::Duration;

use claviger::error::ProviderErrorKind;
use claviger::status::ProviderStatus;
use claviger_fixtures::eventually_within;
use claviger_servers::Postgres;
use claviger_vault::{Auth, SecretId, VaultDynamic};
use claviger_vault_fixtures::{
    Identity, ORDERS, Revocation, VaultFixture, next_generation, start_callers,
};
use common::{assert_permanent, session};
use serde_json::json;
use tempfile::NamedTempFile;

fn status(fixture: &VaultFixture<Postgres>) -> ProviderStatus {
    fixture.supervisor.status().providers.remove(0)
}

async fn wait_for_the_reported_error(fixture: &VaultFixture<Postgres>) {
    eventually_within(Duration::from_secs(30), "the error is reported", || {
        status(fixture).last_error.is_some()
    })
    .await;
    let error = status(fixture).last_error.expect("it is there");
    assert_permanent(
        &error,
        ProviderErrorKind::Denied,
        "the secret id has expired or is used up; issue another",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_up_secret_id_is_reported_before_callers_fail_and_replaced_at_once() {
    let fixture = VaultFixture::<Postgres>::new(300, 600, Revocation::Terminating).await;
    let settings = json!({ "secret_id_num_uses": 1, "token_ttl": "12s", "token_max_ttl": "16s" });
    let Identity { role_id, secret_id } = fixture.identity_with(settings).await;
    let file = NamedTempFile::new().expect("a file");
    fs::write(&file, secret_id).expect("it is written");
    let auth = Auth::app_role(role_id, SecretId::file(file.path()));
    let session = session(fixture.proxy.endpoint(), auth);
    let db = fixture
        .pool(VaultDynamic::new(&session, "database", "orders").expect("a role"))
        .await;
    let logins = || fixture.requests_to("auth/approle/login");
    let next_secret_id = async || {
        let secret_id = fixture.admin(|admin| admin.secret_id()).await;
        fs::write(&file, secret_id).expect("it is written");
    };

    // The next id is written in time: no caller fails.
    let callers = start_callers(&db);
    wait_for_the_reported_error(&fixture).await;
    assert!(
        status(&fixture)
            .remaining
            .is_some_and(|left| left > Duration::from_secs(2)),
        "the hazard: the token is valid"
    );
    next_secret_id().await;
    let generation = next_generation(&db, 1).await;
    callers.wait_for_more(100).await;
    callers.stop_without_failure().await;

    // The next id is written too late: the token has expired, and the user with it.
    wait_for_the_reported_error(&fixture).await;
    let ended = async { while sqlx::query(ORDERS).execute(&db).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(20), ended)
        .await
        .expect("the hazard: callers fail");
    assert_eq!(db.generation(), generation);
    let tried = logins();
    assert!(tried <= 8, "{tried} logins");
    next_secret_id().await;
    next_generation(&db, generation).await;
    let callers = start_callers(&db);
    callers.wait_for_more(100).await;
    assert_eq!(callers.stop().await.failed, Vec::<String>::new());
    fixture.shutdown_and_check().await;
}
