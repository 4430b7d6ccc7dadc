//! needs: openbao
//!
//! A time to live beyond the clock's range counts as none, and causes no panic.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use claviger::provider::FetchRequest;
use claviger::report::RotationTrigger;
use claviger_servers::InjectedFault;
use claviger_testkit::FetchLease;
use claviger_vault::{Auth, SecretId, VaultDynamic, VaultStatic};
use claviger_vault_fixtures::AsyncAdmin;
use common::{fetch, kv, session, temp_file};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_token_with_a_lifetime_beyond_the_clock_is_used() {
    let admin = AsyncAdmin::with_a_secret().await;
    let token = admin.run(|admin| admin.token(json!({}))).await;
    for renewable in [true, false] {
        let proxy = admin.proxy();
        let poll = json!({ "data": {
            "ttl": u64::MAX,
            "expire_time": "9999-01-01T00:00:00Z",
            "renewable": renewable,
            "type": "service",
        } });
        proxy.fault_on(
            "/v1/auth/token/lookup-self",
            InjectedFault::reply(200, poll.to_string()),
        );
        fetch(&kv(&session(proxy.endpoint(), Auth::token(&*token))))
            .await
            .expect("a given token");
        let file = temp_file(&token);
        fetch(&kv(&session(
            proxy.endpoint(),
            Auth::token_file(file.path()),
        )))
        .await
        .expect("a token in a file");
        let response = json!({ "auth": {
            "client_token": token,
            "lease_duration": u64::MAX,
            "renewable": renewable,
            "token_type": "service",
        } });
        proxy.fault_on(
            "/v1/auth/approle/login",
            InjectedFault::reply(200, response.to_string()),
        );
        fetch(&kv(&session(
            proxy.endpoint(),
            Auth::app_role("role", SecretId::none()),
        )))
        .await
        .expect("a token of a login");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_with_a_lifetime_beyond_the_clock_is_used() {
    let admin = AsyncAdmin::with_a_secret().await;
    let token = admin.run(|admin| admin.token(json!({}))).await;
    let proxy = admin.proxy();
    let data = json!({
        "username": "app",
        "password": "password-1",
        "ttl": u64::MAX,
        "rotation_period": u64::MAX,
        "last_vault_rotation": "9",
    });
    let lease = json!({
        "lease_id": "database/creds/orders/1",
        "lease_duration": u64::MAX,
        "renewable": true,
        "data": data,
    })
    .to_string();
    for operation in [
        "/v1/database/creds/orders",
        "/v1/database/static-creds/orders",
        "/v1/sys/leases/renew",
    ] {
        proxy.fault_on(operation, InjectedFault::reply(200, &*lease));
    }
    let session = session(proxy.endpoint(), Auth::token(&*token));
    let dynamic = VaultDynamic::new(&session, "database", "orders").expect("a role");
    let fixed = VaultStatic::new(&session, "database", "orders").expect("a role");
    let first = dynamic
        .fetch_lease(FetchRequest::first())
        .await
        .expect("a user");
    let mut again = FetchRequest::new(RotationTrigger::ClockJump);
    again.current = Some(first);
    assert_eq!(
        dynamic
            .fetch_lease(again)
            .await
            .expect("the same user")
            .secret()
            .user(),
        "app"
    );
    assert_eq!(
        fixed
            .fetch_lease(FetchRequest::first())
            .await
            .expect("a static role")
            .secret()
            .user(),
        "app"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn times_and_versions_beyond_the_clock_cause_no_panic() {
    let admin = AsyncAdmin::with_a_secret().await;
    let token = admin.run(|admin| admin.token(json!({}))).await;
    let proxy = admin.proxy();
    let session = session(proxy.endpoint(), Auth::token(&*token));
    for time in [
        "9999-12-31T23:59:60Z",
        "1970-01-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "ééééééééééééééééééé",
        "2026-01-01T00:00:00+",
    ] {
        let data = json!({
            "data": { "username": "app", "password": "p" },
            "metadata": { "version": u64::MAX, "created_time": time, "deletion_time": time },
        });
        proxy.fault_on(
            "/v1/kv/data/orders",
            InjectedFault::reply(200, json!({ "data": data }).to_string()),
        );
        if let Err(error) = fetch(&kv(&session)).await {
            assert!(error.to_string().contains("was deleted"), "{time}: {error}");
        }
    }
}
