//! Each response that contains no user has its own error.

use std::time::Duration;

use claviger::Provider;
use claviger::error::{ProviderError, ProviderErrorKind as Kind};
use claviger::provider::FetchRequest;
use claviger_servers::{InjectedFault, Postgres};
use claviger_testkit::FetchLease;
use claviger_vault::{Auth, SecretId, VaultDynamic, VaultSession};
use claviger_vault_fixtures::{ENGINE_USER, ORDERS, Revocation, VaultFixture};
use serde_json::json;

use crate::service::{Service, dynamic, session};

const CREDS: &str = "/v1/database/creds/orders";

async fn fixture() -> VaultFixture<Postgres> {
    VaultFixture::new(60, 120, Revocation::Terminating).await
}

async fn fetch_error(provider: &VaultDynamic) -> ProviderError {
    provider
        .fetch_lease(FetchRequest::first())
        .await
        .map(drop)
        .expect_err("there is no user")
}

fn assert_error(error: &ProviderError, kind: Kind, expected: &str) {
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(expected), "{error}");
    let (problem, action) = error.message().split_once("; ").unwrap_or_default();
    assert!(!problem.is_empty() && !action.is_empty(), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_of_a_real_server_has_its_error_kind() {
    let fixture = fixture().await;
    let identity = fixture.identity().await;
    let provider = dynamic(&session(&fixture, identity.clone()));
    let lease = provider
        .fetch_lease(FetchRequest::first())
        .await
        .expect("a user");
    provider.release(lease).await.expect("it is released");

    // The token is valid and lacks the permission. A lookup distinguishes it from an invalid one.
    fixture
        .admin(|admin| {
            admin.write(
                "sys/policies/acl/orders",
                &json!({ "policy": r#"path "kv/*" { capabilities = ["read"] }"# }),
            )
        })
        .await;
    assert_error(
        &fetch_error(&provider).await,
        Kind::Denied,
        "grant `read` on database/creds/orders",
    );
    assert_eq!(
        fixture.requests_to("auth/approle/login"),
        1,
        "the token is still valid"
    );
    fixture.admin(|admin| admin.policy()).await;

    // The database is down, not Vault.
    let server = fixture.server.clone();
    tokio::task::spawn_blocking(move || server.stop())
        .await
        .expect("no panic")
        .expect("it is down");
    assert_error(
        &fetch_error(&provider).await,
        Kind::Unavailable,
        "the database",
    );
    let server = fixture.server.clone();
    tokio::task::spawn_blocking(move || server.start_again())
        .await
        .expect("no panic")
        .expect("it is back");

    // A server that hangs.
    let auth = Auth::app_role(identity.role_id, SecretId::given(identity.secret_id));
    let session_with_short_timeout = VaultSession::builder(fixture.proxy.endpoint(), auth)
        .with_timeout(Duration::from_millis(500))
        .build()
        .expect("a session");
    fixture.admin(|admin| Ok(admin.vault.stall()?)).await;
    assert_error(
        &fetch_error(&dynamic(&session_with_short_timeout)).await,
        Kind::TimedOut,
        "timed out",
    );
    fixture.admin(|admin| Ok(admin.vault.resume()?)).await;
    let lease = provider
        .fetch_lease(FetchRequest::first())
        .await
        .expect("a new user");
    provider.release(lease).await.expect("it is released");
    assert_eq!(fixture.leases().await, Vec::<String>::new());
}

async fn write(fixture: &VaultFixture<Postgres>, path: &'static str, body: serde_json::Value) {
    fixture.admin(move |admin| admin.write(path, &body)).await;
}

/// The engine and its user reject what the role needs. Each error has what to change.
#[tokio::test(flavor = "multi_thread")]
async fn each_error_of_the_engine_has_a_remedy_of_its_own() {
    let fixture = fixture().await;
    let provider = dynamic(&session(&fixture, fixture.identity().await));
    let statements = |sql: &str| json!({ "db_name": "orders", "creation_statements": [sql] });
    let create = r#"CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}'"#;
    for (statement, expected) in [
        (
            create.replace("ROLE", "ROL"),
            "the database rejects a statement of the role (SQLSTATE 42601); correct",
        ),
        (
            create.to_owned() + " IN ROLE absent",
            "the database rejects a statement of the role (SQLSTATE 42704); correct",
        ),
    ] {
        let role = statements(&statement);
        write(&fixture, "database/roles/orders", role).await;
        assert_error(&fetch_error(&provider).await, Kind::Misconfigured, expected);
    }
    let role = statements(create);
    write(&fixture, "database/roles/orders", role).await;
    let server = fixture.server.clone();
    let sql = move |sql: String| {
        let server = server.clone();
        tokio::task::spawn_blocking(move || server.sql(&sql).map(drop).expect("it is done"))
    };
    let altered = sql(format!("ALTER ROLE {ENGINE_USER} NOSUPERUSER")).await;
    altered.expect("no panic");
    assert_error(
        &fetch_error(&provider).await,
        Kind::Denied,
        "the engine's user lacks a permission in the database (SQLSTATE 42501); grant",
    );
    let altered = sql(format!("ALTER ROLE {ENGINE_USER} PASSWORD 'another'")).await;
    altered.expect("no panic");
    let ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = ";
    let ended = sql(format!("{ended}'{ENGINE_USER}'")).await;
    ended.expect("no panic");
    assert_error(
        &fetch_error(&provider).await,
        Kind::Unavailable,
        "the database rejects the login of the engine's user (SQLSTATE 28P01); correct",
    );
    let others = json!({ "allowed_roles": ["others"], "verify_connection": false });
    write(&fixture, "database/config/orders", others).await;
    assert_error(
        &fetch_error(&provider).await,
        Kind::Denied,
        "the engine's connection does not allow this role; add it to `allowed_roles`",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_response_of_a_node_that_cannot_serve_has_its_error() {
    let fixture = fixture().await;
    let provider = dynamic(&session(&fixture, fixture.identity().await));
    for (status, body, kind, expected) in [
        (
            412,
            r#"{"errors":["required index state not present"]}"#,
            Kind::Unavailable,
            "not yet received",
        ),
        (472, r#"{"errors":[]}"#, Kind::Unavailable, "a standby"),
        (473, "", Kind::Unavailable, "a standby"),
        (
            500,
            r#"{"errors":["local node not active but active cluster node not found"]}"#,
            Kind::Unavailable,
            "without an active node",
        ),
        (
            503,
            r#"{"errors":["Vault is sealed"]}"#,
            Kind::Unavailable,
            "unseal it",
        ),
        (
            502,
            "<html>bad gateway</html>",
            Kind::Unavailable,
            "status 502",
        ),
        (
            429,
            r#"{"errors":["rate limit quota exceeded"]}"#,
            Kind::Throttled,
            "quota",
        ),
        (
            200,
            "<html>a page to log in</html>",
            Kind::Unavailable,
            "not a complete one",
        ),
        (
            200,
            r#"{"lease_id":"","lease_duration":0,"data":{"username":"u","password":"p"}}"#,
            Kind::Malformed,
            "no lease",
        ),
    ] {
        fixture
            .proxy
            .fault_on(CREDS, InjectedFault::reply(status, body));
        assert_error(&fetch_error(&provider).await, kind, expected);
    }
    fixture.proxy.fault_on(CREDS, InjectedFault::Refuse);
    assert_error(
        &fetch_error(&provider).await,
        Kind::Unavailable,
        "cannot be reached",
    );
    assert_eq!(
        fixture.requests_to("auth/approle/login"),
        1,
        "no response makes the token invalid"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_retry_time_of_a_quota_is_respected() {
    let service = Service::start(60, 120, Revocation::Terminating).await;
    let callers = service.callers(ORDERS);
    service
        .fixture
        .admin(|admin| {
            admin.write(
                "sys/quotas/config",
                &json!({ "enable_rate_limit_response_headers": true }),
            )?;
            admin.write(
                "sys/quotas/rate-limit/creds",
                &json!({ "path": "database/creds/orders", "rate": 1, "interval": "30s" }),
            )
        })
        .await;
    service.rotate().await;
    assert_error(&service.rotation_fails().await, Kind::Throttled, "quota");
    let wait = service.fixture.supervisor.status().providers[0]
        .next_fetch
        .expect("it is retried");
    assert!(
        wait > Duration::from_secs(5),
        "without the quota's retry time, a failure is retried after a second: {wait:?}"
    );
    callers.wait_for_more(50).await;
    callers.stop_without_failure().await;
    service.fixture.wait_for_one_lease().await;
    service.shutdown_and_check().await;
}
