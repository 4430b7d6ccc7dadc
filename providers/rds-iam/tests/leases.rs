//! Leases of this provider: revisions, expiry, and when a token is signed.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::collections::HashSet;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use claviger::Provider;
use claviger::error::ProviderErrorKind;
use claviger::lease::{OldConnections, Timestamp};
use claviger::provider::{FetchRequest, Hints};
use claviger::report::RotationTrigger;
use claviger_rds_iam::RdsIam;
use claviger_testkit::FetchLease;
use common::{
    Chain, HOST, USER, fetch_again, first_lease, key, parameter, provider, provider_with_lifetime,
    session, token, wall_time,
};
use proptest::prelude::*;
use tokio::sync::mpsc;

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_token_is_a_bearer_token_and_its_connections_are_kept() {
    let lease = first_lease(&provider(&Chain::key())).await;
    assert!(lease.secret().is_token());
    assert_eq!(lease.secret().user(), USER);
    assert!(
        lease.secret().endpoint().is_none(),
        "a pool's options contain the endpoint"
    );
    assert_eq!(lease.old_connections(), OldConnections::Keep);
    assert!(token(&lease).starts_with(&format!("{HOST}:5432/?Action=connect&DBUser={USER}&")));
    assert_eq!(parameter(token(&lease), "X-Amz-Expires"), Some("900"));
}

#[tokio::test]
async fn a_lease_expires_with_its_token_or_with_the_session_that_signed_it() {
    let before = Timestamp::now();
    let lease = first_lease(&provider(&Chain::key())).await;
    let end = lease.expiry().wall().expect("it ends");
    // Tokens are dated by the second, so less than a second is lost.
    assert!(
        end <= wall_time() + 15 * MINUTE
            && end > before.wall() + 15 * MINUTE - Duration::from_secs(1)
    );
    assert!(lease.expiry().remaining(before).expect("it ends") <= 15 * MINUTE);

    let expires_at = wall_time() + 9 * MINUTE;
    let lease = first_lease(&provider(&Chain::scripted(move || {
        Ok(session("ASIA1", "t", Some(expires_at)))
    })))
    .await;
    let late = lease
        .expiry()
        .wall()
        .expect("it ends")
        .duration_since(expires_at)
        .unwrap_or_default();
    assert_eq!(late, Duration::ZERO, "never past the session's end");
    assert!(lease.expiry().remaining(Timestamp::now()).expect("it ends") > 8 * MINUTE);
}

#[tokio::test]
async fn every_new_token_has_its_own_revision() {
    let chain = Chain::key();
    let provider = provider(&chain);
    let current = first_lease(&provider).await;
    let mut seen = HashSet::from([current.revision().clone()]);
    for id in ["AKIA2", "AKIA3"] {
        chain.respond_with(move || Ok(key(id)));
        assert!(
            seen.insert(
                fetch_again(&provider, RotationTrigger::Schedule, &current)
                    .await
                    .revision()
                    .clone()
            )
        );
    }
    let revision = current.revision().as_str();
    assert!(
        !token(&current).contains(revision) && revision.len() < 40,
        "it is not the token"
    );

    // Equal revision means equal token: the same identity in the same second.
    let equal = [first_lease(&provider).await, first_lease(&provider).await];
    assert_eq!(
        equal[0].revision() == equal[1].revision(),
        token(&equal[0]) == token(&equal[1])
    );
}

#[tokio::test]
async fn a_manual_rotation_signs_a_new_token() {
    let provider = provider(&Chain::key());
    let current = first_lease(&provider).await;
    let new = fetch_again(&provider, RotationTrigger::Manual, &current).await;
    assert_ne!(new.revision(), current.revision());
    assert_ne!(token(&new), token(&current));
    assert!(!new.expiry().is_expired(Timestamp::now()));
}

#[tokio::test]
async fn a_rejected_young_token_is_kept_until_the_identity_changes() {
    let chain = Chain::key();
    let provider = provider(&chain);
    let current = first_lease(&provider).await;
    for trigger in [RotationTrigger::Rejected, RotationTrigger::Changed] {
        let same = fetch_again(&provider, trigger, &current).await;
        assert_eq!(same.revision(), current.revision());
        assert_eq!(
            (same.expiry(), token(&same)),
            (current.expiry(), token(&current)),
            "its clone, unchanged"
        );
    }
    assert_eq!(chain.calls(), 3, "the identity was requested each time");

    chain.respond_with(|| Ok(session("AKIAEXAMPLE", "another session", None)));
    for trigger in [RotationTrigger::Rejected, RotationTrigger::Changed] {
        let new = fetch_again(&provider, trigger, &current).await;
        assert_ne!(new.revision(), current.revision());
        assert_eq!(
            parameter(token(&new), "X-Amz-Security-Token"),
            Some("another%20session")
        );
    }
}

#[tokio::test]
async fn a_rejected_old_token_is_signed_again() {
    let provider = provider_with_lifetime(&Chain::key(), Duration::from_secs(3));
    let current = first_lease(&provider).await;
    let signed_at = current.expiry().wall().expect("it ends") - Duration::from_secs(3);
    claviger_fixtures::eventually("half of its lifetime is over", || {
        wall_time() >= signed_at + Duration::from_millis(1_550)
    })
    .await;
    assert_ne!(
        fetch_again(&provider, RotationTrigger::Rejected, &current)
            .await
            .revision(),
        current.revision()
    );
}

#[tokio::test]
async fn a_session_about_to_expire_signs_nothing() {
    for left in [Some(Duration::from_millis(1_200)), None] {
        let chain = Chain::scripted(move || {
            let end = left.map_or(wall_time() - MINUTE, |left| wall_time() + left);
            Ok(session("ASIA1", "t", Some(end)))
        });
        let error = provider(&chain)
            .fetch_lease(FetchRequest::first())
            .await
            .expect_err("it would expire at once");
        assert_eq!(error.kind(), ProviderErrorKind::Unavailable);
        assert!(
            error.to_string().contains(if left.is_some() {
                "about to expire"
            } else {
                "expired 60 s ago"
            }),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_chain_without_credentials_is_a_transient_error() {
    let chain = Chain::scripted(|| {
        Err(CredentialsError::not_loaded(
            "no providers in chain provided credentials",
        ))
    });
    let provider = provider(&chain);
    let error = provider
        .fetch_lease(FetchRequest::first())
        .await
        .expect_err("there are none");
    assert!(
        error.is_transient(),
        "the instance's metadata may be slow at start: {error}"
    );
    assert!(
        error.to_string().contains("give the service a role"),
        "{error}"
    );
    chain.respond_with(|| Ok(key("AKIA1")));
    first_lease(&provider).await;
}

#[tokio::test(start_paused = true)]
async fn a_chain_that_hangs_times_out() {
    #[derive(Debug)]
    struct Hangs;
    impl aws_credential_types::provider::ProvideCredentials for Hangs {
        fn provide_credentials<'a>(
            &'a self,
        ) -> aws_credential_types::provider::future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            aws_credential_types::provider::future::ProvideCredentials::new(std::future::pending())
        }
    }
    let aws = Chain::key().config(None).into_builder();
    let aws = aws
        .credentials_provider(aws_credential_types::provider::SharedCredentialsProvider::new(Hangs))
        .build();
    let provider = RdsIam::new(&aws, HOST, 5432, USER).expect("the arguments are valid");
    let error = provider
        .fetch_lease(FetchRequest::first())
        .await
        .expect_err("it hangs");
    assert_eq!(error.kind(), ProviderErrorKind::TimedOut);
}

/// Waits up to a minute for the next hint.
async fn next_hint(hints: &mut mpsc::UnboundedReceiver<()>) {
    tokio::time::timeout(MINUTE + Duration::from_secs(1), hints.recv())
        .await
        .expect("a hint is received")
        .expect("the watch runs");
}

/// Runs the watch of a provider and receives its hints.
fn start_watch(chain: &Chain) -> (std::sync::Arc<RdsIam>, mpsc::UnboundedReceiver<()>) {
    let provider = std::sync::Arc::new(provider(chain));
    let (sender, hints) = mpsc::unbounded_channel();
    tokio::spawn({
        let provider = std::sync::Arc::clone(&provider);
        async move {
            let hints = Hints::new(move || {
                let _ = sender.send(());
            });
            provider.watch(hints).await;
        }
    });
    (provider, hints)
}

#[tokio::test(start_paused = true)]
async fn another_identity_is_detected_within_a_minute() {
    let chain = Chain::key();
    let (provider, mut hints) = start_watch(&chain);
    let current = first_lease(&*provider).await;
    tokio::time::sleep(10 * MINUTE).await;
    assert!(
        hints.try_recv().is_err() && chain.calls() > 5,
        "the identity is requested, and is the same"
    );

    chain.respond_with(|| Ok(key("AKIA2")));
    next_hint(&mut hints).await;
    assert_ne!(
        fetch_again(&*provider, RotationTrigger::Changed, &current)
            .await
            .revision(),
        current.revision()
    );
    tokio::time::sleep(10 * MINUTE).await;
    assert!(hints.try_recv().is_err(), "one change, one hint");
}

#[tokio::test(start_paused = true)]
async fn a_chain_that_issues_a_session_each_time_is_not_polled_for_ever() {
    let mut number = 0;
    let chain = Chain::scripted(move || {
        number += 1;
        Ok(key(&format!("AKIA{number}")))
    });
    let (provider, mut hints) = start_watch(&chain);
    let mut current = first_lease(&*provider).await;
    let mut count = 0;
    while tokio::time::timeout(10 * MINUTE, hints.recv())
        .await
        .is_ok()
    {
        current = fetch_again(&*provider, RotationTrigger::Changed, &current).await;
        count += 1;
    }
    assert_eq!(count, 1, "the first hint was followed, and the watch ended");
    let calls = chain.calls();
    tokio::time::sleep(60 * MINUTE).await;
    assert_eq!(chain.calls(), calls);
}

/// The chain fails in the fetch after a hint, and has another identity a minute later. The watch
/// does not mistake it for a chain without a cache.
#[tokio::test(start_paused = true)]
async fn a_hint_that_could_not_be_followed_does_not_end_the_watch() {
    let chain = Chain::key();
    let (provider, mut hints) = start_watch(&chain);
    let current = first_lease(&*provider).await;
    for id in ["AKIA2", "AKIA3"] {
        chain.respond_with(move || Ok(key(id)));
        next_hint(&mut hints).await;
        chain.respond_with(|| Err(CredentialsError::provider_error("STS is down")));
        let request = FetchRequest::new(RotationTrigger::Changed).with_current(current.clone());
        provider
            .fetch_lease(request)
            .await
            .expect_err("the hazard: the fetch after the hint fails");
    }
    chain.respond_with(|| Ok(key("AKIA3")));
    let current = fetch_again(&*provider, RotationTrigger::Changed, &current).await;
    assert!(
        parameter(token(&current), "X-Amz-Credential")
            .is_some_and(|credential| credential.starts_with("AKIA3"))
    );
    chain.respond_with(|| Ok(key("AKIA4")));
    next_hint(&mut hints).await;
}

/// Tokens are signed by the configuration's clock, hours ahead of the machine's. A lease's lifetime
/// by the machine's clock is still right.
#[tokio::test]
async fn a_configuration_with_its_own_clock_gives_the_same_lifetime() {
    #[derive(Debug)]
    struct Ahead;
    impl aws_types::sdk_config::TimeSource for Ahead {
        fn now(&self) -> std::time::SystemTime {
            wall_time() + 600 * MINUTE
        }
    }
    for (session_left, lifetime) in [(60, 15), (9, 9)] {
        let chain = Chain::scripted(move || {
            Ok(session(
                "ASIA1",
                "t",
                Some(wall_time() + (600 + session_left) * MINUTE),
            ))
        });
        let aws = chain.config(None).into_builder().time_source(Ahead).build();
        let lease =
            first_lease(&RdsIam::new(&aws, HOST, 5432, USER).expect("the arguments are valid"))
                .await;
        let left = lease.expiry().remaining(Timestamp::now()).expect("it ends");
        assert!(
            left <= lifetime * MINUTE && left > lifetime * MINUTE - Duration::from_secs(3),
            "{left:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    /// Any input returns an error, or a token with exactly that input.
    #[test]
    fn nothing_panics(
        host in "\\PC{0,30}|[A-Za-z0-9.:\\[\\]_-]{0,40}|[0-9a-fx.]{0,20}|xn--[a-z0-9-]{0,20}",
        port: u16,
        user in ".{0,40}|[ -~]{1,20}",
    ) {
        let aws = Chain::key().config(Some("eu-west-1"));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        if let Ok(provider) = RdsIam::new(&aws, &*host, port, &*user) {
            let lease = runtime.block_on(first_lease(&provider));
            let signed = parameter(token(&lease), "DBUser").expect("it has a user");
            let read = percent_encoding::percent_decode_str(signed)
                .decode_utf8()
                .expect("it is UTF-8");
            prop_assert_eq!(&*read, &*user);
            let bare = host.trim_matches(['[', ']']);
            prop_assert!(token(&lease).trim_start_matches('[').starts_with(bare));
            prop_assert!(token(&lease).is_ascii());
        }
    }
}
