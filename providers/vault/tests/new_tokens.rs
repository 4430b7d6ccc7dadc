//! needs: openbao
//!
//! A standby returns 403 for a token that it has not received yet. That delays a fetch by a second.
//! It fails no start and replaces no valid token.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use claviger::error::ProviderError;
use claviger::provider::FetchRequest;
use claviger::{Credentials, Lease, Provider, Supervisor};
use claviger_fixtures::eventually_within;
use claviger_servers::{InjectedFault, Proxy};
use claviger_testkit::FetchLease;
use claviger_vault::{Auth, SecretId, VaultKv, VaultSession};
use claviger_vault_fixtures::{Admin, AsyncAdmin};
use serde_json::{Value, json};

const LOGIN: &str = "/v1/auth/approle/login";
const LOOK_UP: &str = "/v1/auth/token/lookup-self";
const RENEW: &str = "/v1/auth/token/renew-self";
const REVOKE: &str = "/v1/auth/token/revoke-self";
const DATA: &str = "/v1/kv/data/orders";

/// Bodies of a 403: a standby of OpenBao, a policy, a standby of Vault.
const BODIES: [&str; 3] = [
    r#"{"errors":["permission denied"]}"#,
    r#"{"errors":["1 error occurred:\n\t* permission denied\n\n"]}"#,
    r#"{"errors":["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"]}"#,
];

struct Fixture {
    admin: AsyncAdmin,
    proxy: Proxy,
    auth: Option<Auth>,
    /// Number of tokens on the server before the session logged in.
    tokens: usize,
}

impl Fixture {
    async fn new(settings: Value) -> Self {
        let admin = AsyncAdmin::with_a_secret().await;
        let (role_id, secret_id) = admin
            .run(|admin| Ok((admin.app_role(settings)?, admin.secret_id()?)))
            .await;
        let (proxy, tokens) = (admin.proxy(), admin.run(Admin::tokens).await.len());
        Self {
            admin,
            proxy,
            auth: Some(Auth::app_role(role_id, SecretId::given(secret_id))),
            tokens,
        }
    }

    fn session(&mut self) -> VaultSession {
        let auth = self.auth.take().expect("one session for each fixture");
        let session =
            VaultSession::builder(self.proxy.endpoint(), auth).with_timeout(Duration::from_secs(2));
        session.build().expect("the settings are valid")
    }

    /// Lets these operations return 403 until the first of them has been requested.
    fn reject(&self, body: &str, operations: &[&str]) -> impl Future<Output = ()> + use<'_> {
        let first = operations[0].to_owned();
        let before = self.proxy.requests(&first);
        for operation in operations {
            self.proxy
                .fault_on(operation, InjectedFault::reply(403, body));
        }
        async move {
            eventually_within(Duration::from_secs(20), "it is rejected", || {
                self.proxy.requests(&first) > before
            })
            .await;
            self.proxy.heal();
        }
    }

    fn has_own_tokens(&self, count: usize) -> impl Fn() -> bool {
        move || {
            self.admin
                .admin
                .tokens()
                .is_ok_and(|tokens| tokens.len() == self.tokens + count)
        }
    }
}

fn kv(session: &VaultSession) -> VaultKv {
    VaultKv::new(session, "kv", "orders").expect("a path")
}

async fn fetch(session: &VaultSession) -> Result<Lease<Credentials>, ProviderError> {
    kv(session).fetch_lease(FetchRequest::first()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_403_after_the_login_does_not_fail_the_second_provider() {
    let admin = AsyncAdmin::with_a_secret().await;
    let token = admin.run(|admin| admin.token(json!({}))).await;
    for body in BODIES {
        let proxy = admin.proxy();
        let session = VaultSession::new(proxy.endpoint(), Auth::token(&*token))
            .expect("the settings are valid");
        fetch(&session)
            .await
            .expect("the first provider, which obtained the token");
        proxy.fault_on(DATA, InjectedFault::reply(403, body));
        let rejected = eventually_within(Duration::from_secs(10), "it is rejected", || {
            proxy.requests(DATA) > 1
        });
        let (fetched, ()) = tokio::join!(fetch(&session), async {
            rejected.await;
            proxy.heal();
        });
        fetched.expect(body);
        assert_eq!(proxy.requests(DATA), 3, "{body}");
    }
}

/// Leases expire with their token: replacing it by mistake would end those of all providers.
#[tokio::test(flavor = "multi_thread")]
async fn one_403_after_the_login_keeps_the_token() {
    let mut fixture = Fixture::new(json!({})).await;
    let session = fixture.session();
    fetch(&session)
        .await
        .expect("the first provider, which obtained the token");
    for body in [BODIES[0], BODIES[2]] {
        let (fetched, ()) = tokio::join!(fetch(&session), fixture.reject(body, &[DATA, LOOK_UP]));
        fetched.expect(body);
    }
    assert_eq!(
        (
            fixture.proxy.requests(LOGIN),
            fixture.proxy.requests(LOOK_UP)
        ),
        (1, 0)
    );
    assert!(fixture.has_own_tokens(1)());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_403_at_the_first_renewal_keeps_the_token() {
    // Renewed after 2.8 to 3.4 s.
    let mut fixture = Fixture::new(json!({ "token_ttl": "5s", "token_max_ttl": "1h" })).await;
    let session = fixture.session();
    let supervisor = Supervisor::start();
    supervisor
        .add_provider("login", kv(&session))
        .await
        .expect("there is a lease");
    fixture.reject(BODIES[0], &[RENEW, LOOK_UP]).await;
    eventually_within(Duration::from_secs(20), "it is renewed", || {
        fixture.proxy.requests(RENEW) >= 3
    })
    .await;
    assert_eq!(
        (
            fixture.proxy.requests(LOGIN),
            fixture.proxy.requests(LOOK_UP)
        ),
        (1, 0)
    );
    supervisor.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_403_at_the_end_leaves_no_token_behind() {
    let mut fixture = Fixture::new(json!({})).await;
    let provider = kv(&fixture.session());
    provider
        .fetch_lease(FetchRequest::first())
        .await
        .expect("there is a lease");
    assert!(fixture.has_own_tokens(1)());
    tokio::join!(provider.close(), fixture.reject(BODIES[0], &[REVOKE]));
    assert_eq!(fixture.proxy.requests(REVOKE), 2);
    assert!(fixture.has_own_tokens(0)());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_403_leaves_no_token_behind_that_was_issued_after_the_timeout() {
    let mut fixture = Fixture::new(json!({})).await;
    let session = fixture.session();
    fixture
        .proxy
        .fault_on(LOGIN, InjectedFault::Delay(Duration::from_secs(3)));
    let rejected = fixture.reject(BODIES[0], &[REVOKE]);
    let (fetched, ()) = tokio::join!(fetch(&session), rejected);
    fetched.expect_err("the login times out");
    eventually_within(Duration::from_secs(10), "the token is revoked", || {
        fixture.proxy.requests(REVOKE) >= 2
    })
    .await;
    eventually_within(
        Duration::from_secs(10),
        "no token is left",
        fixture.has_own_tokens(0),
    )
    .await;
}

/// Only new tokens are retried. A token that was revoked meanwhile is replaced.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_token_that_was_revoked_is_replaced_after_the_retry() {
    let mut fixture = Fixture::new(json!({})).await;
    let session = fixture.session();
    fetch(&session).await.expect("there is a lease");
    let before = fixture.proxy.requests(DATA);
    assert_eq!(fixture.admin.run(Admin::revoke_tokens).await, 1);
    fetch(&session).await.expect("by another token");
    assert_eq!(
        (fixture.proxy.requests(DATA), fixture.proxy.requests(LOGIN)),
        (before + 3, 2)
    );
}
