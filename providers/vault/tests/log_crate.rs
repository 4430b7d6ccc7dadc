//! needs: openbao
//!
//! A service that logs through the `log` crate and has no tracing subscriber. After a fetch it
//! still logs its own lines, and no secret at any level.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use claviger::provider::FetchRequest;
use claviger_fixtures::LogRecorder;
use claviger_testkit::FetchLease;
use claviger_vault::{Auth, SecretId, VaultKv, VaultSession};
use claviger_vault_fixtures::{AsyncAdmin, text};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_neither_silences_the_process_nor_shows_a_secret() {
    let log = LogRecorder::everything();
    let admin = AsyncAdmin::start().await;
    let (role_id, secret_id) = admin
        .run(|admin| {
            admin.kv(&json!({ "username": "app", "password": "CANARY-password" }))?;
            admin.write(
                "sys/policies/acl/app",
                &json!({ "policy": r#"path "kv/*" { capabilities = ["read"] }"# }),
            )?;
            admin.write("sys/auth/approle", &json!({ "type": "approle" }))?;
            admin.write(
                "auth/approle/role/app",
                &json!({ "token_policies": ["app"] }),
            )?;
            let role_id = admin.read("auth/approle/role/app/role-id")?["data"]["role_id"].clone();
            let secret_id =
                admin.write("auth/approle/role/app/secret-id", &json!({}))?["data"]["secret_id"]
                    .clone();
            Ok((text(&role_id)?, text(&secret_id)?))
        })
        .await;
    let proxy = admin.proxy();
    let session = VaultSession::builder(
        proxy.endpoint(),
        Auth::app_role(&*role_id, SecretId::given(&*secret_id)),
    );
    let session = session.build().expect("the settings are valid");
    let lease = VaultKv::new(&session, "kv", "orders")
        .expect("a path")
        .fetch_lease(FetchRequest::first())
        .await
        .expect("a lease");
    assert_eq!(
        lease.secret().expose_password(),
        "CANARY-password",
        "the hazard: a secret was fetched"
    );

    log.assert_not_silenced();
    let tokens: Vec<String> = proxy
        .responses()
        .iter()
        .filter_map(|response| serde_json::from_str::<serde_json::Value>(response).ok())
        .filter_map(|response| response["auth"]["client_token"].as_str().map(str::to_owned))
        .collect();
    assert!(!tokens.is_empty(), "the hazard: a token was issued");
    let secrets: Vec<_> = tokens
        .iter()
        .map(String::as_str)
        .chain([secret_id.as_str(), "CANARY-password"])
        .collect();
    let shown = log.lines_containing(&secrets);
    assert!(shown.is_empty(), "{shown:#?}");
}
