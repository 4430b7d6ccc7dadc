//! Leases that no pool uses are released, whatever fails in between.

use std::time::Duration;

use claviger::Supervisor;
use claviger::error::ProviderErrorKind;
use claviger::provider::FetchRequest;
use claviger_fixtures::eventually_within;
use claviger_servers::{InjectedFault, Postgres};
use claviger_testkit::FetchLease;
use claviger_vault::{Auth, SecretId, VaultSession};
use claviger_vault_fixtures::{Identity, MOUNT, ORDERS, Revocation, VaultFixture, next_generation};
use serde_json::json;

use crate::service::{Service, dynamic};

const CREDS: &str = "/v1/database/creds/orders";
const REVOKE: &str = "/v1/sys/leases/revoke";
const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_user_created_too_late_is_released() {
    let service = Service::with(
        Supervisor::builder().with_fetch_deadline(SECOND),
        60,
        120,
        Revocation::Terminating,
    )
    .await;
    let callers = service.callers(ORDERS);
    service
        .fixture
        .proxy
        .fault_on(CREDS, InjectedFault::Delay(2 * SECOND));
    let error = service.rotation_fails().await;
    assert_eq!(error.kind(), ProviderErrorKind::TimedOut, "{error}");
    service.fixture.proxy.heal();
    eventually_within(20 * SECOND, "it is released", || {
        service.fixture.proxy.requests(REVOKE) > 0
    })
    .await;
    service.fixture.wait_for_one_lease().await;
    assert_eq!(service.db.generation(), 1);
    callers.stop_without_failure().await;
    service.shutdown_and_check().await;
}

/// Returns the response of a server that cannot revoke a lease.
fn failed_revocation() -> InjectedFault {
    InjectedFault::reply(500, r#"{"errors":["failed to revoke entry"]}"#)
}

/// Returns a session that waits a second for each response.
async fn session_with_short_timeout(fixture: &VaultFixture<Postgres>) -> VaultSession {
    let Identity { role_id, secret_id } = fixture.identity().await;
    let auth = Auth::app_role(role_id, SecretId::given(secret_id));
    VaultSession::builder(fixture.proxy.endpoint(), auth)
        .with_timeout(SECOND)
        .build()
        .expect("a session")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_no_caller_waits_for_is_revoked() {
    let fixture = VaultFixture::<Postgres>::new(60, 120, Revocation::Terminating).await;
    let session = session_with_short_timeout(&fixture).await;
    fixture
        .proxy
        .fault_on("/v1/auth/approle/login", InjectedFault::Delay(3 * SECOND));
    let error = dynamic(&session)
        .fetch_lease(FetchRequest::first())
        .await
        .map(drop)
        .expect_err("there is no token");
    assert!(
        error.to_string().contains("the request timed out"),
        "{error}"
    );
    fixture.proxy.heal();
    // The login, without which nothing is tested, and the revocation.
    eventually_within(20 * SECOND, "it is revoked", || {
        fixture.proxy.responses().len() == 2
    })
    .await;
    assert_eq!(fixture.requests_to("auth/token/revoke-self"), 1);
    fixture.shutdown_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_no_caller_waits_for_is_released() {
    let fixture = VaultFixture::<Postgres>::new(60, 120, Revocation::Terminating).await;
    let session = session_with_short_timeout(&fixture).await;
    let db = fixture.pool(dynamic(&session)).await;
    fixture
        .proxy
        .fault_on(CREDS, InjectedFault::Delay(3 * SECOND));
    let error = fixture
        .supervisor
        .rotate_now("login")
        .await
        .expect_err("there is no new user");
    assert!(
        error.to_string().contains("the request timed out"),
        "{error}"
    );
    fixture.proxy.heal();

    eventually_within(20 * SECOND, "it is released", || {
        fixture.proxy.requests(REVOKE) > 0
    })
    .await;
    fixture.wait_for_one_lease().await;
    assert_eq!(
        (
            db.generation(),
            fixture.requests_to("database/creds/orders")
        ),
        (1, 2),
        "the hazard: a second user was created"
    );
    fixture.shutdown_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_cannot_log_in_is_never_published_and_is_released() {
    let service = Service::start(60, 120, Revocation::Terminating).await;
    let callers = service.callers(ORDERS);
    let create = |attribute: &str| {
        let create = format!(
            r#"CREATE ROLE "{{{{name}}}}" {attribute} PASSWORD '{{{{password}}}}' VALID UNTIL '{{{{expiration}}}}' IN ROLE app"#
        );
        json!({ "creation_statements": [create] })
    };
    let (locked, open) = (create("NOLOGIN"), create("LOGIN"));
    let path = format!("{MOUNT}/roles/orders");
    service
        .fixture
        .admin({
            let path = path.clone();
            move |admin| admin.write(&path, &locked)
        })
        .await;
    let rotation = tokio::spawn({
        let supervisor = service.fixture.supervisor.clone();
        async move { supervisor.rotate_now("login").await }
    });
    eventually_within(10 * SECOND, "it cannot be verified", || {
        service
            .db
            .status()
            .is_some_and(|status| status.last_error.is_some())
    })
    .await;
    assert_eq!(
        service.fixture.leases().await.len(),
        2,
        "the hazard: a user that is not published"
    );
    service
        .fixture
        .admin(move |admin| admin.write(&path, &open))
        .await;
    service.rotate().await;
    drop(rotation.await.expect("no panic"));
    assert_eq!(service.db.generation(), 2);
    service.fixture.wait_for_one_lease().await;
    callers.wait_for_more(50).await;
    callers.stop_without_failure().await;
    service.shutdown_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_release_is_retried() {
    let service = Service::start(60, 120, Revocation::Terminating).await;
    service.fixture.proxy.fault_on(REVOKE, failed_revocation());
    service.rotate().await;
    eventually_within(20 * SECOND, "it is tried twice", || {
        service.fixture.proxy.requests(REVOKE) >= 2
    })
    .await;
    assert_eq!(
        service.fixture.leases().await.len(),
        2,
        "the hazard: it is still there"
    );
    service.fixture.proxy.heal();
    service.fixture.wait_for_one_lease().await;
    service.shutdown_and_check().await;
}

/// The reported expiry is no later than the token's. The token is renewed, and the lease is valid
/// for longer.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_outlives_its_reported_expiry_is_still_released() {
    let fixture = VaultFixture::<Postgres>::new(300, 600, Revocation::Terminating).await;
    let Identity { role_id, secret_id } = fixture
        .identity_with(json!({ "token_ttl": "10s", "token_max_ttl": "1h" }))
        .await;
    let auth = Auth::app_role(role_id, SecretId::given(secret_id));
    let session = VaultSession::new(fixture.proxy.endpoint(), auth).expect("a session");
    let db = fixture.pool(dynamic(&session)).await;
    fixture.proxy.fault_on(REVOKE, failed_revocation());
    fixture
        .supervisor
        .rotate_now("login")
        .await
        .expect("a new user");
    let unreleased_leases = || fixture.supervisor.status().providers[0].unreleased;
    eventually_within(10 * SECOND, "it is tried", || {
        fixture.proxy.requests(REVOKE) > 0
    })
    .await;
    eventually_within(40 * SECOND, "the lease counts as expired", || {
        unreleased_leases() == 0
    })
    .await;
    assert_eq!(fixture.leases().await.len(), 2, "the hazard: it is valid");
    fixture.proxy.heal();
    fixture.wait_for_one_lease().await;
    assert_eq!(db.generation(), 2);
    fixture.shutdown_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_forbids_release_costs_one_request_per_lease_and_no_delay() {
    let service = Service::start(60, 120, Revocation::Terminating).await;
    let policy = r#"path "database/creds/*" { capabilities = ["read"] }"#;
    service
        .fixture
        .admin(move |admin| admin.write("sys/policies/acl/orders", &json!({ "policy": policy })))
        .await;
    for _ in 0..5 {
        service.rotate().await;
    }
    eventually_within(20 * SECOND, "all are tried", || {
        service.fixture.proxy.requests(REVOKE) >= 5
    })
    .await;
    assert_eq!(
        service.fixture.leases().await.len(),
        6,
        "the hazard: nothing is released"
    );
    let next_fetch = service.fixture.supervisor.status().providers[0]
        .next_fetch
        .expect("it is renewed");
    assert!(next_fetch > 10 * SECOND, "{next_fetch:?}");
    // The forbidden release does not delay a rotation.
    let (callers, generation) = (service.callers(ORDERS), service.db.generation());
    callers.wait_for_more(50).await;
    let user = service.user().await;
    service
        .fixture
        .sql(&format!("ALTER ROLE \"{user}\" NOLOGIN"))
        .await;
    service
        .fixture
        .sql(&format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{user}'"
        ))
        .await;
    next_generation(&service.db, generation).await;
    callers.wait_for_more(50).await;
    let tally = callers.stop().await;
    assert_eq!(tally.failed, Vec::<String>::new());
    assert!(tally.longest < 10 * SECOND, "{:?}", tally.longest);
    assert!(
        service.fixture.proxy.requests(REVOKE) <= 6,
        "{} requests",
        service.fixture.proxy.requests(REVOKE)
    );
    let report = service.fixture.supervisor.shutdown(10 * SECOND).await;
    assert!(
        !report.clean && report.unreleased.len() == 1,
        "the unreleased lease is reported: {report:?}"
    );
}
