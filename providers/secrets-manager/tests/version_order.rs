//! needs: moto
//!
//! The version that a fetch returns: `AWSCURRENT`, or else the first in the fallback order that the
//! database has not rejected.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use aws_sdk_secretsmanager::types::RotationRulesType;
use claviger::error::ProviderErrorKind;
use claviger::lease::OldConnections;
use claviger::provider::FetchRequest;
use claviger::report::RotationTrigger;
use claviger::{Credentials, Lease, Provider, Revision};
use claviger_secrets_fixtures::{Secret, aws, secret_text, start_moto};
use claviger_secrets_manager::SecretsManager;
use claviger_servers::Moto;
use claviger_testkit::FetchLease;

async fn fixture(name: &str) -> (Moto, Secret, Revision, SecretsManager) {
    let moto = start_moto().await;
    let (secret, first) = Secret::create(&moto, name, &secret_text("password-1")).await;
    let provider =
        SecretsManager::new(&aws(&moto.endpoint()), name).expect("the settings are valid");
    (moto, secret, Revision::new(first), provider)
}

async fn first_lease(provider: &SecretsManager) -> Lease<Credentials> {
    provider
        .fetch_lease(FetchRequest::first())
        .await
        .expect("a lease")
}

/// Returns the lease that is fetched when `current` is the current one and the database rejects
/// these revisions.
async fn rejected(
    provider: &SecretsManager,
    current: &Lease<Credentials>,
    rejected: &[&Revision],
) -> Lease<Credentials> {
    let request = FetchRequest::new(RotationTrigger::Rejected)
        .with_current(current.clone())
        .with_rejected(rejected.iter().copied().cloned());
    provider.fetch_lease(request).await.expect("a lease")
}

async fn poll(provider: &SecretsManager, current: &Lease<Credentials>) -> Lease<Credentials> {
    provider
        .fetch_lease(FetchRequest::new(RotationTrigger::Schedule).with_current(current.clone()))
        .await
        .expect("a lease")
}

fn password(lease: &Lease<Credentials>) -> &str {
    lease.secret().expose_password()
}

#[tokio::test]
async fn the_current_version_comes_first_and_its_id_is_the_revision() {
    let (_moto, secret, first, provider) = fixture("orders").await;
    let lease = first_lease(&provider).await;
    assert_eq!(
        (lease.secret().user(), password(&lease), lease.revision()),
        ("app", "password-1", &first)
    );
    assert!(lease.expiry().is_never());
    assert_eq!(lease.old_connections(), OldConnections::Drain);
    assert_eq!(
        poll(&provider, &lease).await.revision(),
        &first,
        "unchanged"
    );

    let second = Revision::new(secret.put("AWSCURRENT", &secret_text("password-2")).await);
    let lease = poll(&provider, &lease).await;
    assert_eq!(
        (password(&lease), lease.revision()),
        ("password-2", &second)
    );
}

#[tokio::test]
async fn the_pending_version_is_offered_during_a_rotation_and_then_kept() {
    let (_moto, secret, first, provider) = fixture("orders").await;
    let current = first_lease(&provider).await;
    let second = secret.put("AWSPENDING", &secret_text("password-2")).await;
    assert_eq!(
        poll(&provider, &current).await.revision(),
        &first,
        "nothing was rejected: the pending version is not offered"
    );

    let adopted = rejected(&provider, &current, &[&first]).await;
    assert_eq!(
        (password(&adopted), adopted.revision().as_str()),
        ("password-2", second.as_str())
    );
    // The exclusion is over and AWSCURRENT is still the same: the database would reject it again.
    assert_eq!(
        poll(&provider, &adopted).await.revision(),
        adopted.revision()
    );
    // finishSecret.
    secret
        .move_label("AWSCURRENT", Some(&second), Some(first.as_str()))
        .await;
    assert_eq!(
        poll(&provider, &adopted).await.revision(),
        adopted.revision()
    );
    // The end of the next rotation is noticed. Its version is not put at AWSCURRENT: after a
    // staging label was moved, moto would have two versions there.
    secret.move_label("AWSPENDING", None, Some(&second)).await;
    let third = secret.put("AWSPENDING", &secret_text("password-3")).await;
    secret
        .move_label("AWSCURRENT", Some(&third), Some(&second))
        .await;
    assert_eq!(poll(&provider, &adopted).await.revision().as_str(), third);
}

#[tokio::test]
async fn a_finished_rotation_that_is_reverted_is_followed() {
    let (_moto, secret, first, provider) = fixture("orders").await;
    let current = first_lease(&provider).await;
    let second = secret.put("AWSPENDING", &secret_text("password-2")).await;
    let adopted = rejected(&provider, &current, &[&first]).await;
    secret
        .move_label("AWSCURRENT", Some(&second), Some(first.as_str()))
        .await;
    assert_eq!(poll(&provider, &adopted).await.revision().as_str(), second);
    // Both versions work, as with alternating users, and the first becomes current again.
    secret
        .move_label("AWSCURRENT", Some(first.as_str()), Some(&second))
        .await;
    assert_eq!(poll(&provider, &adopted).await.revision(), &first);
}

#[tokio::test]
async fn a_rotation_that_is_rolled_back_returns_to_the_current_version() {
    let (_moto, secret, first, provider) = fixture("orders").await;
    let current = first_lease(&provider).await;
    let second = secret.put("AWSPENDING", &secret_text("password-2")).await;
    let adopted = rejected(&provider, &current, &[&first]).await;
    assert_eq!(adopted.revision().as_str(), second);
    secret.move_label("AWSPENDING", None, Some(&second)).await;
    // The supervisor no longer lists revisions that were rejected before the handover.
    let back = rejected(&provider, &adopted, &[adopted.revision()]).await;
    assert_eq!((password(&back), back.revision()), ("password-1", &first));
    assert_eq!(poll(&provider, &back).await.revision(), &first);
}

#[tokio::test]
async fn a_version_both_pending_and_current_is_one_candidate() {
    let (_moto, secret, first, provider) = fixture("orders").await;
    let second = Revision::new(secret.put("AWSPENDING", &secret_text("password-2")).await);
    secret
        .move_label("AWSCURRENT", Some(second.as_str()), Some(first.as_str()))
        .await;
    let current = first_lease(&provider).await;
    assert_eq!(current.revision(), &second);
    // The database was restored from yesterday's copy: AWSPREVIOUS works.
    let adopted = rejected(&provider, &current, &[&second]).await;
    assert_eq!(
        (password(&adopted), adopted.revision()),
        ("password-1", &first)
    );
    assert_eq!(
        poll(&provider, &adopted).await.revision(),
        &first,
        "it is kept, because AWSCURRENT is the rejected version"
    );
}

#[tokio::test]
async fn the_first_choice_is_offered_again_when_all_are_rejected() {
    let (_moto, secret, first, provider) = fixture("orders").await;
    let current = first_lease(&provider).await;
    assert_eq!(
        rejected(&provider, &current, &[&first]).await.revision(),
        &first,
        "there is no pending and no previous version"
    );
    let second = Revision::new(secret.put("AWSPENDING", &secret_text("password-2")).await);
    assert_eq!(
        rejected(&provider, &current, &[&first, &second])
            .await
            .revision(),
        &first
    );
}

#[tokio::test]
async fn an_unreadable_pending_version_is_no_candidate() {
    let (_moto, secret, first, provider) = fixture("orders").await;
    let current = first_lease(&provider).await;
    for text in ["half a secr", "{}", r#"{"username":"app"}"#, "[]"] {
        secret.put("AWSPENDING", text).await;
        assert_eq!(
            rejected(&provider, &current, &[&first]).await.revision(),
            &first,
            "{text}"
        );
    }
    let second = Revision::new(secret.put("AWSCURRENT", &secret_text("password-2")).await);
    let current = poll(&provider, &current).await;
    assert_eq!(current.revision(), &second);
    secret.put("AWSPENDING", "half a secr").await;
    assert_eq!(
        rejected(&provider, &current, &[&second]).await.revision(),
        &first,
        "the next in the fallback order"
    );
}

#[tokio::test]
async fn an_unreadable_current_version_is_an_error_unless_the_lease_is_rejected() {
    let (_moto, secret, first, provider) = fixture("orders").await;
    let current = first_lease(&provider).await;
    secret
        .put("AWSCURRENT", r#"{"username":"app","password":7}"#)
        .await;
    let request = FetchRequest::new(RotationTrigger::Schedule).with_current(current.clone());
    let error = provider
        .fetch_lease(request)
        .await
        .expect_err("it has no password");
    assert_eq!(error.kind(), ProviderErrorKind::Malformed);
    assert!(
        error.to_string().contains(
            "secret orders in eu-west-1, AWSCURRENT: the key \"password\" must be a string"
        ),
        "{error}"
    );
    // The previous version is still there, but rejected; the pending one is a candidate.
    let third = secret.put("AWSPENDING", &secret_text("password-3")).await;
    assert_eq!(
        rejected(&provider, &current, &[&first])
            .await
            .revision()
            .as_str(),
        third
    );
}

/// In moto, a rotation without a function leaves a version without a value at `AWSCURRENT`.
#[tokio::test]
async fn a_current_version_without_a_value_falls_back_to_the_pending_one() {
    let (_moto, secret, first, provider) = fixture("orders").await;
    let current = first_lease(&provider).await;
    secret.start_rotation_without_function().await;
    let second = secret.put("AWSPENDING", &secret_text("password-2")).await;
    let error = provider
        .fetch_lease(FetchRequest::first())
        .await
        .expect_err("the hazard: nothing is at AWSCURRENT");
    assert_eq!(error.kind(), ProviderErrorKind::NotFound, "{error}");
    let adopted = rejected(&provider, &current, &[&first]).await;
    assert_eq!(
        (password(&adopted), adopted.revision().as_str()),
        ("password-2", second.as_str())
    );
}

#[tokio::test]
async fn old_connections_follow_the_strategy_unless_configured() {
    let (moto, ..) = fixture("orders").await;
    let builder = || SecretsManager::builder(&aws(&moto.endpoint()), "orders");
    for (provider, old_connections) in [
        (builder(), OldConnections::Drain),
        (builder().with_alternating_users(), OldConnections::Keep),
        (
            builder()
                .with_alternating_users()
                .with_old_connections(OldConnections::Drain),
            OldConnections::Drain,
        ),
        (
            builder()
                .with_old_connections(OldConnections::EndWithLease)
                .with_alternating_users(),
            OldConnections::EndWithLease,
        ),
    ] {
        let provider = provider.build().expect("the settings are valid");
        assert_eq!(
            first_lease(&provider).await.old_connections(),
            old_connections
        );
    }
}

#[tokio::test]
async fn a_secret_rotated_by_schedule_is_polled_after_its_next_rotation() {
    let (_moto, secret, _, provider) = fixture("orders").await;
    let hint = |lease: &Lease<Credentials>| {
        format!("{lease:?}")
            .split("refresh_after: ")
            .nth(1)
            .map(str::to_owned)
            .expect("it is shown")
    };
    assert!(
        hint(&first_lease(&provider).await).starts_with("None"),
        "without a schedule the poll decides"
    );
    let rules = RotationRulesType::builder()
        .automatically_after_days(10)
        .build();
    secret
        .client
        .rotate_secret()
        .secret_id("orders")
        .rotation_rules(rules)
        .rotate_immediately(false)
        .send()
        .await
        .expect("it is configured");
    let lease = first_lease(&provider).await;
    // Ten days are 864,000 s; the margin is 300 s, and up to 60 s more.
    let seconds: f64 = hint(&lease)
        .trim_start_matches("Some(")
        .split('s')
        .next()
        .and_then(|text| text.parse().ok())
        .expect("seconds");
    assert!((864_250.0..864_361.0).contains(&seconds), "{seconds}");
    let again = poll(&provider, &lease).await;
    assert!(
        hint(&again).starts_with("Some(8643") || hint(&again).starts_with("Some(8642"),
        "{}",
        hint(&again)
    );
}

#[tokio::test]
async fn a_secret_is_found_by_its_full_or_partial_arn() {
    let (moto, secret, first, _) = fixture("prod/orders").await;
    let described = secret
        .client
        .describe_secret()
        .secret_id("prod/orders")
        .send()
        .await
        .expect("it is there");
    let arn = described.arn.expect("an ARN");
    for id in [&arn, &arn[..arn.len() - 7]] {
        let provider =
            SecretsManager::new(&aws(&moto.endpoint()), id).expect("the settings are valid");
        assert_eq!(first_lease(&provider).await.revision(), &first, "{id}");
    }
}

#[tokio::test]
async fn a_rehearsal_reads_the_pending_version_and_moves_no_label() {
    let (_moto, secret, first, provider) = fixture("orders").await;
    let current = first_lease(&provider).await;
    let request = || FetchRequest::new(RotationTrigger::Manual).with_current(current.clone());
    let rehearse = async || {
        let fetched = provider.rehearse(request()).await;
        let lease = fetched.and_then(|fetched| fetched.into_lease(Some(current.clone())));
        lease.expect("a lease")
    };
    assert_eq!(rehearse().await.revision(), &first, "nothing is pending");
    let second = Revision::new(secret.put("AWSPENDING", &secret_text("password-2")).await);
    let lease = rehearse().await;
    assert_eq!(
        (password(&lease), lease.revision()),
        ("password-2", &second)
    );
    assert_eq!(poll(&provider, &current).await.revision(), &first);
    secret.put("AWSPENDING", "no credentials").await;
    let error = provider.rehearse(request()).await;
    let error = error.expect_err("the pending version cannot be read");
    assert_eq!(error.kind(), ProviderErrorKind::Malformed);
    assert!(error.to_string().contains("AWSPENDING"), "{error}");
}
