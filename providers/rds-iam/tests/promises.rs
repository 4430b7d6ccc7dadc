//! What every provider promises, and what this one does besides: revisions, expiry, when it signs.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::collections::HashSet;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use claviger::{
    FetchRequest, Hints, OldConnections, Provider, ProviderErrorKind, RotationTrigger, Timestamp,
};
use claviger_rds_iam::RdsIam;
use claviger_testkit::FetchLease;
use common::{Chain, HOST, USER, again, first, key, now, parameter, session, token};
use proptest::prelude::*;
use tokio::sync::mpsc;

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_token_is_a_bearer_token_whose_sessions_stay() {
    let lease = first(&Chain::key().provider()).await;
    assert!(lease.secret().is_token());
    assert_eq!(lease.secret().user(), USER);
    assert!(
        lease.secret().endpoint().is_none(),
        "pools know where to connect"
    );
    assert_eq!(lease.old_connections(), OldConnections::Keep);
    assert!(token(&lease).starts_with(&format!("{HOST}:5432/?Action=connect&DBUser={USER}&")));
    assert_eq!(parameter(token(&lease), "X-Amz-Expires"), Some("900"));
}

#[tokio::test]
async fn a_lease_ends_with_its_token_or_with_the_session_that_signed_it() {
    let before = Timestamp::now();
    let lease = first(&Chain::key().provider()).await;
    let end = lease.expiry().wall().expect("it ends");
    // Dated by the whole second: less than a second is lost.
    assert!(
        end <= now() + 15 * MINUTE && end > before.wall() + 15 * MINUTE - Duration::from_secs(1)
    );
    assert!(lease.expiry().remaining(before).expect("it ends") <= 15 * MINUTE);

    let death = now() + 9 * MINUTE;
    let lease = first(&Chain::of(move || Ok(session("ASIA1", "t", Some(death)))).provider()).await;
    let late = lease
        .expiry()
        .wall()
        .expect("it ends")
        .duration_since(death)
        .unwrap_or_default();
    assert_eq!(late, Duration::ZERO, "never past the session's end");
    assert!(lease.expiry().remaining(Timestamp::now()).expect("it ends") > 8 * MINUTE);
}

#[tokio::test]
async fn every_new_token_has_a_revision_of_its_own_and_an_old_one_keeps_its() {
    let chain = Chain::key();
    let provider = chain.provider();
    let held = first(&provider).await;
    let mut seen = HashSet::from([held.revision().clone()]);
    for id in ["AKIA2", "AKIA3"] {
        chain.becomes(move || Ok(key(id)));
        assert!(
            seen.insert(
                again(&provider, RotationTrigger::Schedule, &held)
                    .await
                    .revision()
                    .clone()
            )
        );
    }
    let revision = held.revision().as_str();
    assert!(
        !token(&held).contains(revision) && revision.len() < 40,
        "it is not the token"
    );

    // Equal revision, equal token: the same identity in the same second.
    let again = [first(&provider).await, first(&provider).await];
    assert_eq!(
        again[0].revision() == again[1].revision(),
        token(&again[0]) == token(&again[1])
    );
}

#[tokio::test]
async fn whoever_demands_a_new_token_gets_one() {
    let provider = Chain::key().provider();
    let held = first(&provider).await;
    let new = again(&provider, RotationTrigger::Manual, &held).await;
    assert_ne!(new.revision(), held.revision());
    assert_ne!(token(&new), token(&held));
    assert!(!new.expiry().is_expired(Timestamp::now()));
}

#[tokio::test]
async fn a_young_token_that_is_rejected_is_held_until_the_identity_changes() {
    let chain = Chain::key();
    let provider = chain.provider();
    let held = first(&provider).await;
    for trigger in [RotationTrigger::Rejected, RotationTrigger::Changed] {
        let same = again(&provider, trigger, &held).await;
        assert_eq!(same.revision(), held.revision());
        assert_eq!(
            (same.expiry(), token(&same)),
            (held.expiry(), token(&held)),
            "its clone, unchanged"
        );
    }
    assert_eq!(chain.asked(), 3, "the identity was asked for each time");

    chain.becomes(|| Ok(session("AKIAEXAMPLE", "another session", None)));
    for trigger in [RotationTrigger::Rejected, RotationTrigger::Changed] {
        let new = again(&provider, trigger, &held).await;
        assert_ne!(new.revision(), held.revision());
        assert_eq!(
            parameter(token(&new), "X-Amz-Security-Token"),
            Some("another%20session")
        );
    }
}

#[tokio::test]
async fn an_old_token_that_is_rejected_is_signed_again() {
    let provider = Chain::key().provider_of(Duration::from_secs(3));
    let held = first(&provider).await;
    let born = held.expiry().wall().expect("it ends") - Duration::from_secs(3);
    claviger_fixtures::eventually("half of its life is over", || {
        now() >= born + Duration::from_millis(1_550)
    })
    .await;
    assert_ne!(
        again(&provider, RotationTrigger::Rejected, &held)
            .await
            .revision(),
        held.revision()
    );
}

#[tokio::test]
async fn a_session_about_to_end_signs_nothing() {
    for left in [Some(Duration::from_millis(1_200)), None] {
        let chain = Chain::of(move || {
            let end = left.map_or(now() - MINUTE, |left| now() + left);
            Ok(session("ASIA1", "t", Some(end)))
        });
        let error = chain
            .provider()
            .fetch_lease(FetchRequest::first())
            .await
            .expect_err("it would be dead at once");
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
async fn a_chain_without_credentials_is_told_and_may_pass() {
    let chain = Chain::of(|| {
        Err(CredentialsError::not_loaded(
            "no providers in chain provided credentials",
        ))
    });
    let provider = chain.provider();
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
    chain.becomes(|| Ok(key("AKIA1")));
    first(&provider).await;
}

#[tokio::test(start_paused = true)]
async fn a_chain_that_hangs_is_given_up() {
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
    let provider = RdsIam::new(&aws, HOST, 5432, USER).expect("the arguments are right");
    let error = provider
        .fetch_lease(FetchRequest::first())
        .await
        .expect_err("it hangs");
    assert_eq!(error.kind(), ProviderErrorKind::TimedOut);
}

/// Runs the watch, and hears its hints.
fn watched(chain: &Chain) -> (std::sync::Arc<RdsIam>, mpsc::UnboundedReceiver<()>) {
    let provider = std::sync::Arc::new(chain.provider());
    let (sender, hints) = mpsc::unbounded_channel();
    tokio::spawn({
        let provider = std::sync::Arc::clone(&provider);
        async move {
            let hinting = Hints::new(move || {
                let _ = sender.send(());
            });
            provider.watch(hinting).await;
        }
    });
    (provider, hints)
}

#[tokio::test(start_paused = true)]
async fn another_identity_is_noticed_within_a_minute() {
    let chain = Chain::key();
    let (provider, mut hints) = watched(&chain);
    let held = first(&provider).await;
    tokio::time::sleep(10 * MINUTE).await;
    assert!(
        hints.try_recv().is_err() && chain.asked() > 5,
        "it is looked at, and is the same"
    );

    chain.becomes(|| Ok(key("AKIA2")));
    tokio::time::timeout(MINUTE + Duration::from_secs(1), hints.recv())
        .await
        .expect("a hint comes")
        .expect("it is watched");
    assert_ne!(
        again(&provider, RotationTrigger::Changed, &held)
            .await
            .revision(),
        held.revision()
    );
    tokio::time::sleep(10 * MINUTE).await;
    assert!(hints.try_recv().is_err(), "one change, one hint");
}

#[tokio::test(start_paused = true)]
async fn a_chain_that_issues_a_session_each_time_is_not_asked_for_ever() {
    let mut number = 0;
    let chain = Chain::of(move || {
        number += 1;
        Ok(key(&format!("AKIA{number}")))
    });
    let (provider, mut hints) = watched(&chain);
    let mut held = first(&provider).await;
    let mut count = 0;
    while tokio::time::timeout(10 * MINUTE, hints.recv())
        .await
        .is_ok()
    {
        held = again(&provider, RotationTrigger::Changed, &held).await;
        count += 1;
    }
    assert_eq!(count, 1, "it was believed once");
    let asked = chain.asked();
    tokio::time::sleep(60 * MINUTE).await;
    assert_eq!(chain.asked(), asked);
}

/// The chain fails when it is asked because of a hint, and has yet another identity a minute later:
/// that is no chain without a cache.
#[tokio::test(start_paused = true)]
async fn a_hint_that_could_not_be_followed_does_not_end_the_watch() {
    let chain = Chain::key();
    let (provider, mut hints) = watched(&chain);
    let held = first(&provider).await;
    for id in ["AKIA2", "AKIA3"] {
        chain.becomes(move || Ok(key(id)));
        tokio::time::timeout(MINUTE + Duration::from_secs(1), hints.recv())
            .await
            .expect("a hint comes")
            .expect("it is watched");
        chain.becomes(|| Err(CredentialsError::provider_error("STS is down")));
        let asked = FetchRequest::new(RotationTrigger::Changed).held(held.clone());
        provider
            .fetch_lease(asked)
            .await
            .expect_err("the hazard: the hint leads to nothing");
    }
    chain.becomes(|| Ok(key("AKIA3")));
    let held = again(&provider, RotationTrigger::Changed, &held).await;
    assert!(
        parameter(token(&held), "X-Amz-Credential")
            .is_some_and(|credential| credential.starts_with("AKIA3"))
    );
    chain.becomes(|| Ok(key("AKIA4")));
    tokio::time::timeout(MINUTE + Duration::from_secs(1), hints.recv())
        .await
        .expect("a hint comes")
        .expect("it is watched still");
}

/// The configuration's clock signs, and the machine's is wrong by hours: what lives is counted by
/// each for itself.
#[tokio::test]
async fn a_configuration_with_a_clock_of_its_own_lives_as_long() {
    #[derive(Debug)]
    struct Ahead;
    impl aws_types::sdk_config::TimeSource for Ahead {
        fn now(&self) -> std::time::SystemTime {
            now() + 600 * MINUTE
        }
    }
    for (session_left, life) in [(60, 15), (9, 9)] {
        let chain = Chain::of(move || {
            Ok(session(
                "ASIA1",
                "t",
                Some(now() + (600 + session_left) * MINUTE),
            ))
        });
        let aws = chain.config(None).into_builder().time_source(Ahead).build();
        let lease =
            first(&RdsIam::new(&aws, HOST, 5432, USER).expect("the arguments are right")).await;
        let left = lease.expiry().remaining(Timestamp::now()).expect("it ends");
        assert!(
            left <= life * MINUTE && left > life * MINUTE - Duration::from_secs(3),
            "{left:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    /// Whatever is given: an error, or a token that says what was meant.
    #[test]
    fn nothing_panics(host in "\\PC{0,30}|[A-Za-z0-9.:\\[\\]_-]{0,40}|[0-9a-fx.]{0,20}|xn--[a-z0-9-]{0,20}", port: u16, user in ".{0,40}|[ -~]{1,20}") {
        let aws = Chain::key().config(Some("eu-west-1"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        if let Ok(provider) = RdsIam::new(&aws, &*host, port, &*user) {
            let lease = runtime.block_on(first(&provider));
            let signed = parameter(token(&lease), "DBUser").expect("it has a user");
            let read = percent_encoding::percent_decode_str(signed).decode_utf8().expect("it is UTF-8");
            prop_assert_eq!(&*read, &*user);
            let bare = host.trim_matches(['[', ']']);
            prop_assert!(token(&lease).trim_start_matches('[').starts_with(bare));
            prop_assert!(token(&lease).is_ascii());
        }
    }
}
