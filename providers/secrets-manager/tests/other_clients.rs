//! needs: postgresql, moto, quiet
//!
//! The same rotations with this library and with what services do without it: a request before each
//! connect, and a cache of five minutes.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use claviger_fixtures::{Callers, eventually, short_lived};
use claviger_rotator::Users;
use claviger_secrets_fixtures::{
    ConnectAttempt, FetchPolicy, PlainService, SECRET, SecretsFixture, aws, rotations, window,
};
use claviger_secrets_manager::SecretsManager;
use claviger_servers::{Postgres, Proxy};
use tokio::time::{Instant, sleep_until};

#[tokio::test(flavor = "multi_thread")]
async fn other_clients_fail_for_the_whole_window_or_longer() {
    let fixture = SecretsFixture::<Postgres>::new(Users::Single).await;
    let provider = SecretsManager::new(&fixture.aws(), SECRET).expect("the settings are valid");
    // A connection's lifetime is no longer than the interval at which the others connect.
    let options = short_lived(fixture.database.pool_options(4), Duration::from_millis(20));
    let db = fixture
        .pool(provider, fixture.database.pools_with(options))
        .await;
    let ours = Callers::start_with_pause(&db, 4, "SELECT 1", Duration::from_millis(20));
    ours.wait_for_more(20).await;

    let their_proxies: Vec<_> = (0..2)
        .map(|_| Proxy::start(&fixture.moto.endpoint()).expect("a proxy starts"))
        .collect();
    let policies = [
        FetchPolicy::EachTime,
        FetchPolicy::Cached(Duration::from_secs(300)),
    ];
    let theirs = [0, 1].map(|index| {
        PlainService::start(
            &fixture.database,
            &aws(&their_proxies[index].endpoint()),
            policies[index],
        )
    });
    eventually("they connect", || {
        theirs.iter().all(|service| service.connected() > 1)
    })
    .await;
    // A few show it: each takes seconds.
    let rotations = rotations().div_ceil(4);
    let mut windows = Vec::new();
    for _ in 0..rotations {
        let succeeded_before = ours.succeeded();
        let pending = fixture.open_window().await;
        let opened = Instant::now();
        sleep_until(opened + window()).await;
        windows.push((opened, Instant::now()));
        assert!(
            ours.succeeded() > succeeded_before,
            "ours succeed in the window"
        );
        fixture.close_window(&pending).await;
        ours.wait_for_more(50).await;
    }
    let end = Instant::now();
    let [each_time, cached] = theirs;
    let (each_time, cached) = (each_time.stop().await, cached.stop().await);

    // Ours: no failure, and at most two calls for each rotation.
    ours.stop_without_failure().await;
    let requests = fixture.value_requests();
    assert!(
        (1 + rotations..=1 + 2 * rotations).contains(&requests),
        "{requests}"
    );
    // A request before each attempt: down in each window, and a call for each.
    let (calls, attempts) = (their_proxies[0].requests("GetSecretValue"), each_time.len());
    assert!(
        calls >= attempts && attempts > 3 * rotations,
        "{calls} calls for {attempts} attempts"
    );
    let in_a_window = |attempt: &&ConnectAttempt| {
        windows
            .iter()
            .any(|(opened, closed)| attempt.began > *opened && attempt.ended < *closed)
    };
    let in_windows: Vec<_> = each_time.iter().filter(in_a_window).collect();
    assert!(
        !in_windows.is_empty() && in_windows.iter().all(|attempt| !attempt.succeeded),
        "down for the whole of each window"
    );
    // A cache: down from the first window on, until it is refreshed.
    assert_eq!(their_proxies[1].requests("GetSecretValue"), 1);
    let first_opened = windows
        .first()
        .map(|(opened, _)| *opened)
        .expect("a window");
    assert!(
        cached
            .iter()
            .any(|attempt| attempt.ended < first_opened && attempt.succeeded),
        "attempts succeeded before"
    );
    let after: Vec<_> = cached
        .iter()
        .filter(|attempt| attempt.began > first_opened)
        .collect();
    assert!(
        after.len() > 3 * rotations && after.iter().all(|attempt| !attempt.succeeded),
        "down for {:?} and more",
        end - first_opened
    );
    fixture.shutdown().await;
}
