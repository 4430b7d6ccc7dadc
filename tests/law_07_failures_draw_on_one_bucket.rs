//! Law 7: every failure path draws on one bucket per provider: three at once, then one per ten
//! seconds. Calls are counted, not outcomes.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use claviger::{Event, ProviderError, ProviderErrorKind, RotationTrigger};
use claviger_testkit::{Call, Lab, ScriptedPools, ScriptedProvider};
use tokio::time::sleep;

fn down() -> ProviderError {
    ProviderError::new(ProviderErrorKind::Unavailable, "the store is down")
}

/// No span of time has more calls than the bucket grants.
fn assert_within_the_bucket(calls: &[Call]) {
    for (i, from) in calls.iter().enumerate() {
        for (j, to) in calls.iter().enumerate().skip(i) {
            let granted = 3 + (to.at - from.at).as_secs() as usize / 10;
            assert!(
                j - i < granted,
                "{} calls within {:?}",
                j - i + 1,
                to.at - from.at
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn law_07_a_store_that_is_down_for_an_hour() {
    let lab = Lab::new();
    let store = ScriptedProvider::new().with_refresh_after(Duration::from_secs(60));
    let login = lab
        .supervisor
        .add_provider("login", store.clone())
        .await
        .expect("it starts");
    let _pool = lab
        .supervisor
        .add_pool("pool", &login, ScriptedPools::new(4))
        .await
        .expect("it is verified");
    store.fail_next(10_000, down());
    sleep(Duration::from_secs(3_600)).await;
    let calls = store.calls();
    assert!(
        calls.len() > 100,
        "the hazard: {} attempts failed",
        calls.len() - 2
    );
    // The start and the scheduled one are free; everything after them followed a failure.
    assert_within_the_bucket(&calls[2..]);
    assert!(
        calls[1..]
            .iter()
            .all(|call| call.trigger == RotationTrigger::Schedule)
    );

    // The bucket survives a restart of the actor.
    let before = store.calls().len();
    for _ in 0..3 {
        lab.failpoints.set("login", "provider.turn", 1);
        sleep(Duration::from_secs(20)).await;
        assert_eq!(
            lab.failpoints.left("login", "provider.turn"),
            0,
            "it crashed"
        );
    }
    assert_within_the_bucket(&store.calls()[2..]);
    assert!(store.calls().len() > before, "attempts go on");
}

#[tokio::test(start_paused = true)]
async fn law_07_a_rejected_credential_that_the_store_cannot_replace() {
    let lab = Lab::new();
    let (store, database) = (ScriptedProvider::new(), ScriptedPools::new(4));
    let login = lab
        .supervisor
        .add_provider("login", store.clone())
        .await
        .expect("it starts");
    let pool = lab
        .supervisor
        .add_pool("pool", &login, database.clone())
        .await
        .expect("it is verified");
    database.accept_only(["something else"]);
    let rejection = claviger::ConnectError::new(
        claviger::ConnectErrorKind::Rejected,
        "password authentication failed",
    )
    .with_code("28P01");
    assert!(pool.rejected(pool.generation(), &rejection));
    for _ in 0..600 {
        pool.rejected(pool.generation(), &rejection);
        sleep(Duration::from_secs(1)).await;
    }
    let calls = &store.calls()[1..];
    let rejected: Vec<_> = calls
        .iter()
        .filter(|call| call.trigger == RotationTrigger::Rejected)
        .cloned()
        .collect();
    assert!(
        rejected.len() > 20,
        "the hazard: {} fetches followed rejections",
        rejected.len()
    );
    assert_within_the_bucket(&rejected);
    assert!(
        rejected.iter().all(|call| call.rejected.len() == 1),
        "the provider is told what is rejected"
    );
}

#[tokio::test(start_paused = true)]
async fn law_07_hints_and_manual_requests_are_free_and_coalesced_to_one_a_second() {
    let lab = Lab::new();
    let store = ScriptedProvider::new();
    lab.supervisor
        .add_provider("login", store.clone())
        .await
        .expect("it starts");
    store.fail_next(2, down());
    for _ in 0..1_000 {
        store.hint();
        sleep(Duration::from_millis(10)).await;
    }
    let changed = store
        .calls()
        .iter()
        .filter(|call| call.trigger == RotationTrigger::Changed)
        .count();
    assert!(
        (9..=12).contains(&changed),
        "{changed} fetches in ten seconds of hints"
    );
    let before = store.calls().len();
    let requests: Vec<_> = (0..100)
        .map(|_| {
            let supervisor = lab.supervisor.clone();
            tokio::spawn(async move { supervisor.rotate_now("login").await })
        })
        .collect();
    for request in requests {
        request.await.expect("no panic").expect("it answers");
    }
    assert!(
        store.calls().len() - before <= 2,
        "a hundred requests at once are one fetch"
    );
}

#[tokio::test(start_paused = true)]
async fn law_07_an_issuer_that_mints_does_not_fill_its_own_bucket() {
    let lab = Lab::new();
    let (store, database) = (
        ScriptedProvider::new().with_mint_each(),
        ScriptedPools::new(4),
    );
    let login = lab
        .supervisor
        .add_provider("login", store.clone())
        .await
        .expect("it starts");
    let pool = lab
        .supervisor
        .add_pool("pool", &login, database.clone())
        .await
        .expect("it is verified");
    database.accept_only(["nothing that is minted"]);
    pool.rejected(
        1,
        &claviger::ConnectError::new(
            claviger::ConnectErrorKind::Rejected,
            "password authentication failed",
        ),
    );
    sleep(Duration::from_secs(120)).await;
    let calls = store.calls();
    assert!(calls.len() > 10, "the hazard: {} were minted", calls.len());
    assert_within_the_bucket(&calls[1..]);
    // A start, too.
    let error = lab
        .supervisor
        .add_pool("other", &login, database.clone())
        .await
        .expect_err("nothing is accepted");
    assert_eq!(
        error.connect_error().and_then(claviger::ConnectError::code),
        Some("28P01")
    );
    assert_within_the_bucket(&store.calls()[1..]);
}

#[tokio::test(start_paused = true)]
async fn law_07_a_new_revision_that_serves_fills_the_bucket() {
    let lab = Lab::new();
    let mut events = lab.supervisor.events();
    let store = ScriptedProvider::new();
    let login = lab
        .supervisor
        .add_provider("login", store.clone())
        .await
        .expect("it starts");
    let _pool = lab
        .supervisor
        .add_pool("pool", &login, ScriptedPools::new(4))
        .await
        .expect("it is verified");
    for _ in 0..5 {
        // Two failures, then a new revision: were the bucket not filled, the third round would
        // wait.
        store.fail_next(3, down());
        store.rotate();
        store.hint();
        loop {
            match events.next().await.expect("it goes on") {
                Event::Rotated(report)
                    if report.revision.is_some() && report.trigger == RotationTrigger::Changed =>
                {
                    assert!(report.took < Duration::from_secs(12), "{:?}", report.took);
                    break;
                }
                _ => {}
            }
        }
        sleep(Duration::from_secs(2)).await;
    }
    assert_eq!(store.calls().len(), 1 + 5 * 4);
}

/// Ten leases are to be taken back; then the one that serves is rejected. Answers how long its
/// successor took.
async fn rejected_after_ten_releases(error: ProviderError) -> (ScriptedProvider, Lab, Duration) {
    let lab = Lab::new();
    let (store, database) = (ScriptedProvider::new(), ScriptedPools::new(4));
    let login = lab
        .supervisor
        .add_provider("login", store.clone())
        .await
        .expect("it starts");
    let pool = lab
        .supervisor
        .add_pool("pool", &login, database.clone())
        .await
        .expect("it is verified");
    store.fail_releases(1_000, error);
    for _ in 0..10 {
        store.rotate();
        lab.supervisor
            .rotate_now("login")
            .await
            .expect("a new one is served");
    }
    sleep(Duration::from_secs(60)).await;
    assert!(
        store.release_attempts() >= 10 && store.released().is_empty(),
        "the hazard: {} releases",
        store.release_attempts()
    );
    let served = pool.generation();
    let began = tokio::time::Instant::now();
    let next = store.rotate();
    database.accept_only([next.as_str()]);
    assert!(pool.rejected(
        served,
        &claviger::ConnectError::new(
            claviger::ConnectErrorKind::Rejected,
            "password authentication failed"
        )
    ));
    while pool.generation() == served {
        sleep(Duration::from_millis(10)).await;
    }
    (store, lab, began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn law_07_releases_that_fail_keep_no_fetch_waiting() {
    let (store, _lab, took) = rejected_after_ten_releases(down()).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    let tried = store.release_attempts();
    assert!(tried > 12, "they are tried again: {tried}");
    sleep(Duration::from_secs(600)).await;
    assert!(
        store.release_attempts() - tried <= 60 + 3,
        "within the bucket: {}",
        store.release_attempts() - tried
    );
}

#[tokio::test(start_paused = true)]
async fn law_07_a_release_that_is_forbidden_is_not_tried_again() {
    let error = ProviderError::new(ProviderErrorKind::Denied, "not allowed");
    let (store, lab, took) = rejected_after_ten_releases(error).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    sleep(Duration::from_secs(600)).await;
    assert_eq!(store.release_attempts(), 11, "each lease once");
    assert_eq!(lab.supervisor.status().providers[0].unreleased, 0);
    // What is forbidden at the end is told.
    let report = lab.supervisor.shutdown(Duration::from_secs(5)).await;
    assert_eq!(
        (report.clean, report.unreleased.len()),
        (false, 1),
        "{report:?}"
    );
}
