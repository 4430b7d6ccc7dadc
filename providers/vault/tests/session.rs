//! needs: openbao
//!
//! One session for many providers: one login and one token, revoked when the last provider is
//! removed.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use claviger::provider::FetchRequest;
use claviger::report::RotationTrigger;
use claviger::{Provider, Supervisor};
use claviger_fixtures::eventually_within;
use claviger_servers::{InjectedFault, Proxy};
use claviger_testkit::FetchLease;
use claviger_vault::{Auth, SecretId, VaultKv, VaultSession};
use claviger_vault_fixtures::{Admin, AsyncAdmin};
use common::{kv, polling_supervisor};
use serde_json::{Value, json};

const LOG_IN: &str = "/v1/auth/approle/login";
const RENEW: &str = "/v1/auth/token/renew-self";
const REVOKE: &str = "/v1/auth/token/revoke-self";
const DATA: &str = "/v1/kv/data/orders";

struct VaultFixture {
    admin: AsyncAdmin,
    proxy: Proxy,
    session: VaultSession,
    /// Number of tokens on the server before the session logged in.
    tokens: usize,
}

async fn fixture(settings: Value) -> VaultFixture {
    let admin = AsyncAdmin::with_a_secret().await;
    let (role_id, secret_id) = admin
        .run(|admin| Ok((admin.app_role(settings)?, admin.secret_id()?)))
        .await;
    let proxy = admin.proxy();
    let auth = Auth::app_role(role_id, SecretId::given(secret_id));
    let session = VaultSession::new(proxy.endpoint(), auth).expect("the settings are valid");
    let tokens = admin.run(Admin::tokens).await.len();
    VaultFixture {
        admin,
        proxy,
        session,
        tokens,
    }
}

impl VaultFixture {
    fn kv(&self) -> VaultKv {
        kv(&self.session)
    }

    /// Returns the number of the session's tokens on the server.
    async fn own_tokens(&self) -> usize {
        self.admin.run(Admin::tokens).await.len() - self.tokens
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn providers_share_one_login_and_the_last_one_revokes_the_token() {
    let fixture = fixture(json!({ "token_ttl": "4s", "token_max_ttl": "1h" })).await;
    let supervisor = Supervisor::start();
    let registered = tokio::join!(
        supervisor.add_provider("one", fixture.kv()),
        supervisor.add_provider("two", fixture.kv()),
        supervisor.add_provider("three", fixture.kv()),
    );
    registered
        .0
        .and(registered.1)
        .and(registered.2)
        .expect("all have a lease");
    assert_eq!(
        (fixture.proxy.requests(LOG_IN), fixture.own_tokens().await),
        (1, 1)
    );
    // The session renews the token once for all providers, after 2.3 s at the earliest.
    let began = fixture
        .proxy
        .log()
        .iter()
        .find(|request| request.operation == LOG_IN)
        .expect("there was one")
        .received_at;
    eventually_within(Duration::from_secs(20), "it is renewed", || {
        fixture.proxy.requests(RENEW) >= 3
    })
    .await;
    let renewals: Vec<_> = fixture
        .proxy
        .log()
        .iter()
        .filter(|request| request.operation == RENEW)
        .map(|request| request.received_at)
        .collect();
    let earliest = [began]
        .iter()
        .chain(&renewals)
        .zip(&renewals)
        .map(|(before, at)| *at - *before)
        .min();
    assert!(
        earliest.is_some_and(|pause| pause > Duration::from_secs(2)),
        "{earliest:?}"
    );

    for (name, left) in [("one", 1), ("two", 1), ("three", 0)] {
        supervisor
            .remove_provider(name)
            .await
            .expect("it is removed");
        assert_eq!(
            (fixture.proxy.requests(REVOKE), fixture.own_tokens().await),
            (1 - left, left),
            "{name} was removed"
        );
    }
    // The session can be used again.
    supervisor
        .add_provider("again", fixture.kv())
        .await
        .expect("there is a lease");
    assert_eq!(
        (fixture.proxy.requests(LOG_IN), fixture.own_tokens().await),
        (2, 1)
    );
    supervisor.shutdown(Duration::from_secs(5)).await;
    assert_eq!(
        (fixture.proxy.requests(REVOKE), fixture.own_tokens().await),
        (2, 0)
    );
}

/// A fetch still runs when the last provider is removed, and finds the token revoked. Another login
/// would leave a token that is never revoked.
#[tokio::test(flavor = "multi_thread")]
async fn no_login_happens_after_the_last_provider_was_removed() {
    let fixture = fixture(json!({})).await;
    let kv = std::sync::Arc::new(fixture.kv());
    kv.fetch_lease(FetchRequest::first())
        .await
        .expect("there is a lease");
    fixture
        .proxy
        .fault_on(DATA, InjectedFault::Delay(Duration::from_secs(1)));
    let late = tokio::spawn({
        let kv = std::sync::Arc::clone(&kv);
        async move {
            kv.fetch_lease(FetchRequest::new(RotationTrigger::Manual))
                .await
        }
    });
    eventually_within(Duration::from_secs(5), "the fetch runs", || {
        fixture.proxy.requests(DATA) == 2
    })
    .await;
    kv.close().await;
    assert_eq!(
        fixture.proxy.requests(REVOKE),
        1,
        "the hazard: the token is revoked during the fetch"
    );
    let error = late
        .await
        .expect("no panic")
        .expect_err("the token has expired");
    assert!(
        error
            .to_string()
            .contains("no provider uses this session any more"),
        "{error}"
    );
    assert_eq!(
        (fixture.proxy.requests(LOG_IN), fixture.own_tokens().await),
        (1, 0)
    );
}

/// A policy that forbids a path does not make the token invalid.
#[tokio::test(flavor = "multi_thread")]
async fn a_forbidden_path_costs_no_login() {
    let fixture = fixture(json!({ "token_no_default_policy": true })).await;
    let forbidden = VaultKv::new(&fixture.session, "secret", "orders").expect("a path");
    for _ in 0..3 {
        let error = forbidden
            .fetch_lease(FetchRequest::first())
            .await
            .expect_err("the policy does not allow it");
        assert!(
            !error.is_transient()
                && error
                    .to_string()
                    .contains("not allowed; grant `read` on secret/data/orders"),
            "{error}"
        );
    }
    assert_eq!(
        (fixture.proxy.requests(LOG_IN), fixture.own_tokens().await),
        (1, 1)
    );
}

/// A provider that was never registered leaves nothing behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_registration_revokes_the_token() {
    let fixture = fixture(json!({})).await;
    let supervisor = Supervisor::start();
    let forbidden = VaultKv::new(&fixture.session, "secret", "orders").expect("a path");
    supervisor
        .add_provider("login", forbidden)
        .await
        .expect_err("the policy does not allow it");
    let admin = &fixture.admin.admin;
    let none = || {
        admin
            .tokens()
            .is_ok_and(|tokens| tokens.len() == fixture.tokens)
    };
    eventually_within(Duration::from_secs(10), "the token is revoked", none).await;
    assert_eq!(
        (
            fixture.proxy.requests(LOG_IN),
            fixture.proxy.requests(REVOKE)
        ),
        (1, 1),
        "the hazard: there was one"
    );
    supervisor.shutdown(Duration::from_secs(5)).await;
}

/// Without the permission to renew its token, the session logs in again.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_may_not_renew_itself_is_replaced() {
    let fixture = fixture(json!({ "token_no_default_policy": true, "token_ttl": "5s" })).await;
    let supervisor = polling_supervisor();
    supervisor
        .add_provider("login", fixture.kv())
        .await
        .expect("there is a lease");
    let admin = &fixture.admin.admin;
    let both = || {
        admin
            .tokens()
            .is_ok_and(|tokens| tokens.len() == fixture.tokens + 2)
    };
    eventually_within(
        Duration::from_secs(10),
        "there is another token, and the old one is valid until its end",
        both,
    )
    .await;
    assert_eq!(
        (
            fixture.proxy.requests(RENEW),
            fixture.proxy.requests(LOG_IN)
        ),
        (1, 2),
        "the hazard: it was tried"
    );
    supervisor.shutdown(Duration::from_secs(5)).await;
}
