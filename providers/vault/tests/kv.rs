//! needs: openbao
//!
//! Credentials in a KV store: versions are written, deleted, destroyed and undeleted, at the cost
//! of few requests.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use claviger::error::ProviderErrorKind;
use claviger::provider::FetchRequest;
use claviger::report::RotationTrigger;
use claviger::status::ProviderStatus;
use claviger::{Credentials, Lease, Supervisor};
use claviger_fixtures::eventually_within;
use claviger_servers::Proxy;
use claviger_testkit::FetchLease;
use claviger_vault::{Auth, VaultKv, VaultSession};
use claviger_vault_fixtures::AsyncAdmin;
use serde_json::{Value, json};

const DATA: &str = "/v1/kv/data/orders";
const METADATA: &str = "/v1/kv/metadata/orders";

struct VaultFixture {
    admin: AsyncAdmin,
    proxy: Proxy,
    session: VaultSession,
    kv: VaultKv,
}

async fn fixture() -> VaultFixture {
    let admin = AsyncAdmin::with_a_secret().await;
    let token = admin.run(|admin| admin.token(json!({ "ttl": "1h" }))).await;
    VaultFixture::with_token(admin, token)
}

impl VaultFixture {
    fn with_token(admin: AsyncAdmin, token: String) -> Self {
        let proxy = admin.proxy();
        let session = VaultSession::new(proxy.endpoint(), Auth::token(token))
            .expect("the settings are valid");
        Self {
            kv: VaultKv::new(&session, "kv", "orders").expect("a path"),
            session,
            admin,
            proxy,
        }
    }

    async fn put(&self, data: Value) {
        self.admin.run(move |admin| admin.put(&data)).await;
    }

    async fn change_version(&self, operation: &'static str, version: u64) {
        self.admin
            .run(move |admin| admin.change_versions(operation, &[version]))
            .await;
    }

    /// Returns how often the data and the metadata were requested.
    fn requests_to(&self) -> (usize, usize) {
        (self.proxy.requests(DATA), self.proxy.requests(METADATA))
    }
}

fn password(lease: &Lease<Credentials>) -> String {
    lease.secret().expose_password().to_owned()
}

fn poll(current: &Lease<Credentials>) -> FetchRequest<Credentials> {
    FetchRequest::new(RotationTrigger::Schedule).with_current(current.clone())
}

fn status(supervisor: &Supervisor) -> ProviderStatus {
    supervisor.status().providers.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_a_revision_and_the_data_are_read_once_for_each() {
    let fixture = fixture().await;
    let first = fixture
        .kv
        .fetch_lease(FetchRequest::first())
        .await
        .expect("there is a lease");
    assert_eq!(
        (password(&first), fixture.requests_to()),
        ("password-1".to_owned(), (1, 0))
    );
    for look_ups in 1..4 {
        let again = fixture
            .kv
            .fetch_lease(poll(&first))
            .await
            .expect("there is a lease");
        assert_eq!(
            (again.revision(), fixture.requests_to()),
            (first.revision(), (1, look_ups))
        );
    }
    fixture
        .put(json!({ "username": "app", "password": "password-2" }))
        .await;
    let second = fixture
        .kv
        .fetch_lease(poll(&first))
        .await
        .expect("there is a lease");
    assert_ne!(second.revision(), first.revision());
    assert_eq!(
        (password(&second), fixture.requests_to()),
        ("password-2".to_owned(), (2, 4))
    );
    // The same value in another version is another revision: it was written on purpose.
    fixture
        .put(json!({ "username": "app", "password": "password-2" }))
        .await;
    let third = fixture
        .kv
        .fetch_lease(poll(&second))
        .await
        .expect("there is a lease");
    assert_ne!(third.revision(), second.revision());
    // A secret that is removed as a whole and written again begins at version 1.
    fixture
        .admin
        .run(|admin| {
            admin
                .vault
                .request("DELETE", "kv/metadata/orders", None)
                .map_err(Into::into)
        })
        .await;
    let error = fixture
        .kv
        .fetch_lease(poll(&third))
        .await
        .expect_err("there is none");
    assert!(
        error.kind() == ProviderErrorKind::NotFound
            && error.to_string().contains("secret kv/orders"),
        "{error}"
    );
    fixture
        .put(json!({ "username": "app", "password": "password-3" }))
        .await;
    let rewritten = fixture
        .kv
        .fetch_lease(poll(&first))
        .await
        .expect("there is a lease");
    assert!(rewritten.revision() != first.revision() && password(&rewritten) == "password-3");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_configurable_and_errors_name_them() {
    let fixture = fixture().await;
    let kv = VaultKv::builder(&fixture.session, "kv", "orders")
        .with_user_key("login")
        .with_password_key("pw")
        .build()
        .expect("a path");
    for (data, expected) in [
        (
            json!({ "username": "app", "password": "CANARY" }),
            "its key \"login\" is missing; write it, or set another key",
        ),
        (
            json!({ "login": "app", "pw": "" }),
            "its key \"pw\" must be a string that is not empty",
        ),
        (
            json!({ "login": "app", "pw": { "a": "CANARY" } }),
            "its key \"pw\" must be a string that is not empty",
        ),
        (
            json!({ "login": 7, "pw": "CANARY" }),
            "its key \"login\" must be a string",
        ),
    ] {
        fixture.admin.run(move |admin| admin.put(&data)).await;
        let error = kv
            .fetch_lease(FetchRequest::first())
            .await
            .expect_err("they are no credentials");
        assert!(
            error.kind() == ProviderErrorKind::Malformed && error.to_string().contains(expected),
            "{error}"
        );
        assert!(!format!("{error} {error:?}").contains("CANARY"));
    }
    fixture
        .admin
        .run(|admin| {
            admin.put(&json!({ "login": "app", "pw": "password-9", "password": "CANARY" }))
        })
        .await;
    let lease = kv
        .fetch_lease(FetchRequest::first())
        .await
        .expect("there is a lease");
    assert_eq!(
        (lease.secret().user(), password(&lease)),
        ("app", "password-9".to_owned())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_version_is_reported_and_the_previous_lease_stays_current() {
    let fixture = fixture().await;
    let current = fixture
        .kv
        .fetch_lease(FetchRequest::first())
        .await
        .expect("there is a lease");
    for (what, back, expected) in [
        (
            "delete",
            Some("undelete"),
            "version 2 was deleted; undelete it or write another",
        ),
        ("destroy", None, "version 2 was destroyed; write another"),
    ] {
        if what == "delete" {
            fixture
                .put(json!({ "username": "app", "password": "password-2" }))
                .await;
        }
        fixture.change_version(what, 2).await;
        // A poll finds it by the metadata, without a request for the data. A start requests only
        // the data.
        let before = fixture.requests_to();
        let error = fixture
            .kv
            .fetch_lease(poll(&current))
            .await
            .expect_err("it is gone");
        assert_eq!(error.kind(), ProviderErrorKind::NotFound, "{error}");
        assert!(
            error.to_string().contains(expected) && error.to_string().contains("stays in use"),
            "{error}"
        );
        assert_eq!(fixture.requests_to(), (before.0, before.1 + 1));
        let error = fixture
            .kv
            .fetch_lease(FetchRequest::first())
            .await
            .expect_err("it is gone");
        assert_eq!(error.kind(), ProviderErrorKind::NotFound, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        if let Some(back) = back {
            fixture.change_version(back, 2).await;
            let second = fixture
                .kv
                .fetch_lease(poll(&current))
                .await
                .expect("it is back");
            assert_eq!(password(&second), "password-2");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_keeps_its_lease_while_the_version_is_deleted_and_polls_the_metadata() {
    let VaultFixture {
        admin, proxy, kv, ..
    } = fixture().await;
    let calls = |path: &str| proxy.requests(path);
    let supervisor = Supervisor::builder()
        .with_poll_interval(Duration::from_secs(1))
        .start()
        .expect("the settings are valid");
    supervisor
        .add_provider("login", kv)
        .await
        .expect("there is a lease");
    eventually_within(Duration::from_secs(10), "it is polled", || {
        calls(METADATA) >= 3
    })
    .await;
    assert_eq!(calls(DATA), 1, "the data are read once");
    let before = status(&supervisor).revision;
    admin
        .run(|admin| admin.change_versions("delete", &[1]))
        .await;
    eventually_within(Duration::from_secs(10), "it is found", || {
        status(&supervisor).last_error.is_some()
    })
    .await;
    let error = status(&supervisor).last_error.expect("it is there");
    assert!(
        error.kind() == ProviderErrorKind::NotFound
            && error.to_string().contains("version 1 was deleted"),
        "{error}"
    );
    assert!(status(&supervisor).revision == before && before.is_some());
    admin
        .run(|admin| admin.put(&json!({ "username": "app", "password": "password-2" })))
        .await;
    supervisor
        .rotate_now("login")
        .await
        .expect("there is a new version");
    assert!(status(&supervisor).last_error.is_none() && status(&supervisor).revision != before);
    assert_eq!(calls(DATA), 2);
    supervisor.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn the_data_are_polled_when_the_metadata_are_forbidden() {
    let policy = |path: &str| format!(r#"path "kv/{path}" {{ capabilities = ["read"] }}"#);
    let admin = AsyncAdmin::with_a_secret().await;
    let token = admin
        .run(move |admin| {
            admin.write(
                "sys/policies/acl/data",
                &json!({ "policy": policy("data/*") }),
            )?;
            let response = admin.write("auth/token/create", &json!({ "policies": ["data"] }))?;
            claviger_vault_fixtures::text(&response["auth"]["client_token"])
        })
        .await;
    let fixture = VaultFixture::with_token(admin, token);
    let mut current = fixture
        .kv
        .fetch_lease(FetchRequest::first())
        .await
        .expect("there is a lease");
    for polls in 1..4 {
        let again = fixture
            .kv
            .fetch_lease(poll(&current))
            .await
            .expect("there is a lease");
        assert_eq!(again.revision(), current.revision());
        assert_eq!(
            fixture.requests_to(),
            (1 + polls, 1),
            "forbidden once, and not requested again"
        );
        current = again;
    }
    fixture
        .put(json!({ "username": "app", "password": "password-2" }))
        .await;
    let current = fixture
        .kv
        .fetch_lease(poll(&current))
        .await
        .expect("there is a lease");
    assert_eq!(
        (password(&current), fixture.requests_to()),
        ("password-2".to_owned(), (5, 1))
    );
    // A permission that is granted later is found within an hour.
    fixture
        .admin
        .run(move |admin| {
            admin
                .write("sys/policies/acl/data", &json!({ "policy": policy("*") }))
                .map(drop)
        })
        .await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(3_600)).await;
    tokio::time::resume();
    for polls in 2..4 {
        let again = fixture
            .kv
            .fetch_lease(poll(&current))
            .await
            .expect("there is a lease");
        assert_eq!(
            (again.revision(), fixture.requests_to()),
            (current.revision(), (5, polls))
        );
    }
}
