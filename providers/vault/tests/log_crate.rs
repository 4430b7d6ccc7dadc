//! needs: postgresql, openbao
//!
//! A service that logs through the `log` crate and has no tracing subscriber. After fetches by each
//! provider it still logs its own lines, and no secret at any level.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use claviger::provider::FetchRequest;
use claviger_fixtures::LogRecorder;
use claviger_servers::Postgres;
use claviger_testkit::FetchLease;
use claviger_vault::{Auth, SecretId, VaultDynamic, VaultKv, VaultSession, VaultStatic};
use claviger_vault_fixtures::{MOUNT, ROLE, Revocation, VaultFixture, text};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_neither_silences_the_process_nor_shows_a_secret() {
    let log = LogRecorder::everything();
    let fixture = VaultFixture::<Postgres>::new(60, 120, Revocation::Terminating).await;
    fixture
        .sql("CREATE ROLE rotated LOGIN PASSWORD 'password-2' IN ROLE app")
        .await;
    let (role_id, secret_id) = fixture
        .admin(|admin| {
            admin.static_role("rotated", 3_600)?;
            admin.kv(&json!({ "username": "app", "password": "CANARY-password" }))?;
            admin.app_role(json!({ "token_ttl": "60s", "token_max_ttl": "1h" }))?;
            let role = "auth/approle/role/orders";
            let role_id = text(&admin.read(&format!("{role}/role-id"))?["data"]["role_id"])?;
            let issued = admin.write(&format!("{role}/secret-id"), &json!({}))?;
            Ok((role_id, text(&issued["data"]["secret_id"])?))
        })
        .await;
    let auth = Auth::app_role(role_id, SecretId::given(&*secret_id));
    let session = VaultSession::new(fixture.proxy.endpoint(), auth).expect("valid settings");
    let kv = VaultKv::new(&session, "kv", "orders").expect("a path");
    let dynamic = VaultDynamic::new(&session, MOUNT, ROLE).expect("a role");
    let rotated = VaultStatic::new(&session, MOUNT, "rotated").expect("a role");
    let leases = [
        kv.fetch_lease(FetchRequest::first()).await,
        dynamic.fetch_lease(FetchRequest::first()).await,
        rotated.fetch_lease(FetchRequest::first()).await,
    ]
    .map(|lease| lease.expect("a lease"));
    log.assert_not_silenced();

    let tokens = fixture
        .proxy
        .responses()
        .iter()
        .filter_map(|response| serde_json::from_str::<Value>(response).ok())
        .filter_map(|response| response["auth"]["client_token"].as_str().map(str::to_owned))
        .collect::<Vec<_>>();
    assert!(!tokens.is_empty(), "the hazard: a token was issued");
    let passwords = leases
        .iter()
        .map(|lease| lease.secret().expose_password())
        .collect::<Vec<_>>();
    assert_eq!(passwords[0], "CANARY-password");
    let secrets = tokens
        .iter()
        .map(String::as_str)
        .chain(passwords)
        .chain([secret_id.as_str()])
        .collect::<Vec<_>>();
    let shown = log.lines_containing(&secrets);
    assert!(shown.is_empty(), "{shown:#?}");
}
