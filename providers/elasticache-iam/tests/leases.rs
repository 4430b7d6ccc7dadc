//! Leases of this provider on each kind of cache.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use claviger::lease::{OldConnections, Timestamp};
use claviger::provider::{FetchRequest, Hints};
use claviger::report::RotationTrigger;
use claviger::{Provider, error::ProviderErrorKind};
use claviger_aws_fixtures::{
    Chain, fetch_again, first_lease, key, parameter, session, token, wall_time,
};
use claviger_elasticache_iam::{CacheKind, ElastiCacheIam};
use claviger_testkit::FetchLease;
use proptest::prelude::*;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

fn provider(chain: &Chain) -> ElastiCacheIam {
    let aws = chain.config(Some("eu-west-1"));
    ElastiCacheIam::new(&aws, CacheKind::Serverless, "Orders", "orders-app")
        .expect("the arguments are valid")
}

#[tokio::test]
async fn a_token_is_a_bearer_token_and_its_connections_authenticate_again_within_12_hours() {
    let before = Timestamp::now();
    let lease = first_lease(&provider(&Chain::key())).await;
    assert!(lease.secret().is_token());
    assert_eq!(lease.secret().user(), "orders-app");
    assert!(
        lease.secret().endpoint().is_none(),
        "a pool's options contain the endpoint"
    );
    assert_eq!(lease.old_connections(), OldConnections::Reauthenticate);
    let left = lease.connection_expiry().remaining(before);
    let left = left.expect("connections end");
    assert!(
        (12 * HOUR..12 * HOUR + MINUTE).contains(&left),
        "the token's expiry does not end them: {left:?}"
    );
    assert!(token(&lease).starts_with("orders/?Action=connect&User=orders-app&"));
}

#[tokio::test]
async fn a_lease_expires_with_its_token_or_with_the_session_that_signed_it() {
    let before = Timestamp::now();
    let lease = first_lease(&provider(&Chain::key())).await;
    let end = lease.expiry().wall().expect("it ends");
    // Tokens are dated by the second, so less than a second is lost.
    assert!(end <= wall_time() + 15 * MINUTE);
    assert!(end > before.wall() + 15 * MINUTE - Duration::from_secs(1));

    let expires_at = wall_time() + 9 * MINUTE;
    let chain = Chain::scripted(move || Ok(session("ASIA1", "t", Some(expires_at))));
    let lease = first_lease(&provider(&chain)).await;
    assert!(lease.expiry().wall().expect("it ends") <= expires_at);
    assert!(lease.expiry().remaining(Timestamp::now()).expect("it ends") > 8 * MINUTE);
}

#[tokio::test]
async fn a_session_about_to_expire_signs_nothing() {
    let chain = Chain::scripted(|| {
        let end = wall_time() + Duration::from_millis(1_200);
        Ok(session("ASIA1", "t", Some(end)))
    });
    let error = provider(&chain)
        .fetch_lease(FetchRequest::first())
        .await
        .expect_err("it would expire at once");
    assert_eq!(error.kind(), ProviderErrorKind::Unavailable);
    assert!(error.to_string().contains("about to expire"), "{error}");
}

#[tokio::test]
async fn a_rejected_young_token_is_kept_until_the_identity_changes() {
    let chain = Chain::key();
    let provider = provider(&chain);
    let current = first_lease(&provider).await;
    let same = fetch_again(&provider, RotationTrigger::Rejected, &current).await;
    assert_eq!(same.revision(), current.revision());
    chain.respond_with(|| Ok(key("AKIA2")));
    let new = fetch_again(&provider, RotationTrigger::Rejected, &current).await;
    assert_ne!(new.revision(), current.revision());
    let signer = parameter(token(&new), "X-Amz-Credential").expect("it names the key");
    assert!(signer.starts_with("AKIA2%2F"), "{signer}");
}

#[tokio::test]
async fn a_young_token_that_is_rejected_twice_is_signed_again() {
    let provider = provider(&Chain::key());
    let current = first_lease(&provider).await;
    let date = parameter(token(&current), "X-Amz-Date").map(str::to_owned);
    let once = fetch_again(&provider, RotationTrigger::Rejected, &current).await;
    assert_eq!(once.revision(), current.revision(), "it may be transient");
    // Within one second an identity signs equal tokens.
    claviger_fixtures::eventually("the next second has begun", || {
        let second = |time: std::time::SystemTime| {
            time.duration_since(std::time::UNIX_EPOCH)
                .expect("after 1970")
                .as_secs()
        };
        let signed = claviger_aws_fixtures::signed_at(token(&current));
        second(wall_time()) > second(signed)
    })
    .await;
    let twice = fetch_again(&provider, RotationTrigger::Rejected, &once).await;
    assert_ne!(
        parameter(token(&twice), "X-Amz-Date").map(str::to_owned),
        date
    );
}

#[tokio::test(start_paused = true)]
async fn another_identity_is_detected_within_a_minute() {
    let chain = Chain::key();
    let provider = std::sync::Arc::new(provider(&chain));
    first_lease(&*provider).await;
    let (sender, mut hints) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn({
        let provider = std::sync::Arc::clone(&provider);
        async move {
            let hints = Hints::new(move || {
                let _ = sender.send(());
            });
            provider.watch(hints).await;
        }
    });
    tokio::time::sleep(10 * MINUTE).await;
    assert!(hints.try_recv().is_err() && chain.calls() > 5, "no change");
    chain.respond_with(|| Ok(key("AKIA2")));
    tokio::time::timeout(MINUTE + Duration::from_secs(1), hints.recv())
        .await
        .expect("a hint is received")
        .expect("the watch runs");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    /// Any input returns an error, or a token with exactly that input.
    #[test]
    fn nothing_panics(
        name in "\\PC{0,30}|[A-Za-z][A-Za-z0-9-]{0,40}",
        user in ".{0,40}|[ -~]{1,20}",
    ) {
        let aws = Chain::key().config(Some("eu-west-1"));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        if let Ok(provider) = ElastiCacheIam::new(&aws, CacheKind::MemoryDb, &*name, &*user) {
            let lease = runtime.block_on(first_lease(&provider));
            prop_assert_eq!(lease.secret().user(), &*user);
            let start = format!("{}/?", name.to_ascii_lowercase());
            prop_assert!(token(&lease).starts_with(&start));
            prop_assert!(token(&lease).is_ascii());
            let signed = parameter(token(&lease), "User").expect("it has a user");
            prop_assert!(!signed.contains(['&', '=', ' ', '+']));
        }
    }
}
