//! needs: postgresql, openbao
//!
//! Each kind of token is renewed or replaced as it must be, and no lease outlives its token.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::time::Duration;

use claviger::error::ProviderErrorKind;
use claviger::status::ProviderStatus;
use claviger::{Handle, PgPools, Supervisor};
use claviger_fixtures::eventually_within;
use claviger_servers::Postgres;
use claviger_vault::{Auth, SecretId, VaultDynamic, VaultKv, VaultSession};
use claviger_vault_fixtures::{AsyncAdmin, Identity, Revocation, VaultFixture, start_callers};
use serde_json::{Value, json};
use sqlx::postgres::PgPoolOptions;

const LOG_IN: &str = "auth/approle/login";
const RENEW: &str = "auth/token/renew-self";
const LOOK_UP: &str = "auth/token/lookup-self";

/// Creates a fixture whose users have longer lifetimes than the tokens here.
async fn fixture() -> VaultFixture<Postgres> {
    VaultFixture::new(300, 600, Revocation::Terminating).await
}

async fn pool_with_auth(fixture: &VaultFixture<Postgres>, auth: Auth) -> Handle<PgPools> {
    let session =
        VaultSession::new(fixture.proxy.endpoint(), auth).expect("the settings are valid");
    fixture
        .pool(VaultDynamic::new(&session, "database", "orders").expect("a role"))
        .await
}

async fn app_role(fixture: &VaultFixture<Postgres>, settings: Value) -> Auth {
    let Identity { role_id, secret_id } = fixture.identity_with(settings).await;
    Auth::app_role(role_id, SecretId::given(secret_id))
}

fn status(supervisor: &Supervisor) -> ProviderStatus {
    supervisor.status().providers.remove(0)
}

/// Runs two pools of one session under load, until there were further logins. Checks that no caller
/// fails, and that no lease is reported to outlive its token.
async fn assert_pools_move_over(fixture: &VaultFixture<Postgres>, auth: Auth, token_ttl: Duration) {
    let session =
        VaultSession::new(fixture.proxy.endpoint(), auth).expect("the settings are valid");
    let provider = || VaultDynamic::new(&session, "database", "orders").expect("a role");
    let first = fixture.pool(provider()).await;
    let credentials = fixture
        .supervisor
        .add_provider("another-login", provider())
        .await
        .expect("there is a lease");
    let options = PgPoolOptions::new()
        .max_connections(4)
        .acquire_timeout(Duration::from_secs(5));
    let second = fixture
        .supervisor
        .add_pool("others", &credentials, fixture.pools(options))
        .await
        .expect("it is verified");
    let dbs = [first, second];
    let tasks: Vec<_> = dbs.iter().map(start_callers).collect();
    for callers in &tasks {
        callers.wait_for_more(50).await;
    }
    let logins = || fixture.requests_to(LOG_IN);
    eventually_within(
        Duration::from_secs(60),
        "there are further logins, and pools move over",
        || {
            for provider in fixture.supervisor.status().providers {
                assert!(
                    provider.remaining.is_some_and(|left| left <= token_ttl),
                    "a lease outlives its token: {:?}",
                    provider.remaining
                );
            }
            logins() >= 3 && dbs.iter().all(|db| db.generation() >= 3)
        },
    )
    .await;
    for callers in tasks {
        callers.stop_without_failure().await;
    }
    let generations = dbs.each_ref().map(Handle::generation);
    assert!(
        generations
            .iter()
            .all(|&generation| generation <= logins() as u64),
        "{generations:?} of {} tokens",
        logins()
    );
    fixture.shutdown_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn near_its_maximum_a_token_is_replaced_and_pools_move_over_before() {
    let fixture = fixture().await;
    let auth = app_role(
        &fixture,
        json!({ "token_ttl": "10s", "token_max_ttl": "17s" }),
    )
    .await;
    assert_pools_move_over(&fixture, auth, Duration::from_secs(10)).await;
    assert!(
        fixture.requests_to(RENEW) >= 2,
        "the hazard: it was renewed to its maximum"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_token_is_replaced_and_pools_move_over_before() {
    let fixture = fixture().await;
    let auth = app_role(
        &fixture,
        json!({ "token_type": "batch", "token_ttl": "10s" }),
    )
    .await;
    assert_pools_move_over(&fixture, auth, Duration::from_secs(10)).await;
    assert_eq!(fixture.requests_to(RENEW), 0, "it cannot be renewed");
    assert_eq!(
        fixture.requests_to("auth/token/revoke-self"),
        0,
        "nor revoked"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_periodic_token_is_renewed_without_limit() {
    let fixture = fixture().await;
    let db = pool_with_auth(
        &fixture,
        app_role(&fixture, json!({ "token_period": "7s" })).await,
    )
    .await;
    let callers = start_callers(&db);
    eventually_within(
        Duration::from_secs(40),
        "it is renewed again and again",
        || fixture.requests_to(RENEW) >= 3,
    )
    .await;
    callers.wait_for_more(50).await;
    callers.stop_without_failure().await;
    assert_eq!(
        (fixture.requests_to(LOG_IN), db.generation()),
        (1, 1),
        "the lease is valid as long as the token is renewed"
    );
    fixture.shutdown_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_without_an_end_needs_nothing() {
    let fixture = fixture().await;
    let root = fixture.admin.vault.root_token().to_owned();
    let db = pool_with_auth(&fixture, Auth::token(root)).await;
    let left = status(&fixture.supervisor)
        .remaining
        .expect("the lease has an end");
    assert!(
        left > Duration::from_secs(250),
        "the lease's own expiry: {left:?}"
    );
    fixture
        .supervisor
        .rotate_now("login")
        .await
        .expect("another user");
    assert_eq!(db.generation(), 2);
    assert_eq!(
        (fixture.requests_to(LOOK_UP), fixture.requests_to(RENEW)),
        (1, 0)
    );
    // Revoking it would revoke the administrator's own token.
    fixture.shutdown_and_check().await;
}

/// A given token that cannot be replaced is used to its end. No lease is reported to outlive it,
/// and then the error is reported.
#[tokio::test(flavor = "multi_thread")]
async fn a_given_token_that_is_not_renewable_is_used_to_its_end() {
    let fixture = fixture().await;
    let token = fixture
        .admin(|admin| admin.token(json!({ "ttl": "8s", "renewable": false })))
        .await;
    let db = pool_with_auth(&fixture, Auth::token(&*token)).await;
    let callers = start_callers(&db);
    callers.wait_for_more(50).await;
    let left = status(&fixture.supervisor)
        .remaining
        .expect("it has an end");
    assert!(left <= Duration::from_secs(8), "the token's end: {left:?}");
    assert_eq!(callers.stop().await.failed, Vec::<String>::new());
    eventually_within(Duration::from_secs(20), "the token expires", || {
        status(&fixture.supervisor).last_error.is_some()
    })
    .await;
    let error = status(&fixture.supervisor).last_error.expect("it is there");
    assert_eq!(error.kind(), ProviderErrorKind::Denied, "{error}");
    assert!(
        error
            .to_string()
            .contains("the token is invalid; configure another"),
        "{error}"
    );
    assert_eq!((fixture.requests_to(RENEW), db.generation()), (0, 1));
    // The server revokes the lease with the token.
    eventually_within(Duration::from_secs(10), "no lease is left", || {
        fixture
            .admin
            .leases("orders")
            .is_ok_and(|leases| leases.is_empty())
    })
    .await;
    fixture.supervisor.shutdown(Duration::from_secs(5)).await;
    assert_eq!(fixture.users().await, Vec::<String>::new());
}

/// A given renewable token reaches its maximum. It is renewed while that extends it; in a file it
/// is then polled rarely, and never in a loop.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_cannot_be_renewed_is_not_renewed_repeatedly() {
    let admin = AsyncAdmin::with_a_secret().await;
    tokio::join!(
        used_to_its_maximum(&admin, false),
        used_to_its_maximum(&admin, true)
    );
}

async fn used_to_its_maximum(admin: &AsyncAdmin, in_a_file: bool) {
    let proxy = admin.proxy();
    let token = admin
        .run(|admin| admin.token(json!({ "ttl": "3s", "explicit_max_ttl": "7s" })))
        .await;
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(&file, &token).expect("it is written");
    let auth = if in_a_file {
        Auth::token_file(file.path())
    } else {
        Auth::token(token)
    };
    let session = VaultSession::new(proxy.endpoint(), auth).expect("the settings are valid");
    let supervisor = Supervisor::builder()
        .with_poll_interval(Duration::from_secs(1))
        .start()
        .expect("the settings are valid");
    supervisor
        .add_provider(
            "login",
            VaultKv::new(&session, "kv", "orders").expect("a path"),
        )
        .await
        .expect("there is a lease");
    let failed = || status(&supervisor).last_error;
    eventually_within(Duration::from_secs(20), "the token expires", || {
        failed().is_some()
    })
    .await;
    assert!(
        failed().is_some_and(|error| error.to_string().contains("is invalid")),
        "{:?}",
        failed()
    );
    let calls = |path: &str| proxy.requests(&format!("/v1/{path}"));
    let (renewals, polls) = (calls(RENEW), calls(LOOK_UP));
    assert!((2..=5).contains(&renewals), "{renewals} renewals in 7 s");
    assert!((1..=9).contains(&polls), "{polls} polls in 7 s");
    assert!(
        calls("kv/metadata/orders") >= 4,
        "the hazard: it was used to its end"
    );
    supervisor.shutdown(Duration::from_secs(5)).await;
}
