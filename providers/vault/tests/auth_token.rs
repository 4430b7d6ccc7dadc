//! needs: postgresql, openbao
//!
//! Tokens that this library did not obtain: given, or in a file that an agent rewrites.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::time::Duration;

use claviger::error::ProviderErrorKind;
use claviger::{Handle, PgPools, Supervisor};
use claviger_fixtures::{Callers, eventually_within};
use claviger_servers::Postgres;
use claviger_vault::{Auth, VaultDynamic, VaultSession};
use claviger_vault_fixtures::{AsyncAdmin, ORDERS, Revocation, VaultFixture, next_generation};
use common::{assert_permanent, kv};
use serde_json::json;
use tempfile::NamedTempFile;

/// A token in a file, as an agent's sink writes it.
struct Sink {
    file: NamedTempFile,
    token: String,
}

impl Sink {
    async fn new(fixture: &VaultFixture<Postgres>) -> Self {
        let mut sink = Self {
            file: NamedTempFile::new().expect("a file"),
            token: String::new(),
        };
        sink.next(fixture).await;
        sink
    }

    /// Writes another token; returns the previous one.
    async fn next(&mut self, fixture: &VaultFixture<Postgres>) -> String {
        let token = fixture
            .admin(|admin| admin.token(json!({ "ttl": "10m" })))
            .await;
        fs::write(&self.file, format!("{token}\n")).expect("it is written");
        std::mem::replace(&mut self.token, token)
    }

    fn provider(&self, fixture: &VaultFixture<Postgres>) -> VaultDynamic {
        let session =
            VaultSession::new(fixture.proxy.endpoint(), Auth::token_file(self.file.path()))
                .expect("the settings are valid");
        VaultDynamic::new(&session, "database", "orders").expect("a role")
    }
}

/// Starts eight callers without pauses, and waits for their first queries.
async fn start_busy_callers(db: &Handle<PgPools>) -> Callers {
    let callers = Callers::start_with(db, 8, ORDERS);
    callers.wait_for_more(100).await;
    callers
}

async fn is_valid(fixture: &VaultFixture<Postgres>, token: &str) -> bool {
    let token = token.to_owned();
    fixture
        .admin(move |admin| admin.look_up(&token))
        .await
        .is_some()
}

async fn revoke(fixture: &VaultFixture<Postgres>, token: String) {
    fixture.admin(move |admin| admin.revoke_token(&token)).await;
}

/// Shuts down and checks that no lease and no user is left.
async fn shut_down_and_assert_nothing_is_left(fixture: &VaultFixture<Postgres>) {
    fixture.supervisor.shutdown(Duration::from_secs(10)).await;
    assert_eq!(
        (fixture.leases().await.len(), fixture.users().await.len()),
        (0, 0)
    );
}

/// The agent is early: the old token is valid for a while. Pools move over to leases of the new
/// token.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_token_in_the_file_is_used_while_the_old_one_is_valid() {
    let fixture = VaultFixture::<Postgres>::new(60, 600, Revocation::Terminating).await;
    let mut sink = Sink::new(&fixture).await;
    let db = fixture.pool(sink.provider(&fixture)).await;
    let callers = start_busy_callers(&db).await;
    let old = sink.next(&fixture).await;
    assert_eq!(next_generation(&db, 1).await, 2);
    assert!(
        is_valid(&fixture, &old).await,
        "the hazard: the old one is valid, and could be renewed"
    );
    fixture.wait_for_one_lease().await;
    revoke(&fixture, old).await;
    callers.wait_for_more(200).await;
    let tally = callers.stop().await;
    assert_eq!(
        (tally.failed, tally.interrupted, db.generation()),
        (Vec::new(), 0, 2)
    );
    assert_eq!(
        (fixture.leases().await.len(), fixture.users().await.len()),
        (1, 1),
        "the current lease is the new token's"
    );
    shut_down_and_assert_nothing_is_left(&fixture).await;
    assert!(
        is_valid(&fixture, &sink.token).await,
        "the provider revokes no token that it was given"
    );
}

/// The old token is revoked, and its leases with it, as soon as the new one is written.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_revoked_when_the_next_one_is_written_is_replaced() {
    let fixture = VaultFixture::<Postgres>::new(60, 600, Revocation::Terminating).await;
    let mut sink = Sink::new(&fixture).await;
    let db = fixture.pool(sink.provider(&fixture)).await;
    let callers = start_busy_callers(&db).await;
    let old = sink.next(&fixture).await;
    revoke(&fixture, old).await;
    assert!(next_generation(&db, 1).await >= 2);
    callers.wait_for_more(200).await;
    let tally = callers.stop().await;
    assert_eq!(tally.failed, Vec::<String>::new());
    assert!(
        tally.interrupted > 0
            || fixture
                .server
                .log()
                .rejected_logins()
                .is_ok_and(|rejected| rejected > 0),
        "the hazard"
    );
    fixture.wait_for_one_lease().await;
    shut_down_and_assert_nothing_is_left(&fixture).await;
}

/// The agent has not yet written another token: the error is reported. The next token is used
/// without a call.
#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_token_in_the_file_is_reported_and_the_next_one_is_used() {
    let fixture = VaultFixture::<Postgres>::new(60, 600, Revocation::Terminating).await;
    let mut sink = Sink::new(&fixture).await;
    fixture
        .supervisor
        .add_provider("login", sink.provider(&fixture))
        .await
        .expect("there is a lease");
    let status = || fixture.supervisor.status().providers.remove(0);
    let before = status().revision;
    revoke(&fixture, sink.token.clone()).await;
    let error = fixture
        .supervisor
        .rotate_now("login")
        .await
        .expect_err("there is no other");
    let error = error.provider_error().cloned().expect("the provider's own");
    assert_eq!(error.kind(), ProviderErrorKind::Unavailable, "{error}");
    assert!(
        error
            .to_string()
            .contains("the token in the file is invalid; check what writes it"),
        "{error}"
    );
    assert!(!format!("{error} {error:?}").contains(&sink.token));
    sink.next(&fixture).await;
    eventually_within(Duration::from_secs(10), "there is another lease", || {
        status().last_error.is_none() && status().revision != before
    })
    .await;
    shut_down_and_assert_nothing_is_left(&fixture).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_given_token_is_used_and_not_revoked() {
    let admin = AsyncAdmin::with_a_secret().await;
    let proxy = admin.proxy();
    let provider = |token: &str| {
        let session = VaultSession::new(proxy.endpoint(), Auth::token(token))
            .expect("the settings are valid");
        kv(&session)
    };
    let good = admin
        .run(|admin| admin.token(json!({ "ttl": "10m" })))
        .await;
    let supervisor = Supervisor::start();
    supervisor
        .add_provider("good", provider(&good))
        .await
        .expect("there is a lease");

    let revoked = admin
        .run(|admin| admin.token(json!({ "ttl": "10m" })))
        .await;
    let token = revoked.clone();
    admin.run(move |admin| admin.revoke_token(&token)).await;
    let without_policy = admin
        .run(|admin| admin.token(json!({ "ttl": "10m", "no_default_policy": true })))
        .await;
    for (token, expected) in [
        (revoked, "the token is invalid; configure another"),
        (
            without_policy.clone(),
            "not allowed; grant `read` on auth/token/lookup-self",
        ),
    ] {
        let error = supervisor
            .add_provider("bad", provider(&token))
            .await
            .expect_err("it is invalid");
        let error = error.provider_error().cloned().expect("the provider's own");
        assert_permanent(&error, ProviderErrorKind::Denied, expected);
        assert!(!format!("{error:?}").contains(&token), "{error}");
    }
    supervisor.shutdown(Duration::from_secs(5)).await;
    assert_eq!(proxy.requests("/v1/auth/token/revoke-self"), 0);
    assert!(
        admin
            .run(move |admin| Ok((
                admin.look_up(&good)?.is_some(),
                admin.look_up(&without_policy)?.is_some()
            )))
            .await
            == (true, true)
    );
}
