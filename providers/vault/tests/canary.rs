//! needs: postgresql, openbao
//!
//! No token, wrapping token, secret id or password that the server issued is in any output at
//! TRACE. That includes the output of the crates below. A planted canary shows that the search
//! works, and what vaultrs logs when it is not silenced.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::Duration;

use claviger::events::Event;
use claviger::provider::FetchRequest;
use claviger_fixtures::{Callers, Capture};
use claviger_servers::{InjectedFault, Postgres};
use claviger_testkit::FetchLease;
use claviger_vault::{Auth, SecretId, VaultDynamic, VaultKv, VaultSession, VaultStatic};
use claviger_vault_fixtures::{MOUNT, ROLE, Revocation, VaultFixture, next_generation};
use serde_json::{Value, json};
use sqlx::postgres::PgPoolOptions;
use vaultrs::client::{VaultClient, VaultClientSettingsBuilder};

/// Names of fields whose texts are secrets.
const NAMES: [&str; 4] = ["client_token", "token", "secret_id", "password"];

/// Collects the secrets in a response of the server.
fn collect(value: &Value, secrets: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field.as_str() {
                    Some(text) if NAMES.contains(&name.as_str()) => {
                        secrets.extend((!text.is_empty()).then(|| text.to_owned()))
                    }
                    _ => collect(field, secrets),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, secrets)),
        _ => {}
    }
}

/// The secrets that were issued so far.
struct Secrets(BTreeSet<String>);

impl Secrets {
    fn issued_by(fixture: &VaultFixture<Postgres>, more: &[&str]) -> Self {
        let mut secrets: BTreeSet<String> = more.iter().map(|&secret| secret.to_owned()).collect();
        for response in fixture.proxy.responses() {
            if let Ok(response) = serde_json::from_str(&response) {
                collect(&response, &mut secrets);
            }
        }
        Self(secrets)
    }

    fn lines_with_secrets<'t>(&self, text: &'t str) -> Vec<&'t str> {
        text.lines()
            .filter(|line| self.0.iter().any(|secret| line.contains(secret)))
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_output_about_dynamic_users_contains_a_secret() {
    let capture = Capture::everything();
    let fixture = VaultFixture::<Postgres>::new(60, 120, Revocation::Terminating).await;
    fixture
        .sql("CREATE ROLE rotated LOGIN PASSWORD 'password-2' IN ROLE app")
        .await;
    let wrapped = fixture
        .admin(|admin| {
            admin.app_role(json!({ "token_ttl": "60s", "token_max_ttl": "1h" }))?;
            admin.static_role("rotated", 3_600)?;
            admin.kv(&json!({ "username": "app", "password": "password-1" }))?;
            admin.wrapped_secret_id(300)
        })
        .await;
    let role_id = fixture
        .admin(|admin| {
            claviger_vault_fixtures::text(
                &admin.read("auth/approle/role/orders/role-id")?["data"]["role_id"],
            )
        })
        .await;
    let auth = Auth::app_role(role_id, SecretId::wrapped(wrapped.clone()));
    let session =
        VaultSession::new(fixture.proxy.endpoint(), auth).expect("the settings are valid");
    let mut outputs = vec![format!("{session:?} {session:#?}")];
    let mut record = |value: &dyn Debug| outputs.push(format!("{value:?} {value:#?}"));

    // Providers of each kind, in use.
    let supervisor = &fixture.supervisor;
    let mut events = supervisor.events();
    let dynamic = || VaultDynamic::new(&session, MOUNT, ROLE).expect("the settings are valid");
    let rotated = VaultStatic::new(&session, MOUNT, "rotated").expect("the settings are valid");
    let kept = VaultKv::new(&session, "kv", "orders").expect("the settings are valid");
    record(&(dynamic(), &rotated, &kept));
    let db = fixture.pool(dynamic()).await;
    let mut callers = vec![Callers::start_with_pause(
        &db,
        4,
        "SELECT count(*) FROM orders",
        Duration::from_millis(10),
    )];
    let options = PgPoolOptions::new()
        .max_connections(2)
        .acquire_timeout(Duration::from_secs(5));
    let credentials = supervisor
        .add_provider("rotated-login", rotated)
        .await
        .expect("a lease");
    let static_db = supervisor
        .add_pool("rotated", &credentials, fixture.pools(options.clone()))
        .await
        .expect("verified");
    callers.push(Callers::start_with_pause(
        &static_db,
        2,
        "SELECT 1",
        Duration::from_millis(10),
    ));
    let credentials = supervisor
        .add_provider("kept-login", kept)
        .await
        .expect("a lease");
    let kept_db = supervisor
        .add_pool("kept", &credentials, fixture.pools(options))
        .await
        .expect("verified");
    callers.push(Callers::start_with_pause(
        &kept_db,
        2,
        "SELECT 1",
        Duration::from_millis(10),
    ));
    callers[0].wait_for_more(50).await;

    // A manual rotation, a revoked lease and token, a changed password and secret.
    supervisor.rotate_now("login").await.expect("a new user");
    let leases = fixture.leases().await;
    let generation = db.generation();
    fixture
        .admin(move |admin| {
            leases
                .iter()
                .try_for_each(|lease| admin.revoke_lease(lease))
        })
        .await;
    next_generation(&db, generation).await;
    let tokens = Secrets::issued_by(&fixture, &[]).0;
    fixture
        .admin(move |admin| {
            Ok(tokens
                .iter()
                .filter(|token| admin.revoke_token(token).is_ok())
                .count())
        })
        .await;
    supervisor
        .rotate_now("login")
        .await
        .expect("a new user by another token");
    fixture.admin(|admin| admin.rotate_role("rotated")).await;
    fixture
        .admin(|admin| {
            admin.put(&json!({ "username": "app", "password": "password-1", "note": "password-3" }))
        })
        .await;
    for provider in ["rotated-login", "kept-login"] {
        record(&supervisor.rotate_now(provider).await);
    }
    // Responses that are malformed, reject, or are cut off.
    let secret = "CANARY-s3cret";
    for error in [
        InjectedFault::reply(500, format!(r#"{{"errors":["{secret}"]}}"#)),
        InjectedFault::reply(
            403,
            format!(r#"{{"errors":["permission denied","{secret}"]}}"#),
        ),
        InjectedFault::reply(
            200,
            format!(
                r#"{{"auth":{{"client_token":["{secret}"]}},"data":{{"username":"u","password":["{secret}"]}}}}"#
            ),
        ),
        InjectedFault::reply(
            200,
            format!(
                r#"{{"lease_id":"","lease_duration":7,"data":{{"username":"u","password":"{secret}"}}}}"#
            ),
        ),
        InjectedFault::reply(302, format!("<html>{secret}</html>")),
        InjectedFault::Cut,
        InjectedFault::Refuse,
    ] {
        fixture.proxy.fault(error);
        record(
            &dynamic()
                .fetch_lease(FetchRequest::first())
                .await
                .map(drop)
                .expect_err("there is no user"),
        );
        record(&supervisor.rotate_now("kept-login").await.map(drop));
    }
    fixture.proxy.heal();
    record(&supervisor.status());
    for callers in callers {
        record(&callers.stop().await);
    }
    record(&supervisor.shutdown(Duration::from_secs(10)).await);
    let (mut rejected, mut failed, mut rotated) = (0, 0, 0);
    while let Some(event) = events.next().await {
        record(&event);
        rejected += usize::from(matches!(event, Event::Rejected { .. }));
        failed += usize::from(matches!(event, Event::FetchFailed { .. }));
        rotated += usize::from(matches!(event, Event::Rotated(_)));
    }
    assert!(
        rejected >= 1 && failed >= 5 && rotated >= 5,
        "the hazards: {rejected} rejections, {failed} failed fetches, {rotated} rotations"
    );

    // At least two tokens, a secret id, three dynamic users, and the passwords of the other two.
    let root = fixture.admin.vault.root_token();
    let secrets = Secrets::issued_by(
        &fixture,
        &[
            &wrapped,
            secret,
            root,
            "password-1",
            "password-2",
            "password-3",
        ],
    );
    assert!(
        secrets.0.len() >= 6 + 8,
        "the hazard: {} secrets",
        secrets.0.len()
    );
    for output in &outputs {
        assert!(
            secrets.lines_with_secrets(output).is_empty(),
            "{:#?}",
            secrets.lines_with_secrets(output)
        );
    }
    let logged = capture.text();
    for line in [
        "credential.rotation",
        "token is no longer valid at the server",
        "pool.verify",
    ] {
        assert!(logged.contains(line), "nothing was captured of {line}");
    }
    assert!(
        secrets.lines_with_secrets(&logged).is_empty(),
        "{:#?}",
        secrets.lines_with_secrets(&logged)
    );
    let of_vaultrs = |text: &str| {
        text.lines()
            .filter(|line| line.contains(" rustify") || line.contains(" vaultrs"))
            .count()
    };
    assert_eq!(
        of_vaultrs(&logged),
        0,
        "vaultrs is silenced: {:?}",
        logged.lines().find(|line| of_vaultrs(line) > 0)
    );

    // The search finds a secret that is there, and vaultrs's output is captured when it is not
    // silenced.
    tracing::trace!(canary = secrets.0.first(), "planted");
    assert_eq!(secrets.lines_with_secrets(&capture.text()).len(), 1);
    let settings = VaultClientSettingsBuilder::default()
        .address(fixture.proxy.endpoint())
        .token(root)
        .build()
        .expect("settings");
    let client = VaultClient::new(settings).expect("a client");
    vaultrs::kv2::read::<Value>(&client, "kv", "orders")
        .await
        .expect("it responds");
    assert!(of_vaultrs(&capture.text()) > 0, "the hazard: vaultrs logs");
}
