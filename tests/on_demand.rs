//! `rotate_now` while new credentials are being handed over.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use claviger::report::{RotationOutcome, RotationTrigger};
use claviger_fixtures::Scripted;
use claviger_testkit::{ScriptedPools, ScriptedProvider};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};

/// Bound on `rotate_now`: it waits for work in progress, and at most a second since the last
/// request. A lost wake-up would cost 15 s.
const PROMPTLY: Duration = Duration::from_millis(1_500);

/// The backend has the next password, but the database does not accept it yet. It is the current
/// lease, and the pool serves the previous one.
async fn during_a_handover() -> (Scripted, String) {
    let scripted = Scripted::with_database(ScriptedProvider::new(), ScriptedPools::new(10)).await;
    scripted.database.accept_only(["password-1"]);
    let password = scripted.provider.rotate();
    scripted.provider.hint();
    sleep(Duration::from_secs(5)).await;
    assert_ne!(
        scripted.lab.supervisor.status().providers[0].revision,
        scripted.pool.status().and_then(|pool| pool.revision),
        "the hazard: the pool has not adopted the current lease"
    );
    (scripted, password)
}

#[tokio::test(start_paused = true)]
async fn rotate_now_waits_until_every_pool_adopted_the_lease() {
    let (
        Scripted {
            lab,
            database,
            pool,
            ..
        },
        password,
    ) = during_a_handover().await;
    let rotating = tokio::spawn({
        let supervisor = lab.supervisor.clone();
        async move { supervisor.rotate_now("login").await }
    });
    sleep(Duration::from_secs(2)).await;
    assert!(
        !rotating.is_finished(),
        "the pool serves the previous lease"
    );
    database.accept_only([password]);
    let report = rotating
        .await
        .expect("no panic")
        .expect("the rotation succeeds");
    assert_eq!(
        (report.outcome, report.trigger),
        (RotationOutcome::Adopted, RotationTrigger::Changed),
        "the rotation had begun before the call"
    );
    assert_eq!((report.handovers.len(), pool.generation()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn rotate_now_names_the_pools_that_did_not_adopt_the_lease() {
    let (Scripted { lab, pool, .. }, _) = during_a_handover().await;
    let report = lab.supervisor.rotate_now("login").await.expect("a report");
    assert_eq!(report.outcome, RotationOutcome::Unfinished);
    assert_eq!(
        (
            report
                .waiting
                .iter()
                .map(|pool| &**pool)
                .collect::<Vec<_>>(),
            pool.generation()
        ),
        (vec!["orders"], 1)
    );
}

/// Step of the rotation at which another one is requested.
#[derive(Clone, Copy, Debug)]
enum During {
    Fetch,
    Verification,
}

/// Requests a rotation during another one, after `steps` steps of the scheduler, before or after
/// the running one may continue.
async fn rotate_during(during: During, before: bool, steps: usize) {
    let Scripted {
        lab,
        provider,
        database,
        pool,
        ..
    } = Scripted::new().await;
    match during {
        During::Fetch => provider.stall(),
        During::Verification => database.stall(),
    }
    provider.rotate();
    provider.hint();
    sleep(Duration::from_millis(10)).await;
    let resume = || {
        provider.resume();
        database.resume();
    };
    if !before {
        resume();
    }
    for _ in 0..steps {
        yield_now().await;
    }
    let newest = provider.rotate();
    let began = Instant::now();
    let result = tokio::spawn({
        let supervisor = lab.supervisor.clone();
        async move { supervisor.rotate_now("login").await }
    });
    if before {
        for _ in 0..steps {
            yield_now().await;
        }
        resume();
    }
    let report = result
        .await
        .expect("no panic")
        .expect("the rotation succeeds");
    let took = began.elapsed();
    assert!(
        took < PROMPTLY,
        "{during:?}, {before}, {steps} steps: returned after {took:?}"
    );
    // The running fetch may already have returned it.
    assert!(
        matches!(
            report.outcome,
            RotationOutcome::Adopted | RotationOutcome::Unchanged
        ),
        "{during:?}, {before}, {steps} steps: {report:?}"
    );
    assert_eq!(
        pool.current().password(),
        newest,
        "{during:?}, {before}, {steps} steps: the pool serves the newest password at the request"
    );
}

#[tokio::test(start_paused = true)]
async fn rotate_now_at_any_step_of_a_rotation_returns_promptly() {
    for during in [During::Fetch, During::Verification] {
        for before in [true, false] {
            for steps in 0..50 {
                rotate_during(during, before, steps).await;
            }
        }
    }
}

/// The same on several threads, whose interleavings one thread cannot produce.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rotate_now_from_other_threads_returns_promptly() {
    let requests: Vec<_> = (0_usize..256)
        .map(|steps| {
            tokio::spawn(async move {
                let Scripted { lab, provider, .. } = Scripted::new().await;
                provider.rotate();
                provider.hint();
                for _ in 0..steps % 64 {
                    std::hint::spin_loop();
                    yield_now().await;
                }
                // Less than the interval of clock checks, even on a loaded machine.
                timeout(Duration::from_secs(12), lab.supervisor.rotate_now("login"))
                    .await
                    .is_ok_and(|report| report.is_ok())
            })
        })
        .collect();
    let mut late = 0;
    for request in requests {
        late += usize::from(!request.await.expect("no panic"));
    }
    assert_eq!(late, 0, "requests whose wake-up was lost");
}
