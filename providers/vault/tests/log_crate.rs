//! needs: openbao
//!
//! A service that logs through the `log` crate, without a tracing subscriber. A fetch leaves its
//! logger as it was, and logs no secret at any level.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::Mutex;

use claviger::{FetchRequest, Provider};
use claviger_vault::{Auth, SecretId, VaultKv, VaultSession};
use claviger_vault_stage::{Clerk, text};
use serde_json::json;

static LINES: Mutex<String> = Mutex::new(String::new());

struct Lines;

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LINES.lock().expect("nobody panics").push_str(&format!("{} {} {}\n", record.level(), record.target(), record.args()));
    }

    fn flush(&self) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_neither_silences_the_process_nor_logs_a_secret() {
    log::set_logger(&Lines).expect("the only logger");
    log::set_max_level(log::LevelFilter::Trace);
    let clerk = Clerk::start().await;
    let (role_id, secret_id) = clerk
        .asks(|admin| {
            admin.kv(&json!({ "username": "app", "password": "CANARY-password" }))?;
            admin.write("sys/policies/acl/app", &json!({ "policy": r#"path "kv/*" { capabilities = ["read"] }"# }))?;
            admin.write("sys/auth/approle", &json!({ "type": "approle" }))?;
            admin.write("auth/approle/role/app", &json!({ "token_policies": ["app"] }))?;
            let role_id = admin.read("auth/approle/role/app/role-id")?["data"]["role_id"].clone();
            let secret_id = admin.write("auth/approle/role/app/secret-id", &json!({}))?["data"]["secret_id"].clone();
            Ok((text(&role_id)?, text(&secret_id)?))
        })
        .await;
    let proxy = clerk.proxy();
    let session = VaultSession::builder(proxy.endpoint(), Auth::app_role(&*role_id, SecretId::given(&*secret_id)));
    let session = session.build().expect("it can be right");
    let lease = VaultKv::new(&session, "kv", "orders").expect("a path").fetch(FetchRequest::first()).await.expect("a lease");
    assert_eq!(lease.secret().expose_password(), "CANARY-password", "the hazard: secrets went through");

    log::info!("the service's own line");
    tracing::info!("a line of the library's");
    let lines = LINES.lock().expect("nobody panics").clone();
    assert!(lines.contains("the service's own line"), "the logger receives what is logged");
    assert!(lines.contains("a line of the library's"), "tracing still writes to it");
    let login: Vec<String> = proxy
        .answers()
        .iter()
        .filter_map(|answer| serde_json::from_str::<serde_json::Value>(answer).ok())
        .filter_map(|answer| answer["auth"]["client_token"].as_str().map(str::to_owned))
        .collect();
    assert!(!login.is_empty(), "the hazard: a token was issued");
    for secret in login.iter().chain([&secret_id, &"CANARY-password".to_owned()]) {
        let shown: Vec<_> = lines.lines().filter(|line| line.contains(secret.as_str())).collect();
        assert!(shown.is_empty(), "{shown:?}");
    }
}
