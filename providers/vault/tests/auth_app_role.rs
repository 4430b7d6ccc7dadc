//! needs: openbao
//!
//! Logins by AppRole: the sources of the secret id, and the error when it is used up or expired.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::time::Duration;

use claviger::Provider;
use claviger::error::ProviderErrorKind;
use claviger::provider::FetchRequest;
use claviger::report::RotationTrigger;
use claviger_fixtures::eventually_within;
use claviger_servers::Proxy;
use claviger_testkit::FetchLease;
use claviger_vault::{Auth, SecretId, VaultKv};
use claviger_vault_fixtures::{AsyncAdmin, Problem};
use common::{
    assert_permanent, fetch, kv, polling_supervisor, registration_error, session, temp_file,
};
use serde_json::json;

const LOG_IN: &str = "/v1/auth/approle/login";
const UNWRAP: &str = "/v1/sys/wrapping/unwrap";

struct VaultFixture {
    admin: AsyncAdmin,
    proxy: Proxy,
    role_id: String,
}

/// Creates a fixture whose role has these settings.
async fn fixture(settings: serde_json::Value) -> VaultFixture {
    let admin = AsyncAdmin::with_a_secret().await;
    let role_id = admin.run(|admin| admin.app_role(settings)).await;
    VaultFixture {
        proxy: admin.proxy(),
        admin,
        role_id,
    }
}

impl VaultFixture {
    fn kv(&self, secret_id: SecretId) -> VaultKv {
        let auth = Auth::app_role(&*self.role_id, secret_id);
        kv(&session(self.proxy.endpoint(), auth))
    }

    async fn secret_id(&self) -> String {
        self.admin.run(|admin| admin.secret_id()).await
    }

    async fn wrapped_secret_id(&self, seconds: u64) -> String {
        self.admin
            .run(move |admin| admin.wrapped_secret_id(seconds))
            .await
    }

    /// Revokes every token but the administrator's, and returns how many there were.
    async fn revoke_all(&self) -> usize {
        self.admin
            .run(|admin| {
                let own = admin
                    .look_up(admin.vault.root_token())?
                    .ok_or("it is valid")?["accessor"]
                    .clone();
                let others: Vec<_> = admin
                    .tokens()?
                    .into_iter()
                    .filter(|accessor| *accessor != own)
                    .collect();
                for accessor in &others {
                    admin.write(
                        "auth/token/revoke-accessor",
                        &json!({ "accessor": accessor }),
                    )?;
                }
                Ok(others.len())
            })
            .await
    }
}

/// Checks that a registration fails at once with a permanent error, which does not contain the
/// secret.
async fn assert_denied(kv: VaultKv, expected: &str, secret: &str) {
    let error = registration_error(kv).await;
    assert_permanent(&error, ProviderErrorKind::Denied, expected);
    assert!(!format!("{error} {error:?}").contains(secret));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_id_is_given_directly_by_file_or_wrapped() {
    let fixture = fixture(json!({})).await;
    let id = fixture.secret_id().await;
    let (plain, wrapped) = (
        temp_file(format!("{id}\n")),
        temp_file(format!("{}\n", fixture.wrapped_secret_id(60).await)),
    );
    let sources = [
        SecretId::given(&*id),
        SecretId::file(plain.path()),
        SecretId::wrapped(fixture.wrapped_secret_id(60).await),
        SecretId::wrapped_file(wrapped.path()),
    ];
    for (number, secret_id) in sources.into_iter().enumerate() {
        let kv = fixture.kv(secret_id);
        let lease = fetch(&kv).await.expect("a lease");
        assert_eq!(lease.secret().user(), "app");
        assert_eq!(fixture.proxy.requests(LOG_IN), number + 1);
        kv.close().await;
    }
    assert_denied(
        fixture.kv(SecretId::given("no-such-id")),
        "AppRole rejects role id or secret id",
        "no-such-id",
    )
    .await;
    // The next login reads the next id in the file.
    let kv = fixture.kv(SecretId::file(plain.path()));
    fetch(&kv).await.expect("a lease");
    let next = fixture.secret_id().await;
    fixture
        .admin
        .run(move |admin| {
            admin
                .write(
                    "auth/approle/role/orders/secret-id/destroy",
                    &json!({ "secret_id": id }),
                )
                .map(drop)
        })
        .await;
    fs::write(plain.path(), next).expect("it is written");
    assert_eq!(fixture.revoke_all().await, 1, "the hazard");
    fetch(&kv).await.expect("a lease by another login");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrapping_token_is_unwrapped_once() {
    let fixture = fixture(json!({})).await;
    // It is unwrapped once. Later logins work although its file is removed.
    let wrapped = temp_file(&fixture.wrapped_secret_id(60).await);
    let kv = fixture.kv(SecretId::wrapped_file(wrapped.path()));
    fetch(&kv).await.expect("a lease");
    drop(wrapped);
    assert_eq!(fixture.revoke_all().await, 1, "the hazard");
    fetch(&kv).await.expect("a lease by another login");
    assert_eq!(
        (
            fixture.proxy.requests(UNWRAP),
            fixture.proxy.requests(LOG_IN)
        ),
        (1, 2)
    );

    let used = fixture.wrapped_secret_id(60).await;
    let by_another = used.clone();
    fixture
        .admin
        .run(move |admin| admin.unwrap(&by_another))
        .await;
    assert_denied(
        fixture.kv(SecretId::wrapped(&*used)),
        "was already unwrapped",
        &used,
    )
    .await;

    let expired = fixture.wrapped_secret_id(1).await;
    let admin = fixture.admin.admin.clone();
    eventually_within(
        Duration::from_secs(10),
        "the wrapping token expires",
        || matches!(admin.look_up(&expired), Ok(None)),
    )
    .await;
    assert_denied(
        fixture.kv(SecretId::wrapped(&*expired)),
        "has expired",
        &expired,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_up_secret_id_is_reported_at_the_next_login_and_not_retried_in_a_loop()
-> Result<(), Problem> {
    let fixture =
        fixture(json!({ "secret_id_num_uses": 1, "token_ttl": "2s", "token_max_ttl": "4s" })).await;
    let id = temp_file(&fixture.secret_id().await);
    let supervisor = polling_supervisor();
    let credentials = supervisor
        .add_provider("login", fixture.kv(SecretId::file(id.path())))
        .await?;
    let status = || supervisor.status().providers.remove(0);
    eventually_within(
        Duration::from_secs(15),
        "the token expires, and there is no other",
        || status().last_error.is_some(),
    )
    .await;
    let error = status().last_error.ok_or("it is there")?;
    assert_permanent(
        &error,
        ProviderErrorKind::Denied,
        "the secret id has expired or is used up; issue another",
    );
    // The current lease stays. Further logins were tried only while the token was still valid.
    assert!(status().revision.is_some() && !status().rejected);
    assert!(
        (2..=4).contains(&fixture.proxy.requests(LOG_IN)),
        "{} logins",
        fixture.proxy.requests(LOG_IN)
    );
    assert!(
        status()
            .next_fetch
            .is_some_and(|next| next > Duration::from_secs(30)),
        "{:?}",
        status().next_fetch
    );

    fs::write(id.path(), fixture.secret_id().await)?;
    // Within a second of a failure every caller gets the same error.
    let rotated = async {
        while supervisor.rotate_now("login").await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), rotated).await?;
    assert!(status().last_error.is_none());
    drop(credentials);
    supervisor.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_id_is_sent_for_a_role_without_one_and_errors_name_the_mount() {
    let role = json!({
        "bind_secret_id": false,
        "secret_id_bound_cidrs": [],
        "token_bound_cidrs": ["127.0.0.0/8"],
    });
    let fixture = fixture(role).await;
    let provider = fixture.kv(SecretId::none());
    let current = fetch(&provider).await.expect("a lease");
    let again = provider
        .fetch_lease(FetchRequest::new(RotationTrigger::Schedule).with_current(current.clone()))
        .await
        .expect("the same");
    assert_eq!(again.revision(), current.revision());
    assert_eq!(fixture.proxy.requests(LOG_IN), 1, "one token for both");

    let elsewhere = Auth::app_role(&*fixture.role_id, SecretId::none()).with_mount("elsewhere");
    let error = fetch(&kv(&session(fixture.proxy.endpoint(), elsewhere)))
        .await
        .expect_err("nothing is mounted there");
    assert!(
        !error.is_transient() && error.to_string().contains("login at auth/elsewhere"),
        "{error}"
    );
    assert!(error.to_string().contains("check the mount"), "{error}");
}
