//! Law 7: every failure path draws on one bucket per provider: three tokens, then one per ten
//! seconds. Calls are counted, not outcomes.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use claviger::error::{ProviderError, ProviderErrorKind};
use claviger::events::Event;
use claviger::report::RotationTrigger;
use claviger_fixtures::{Scripted, backend_down, fetches, rejection};
use claviger_testkit::{Call, Lab, ScriptedProvider};
use tokio::time::sleep;

/// Asserts that no period has more calls than the bucket grants.
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
async fn law_07_fetches_from_a_backend_that_is_down_draw_on_the_bucket() {
    let Scripted { lab, provider, .. } =
        Scripted::with(ScriptedProvider::new().with_refresh_after(Duration::from_secs(60))).await;
    provider.fail_next(10_000, backend_down());
    sleep(Duration::from_secs(3_600)).await;
    let calls = provider.calls();
    assert!(
        calls.len() > 100,
        "the hazard: {} attempts failed",
        calls.len() - 2
    );
    // The start and the scheduled fetch are free; all later ones follow a failure.
    assert_within_the_bucket(&calls[2..]);
    assert!(
        calls[1..]
            .iter()
            .all(|call| call.trigger == RotationTrigger::Schedule)
    );

    // The bucket survives a restart of the actor.
    let before = provider.calls().len();
    for _ in 0..3 {
        lab.failpoints.set("login", "provider.wake", 1);
        sleep(Duration::from_secs(20)).await;
        assert_eq!(
            lab.failpoints.left("login", "provider.wake"),
            0,
            "the actor crashed"
        );
    }
    assert_within_the_bucket(&provider.calls()[2..]);
    assert!(provider.calls().len() > before, "attempts continue");
}

#[tokio::test(start_paused = true)]
async fn law_07_fetches_for_a_rejected_credential_draw_on_the_bucket() {
    let Scripted {
        provider,
        database,
        pool,
        ..
    } = Scripted::new().await;
    database.accept_only(["something else"]);
    let rejection = rejection();
    assert!(pool.rejected(pool.generation(), &rejection));
    for _ in 0..600 {
        pool.rejected(pool.generation(), &rejection);
        sleep(Duration::from_secs(1)).await;
    }
    let calls = &provider.calls()[1..];
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
        "the request names the rejected revision"
    );
}

#[tokio::test(start_paused = true)]
async fn law_07_hints_and_manual_rotations_are_free_and_coalesced_to_one_a_second() {
    let lab = Lab::new();
    let provider = ScriptedProvider::new();
    lab.add_provider("login", provider.clone()).await;
    provider.fail_next(2, backend_down());
    for _ in 0..1_000 {
        provider.hint();
        sleep(Duration::from_millis(10)).await;
    }
    let changed = fetches(&provider, RotationTrigger::Changed);
    assert!(
        (9..=12).contains(&changed),
        "{changed} fetches in ten seconds of hints"
    );
    let before = provider.calls().len();
    let requests: Vec<_> = (0..100)
        .map(|_| {
            let supervisor = lab.supervisor.clone();
            tokio::spawn(async move { supervisor.rotate_now("login").await })
        })
        .collect();
    for request in requests {
        request.await.expect("no panic").expect("a report");
    }
    assert!(
        provider.calls().len() - before <= 2,
        "a hundred requests at once cause one fetch"
    );
}

#[tokio::test(start_paused = true)]
async fn law_07_a_backend_that_creates_a_lease_at_each_fetch_does_not_refill_its_bucket() {
    let Scripted {
        lab,
        provider,
        credentials,
        database,
        pool,
    } = Scripted::with(ScriptedProvider::new().with_new_credential_per_fetch()).await;
    database.accept_only(["none of the new passwords"]);
    pool.rejected(1, &rejection());
    sleep(Duration::from_secs(120)).await;
    let calls = provider.calls();
    assert!(
        calls.len() > 10,
        "the hazard: {} leases were created",
        calls.len()
    );
    assert_within_the_bucket(&calls[1..]);
    // Another registration draws on the bucket as well.
    let error = lab
        .supervisor
        .add_pool("other", &credentials, database.clone())
        .await
        .expect_err("no password is accepted");
    assert_eq!(
        error
            .connect_error()
            .and_then(claviger::error::ConnectError::code),
        Some("28P01")
    );
    assert_within_the_bucket(&provider.calls()[1..]);
}

#[tokio::test(start_paused = true)]
async fn law_07_an_adopted_new_revision_refills_the_bucket() {
    let Scripted { lab, provider, .. } = Scripted::new().await;
    let mut events = lab.supervisor.events();
    for _ in 0..5 {
        // Two failures, then a new revision. Without the refill the third round would wait.
        provider.fail_next(3, backend_down());
        provider.rotate();
        provider.hint();
        loop {
            match events.next().await.expect("an event") {
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
    assert_eq!(provider.calls().len(), 1 + 5 * 4);
}

/// Ten releases fail; then the current lease is rejected. Returns the time to the next generation.
async fn rejected_after_ten_releases(error: ProviderError) -> (ScriptedProvider, Lab, Duration) {
    let Scripted {
        lab,
        provider,
        database,
        pool,
        ..
    } = Scripted::new().await;
    provider.fail_releases(1_000, error);
    for _ in 0..10 {
        provider.rotate();
        lab.supervisor
            .rotate_now("login")
            .await
            .expect("a new one is served");
    }
    sleep(Duration::from_secs(60)).await;
    assert!(
        provider.release_attempts() >= 10 && provider.released().is_empty(),
        "the hazard: {} releases",
        provider.release_attempts()
    );
    let served = pool.generation();
    let began = tokio::time::Instant::now();
    let next = provider.rotate();
    database.accept_only([next.as_str()]);
    assert!(pool.rejected(served, &rejection()));
    while pool.generation() == served {
        sleep(Duration::from_millis(10)).await;
    }
    (provider, lab, began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn law_07_failing_releases_delay_no_fetch() {
    let (provider, _lab, took) = rejected_after_ten_releases(backend_down()).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    let tried = provider.release_attempts();
    assert!(tried > 12, "releases are retried: {tried}");
    sleep(Duration::from_secs(600)).await;
    assert!(
        provider.release_attempts() - tried <= 60 + 3,
        "within the bucket: {}",
        provider.release_attempts() - tried
    );
}

#[tokio::test(start_paused = true)]
async fn law_07_a_denied_release_is_not_retried() {
    let error = ProviderError::new(ProviderErrorKind::Denied, "not allowed");
    let (provider, lab, took) = rejected_after_ten_releases(error).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    sleep(Duration::from_secs(600)).await;
    assert_eq!(provider.release_attempts(), 11, "each lease once");
    assert_eq!(lab.supervisor.status().providers[0].unreleased, 0);
    // A release that is denied during shutdown is reported.
    let report = lab.supervisor.shutdown(Duration::from_secs(5)).await;
    assert_eq!(
        (report.clean, report.unreleased.len()),
        (false, 1),
        "{report:?}"
    );
}
