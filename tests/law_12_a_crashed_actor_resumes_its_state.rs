//! Law 12: a crashed or panicking actor is restarted alone and resumes its state, with its drain
//! list and release queue.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use claviger::Revision;
use claviger::events::Event;
use claviger_fixtures::{Scripted, rejection};
use tokio::time::sleep;

/// Longer than the interval of clock checks, which is what a lost wake-up costs at most.
const CLOCK_CHECK: Duration = Duration::from_secs(16);

#[tokio::test(start_paused = true)]
async fn law_12_a_fetch_in_flight_outlives_the_provider_actor() {
    let Scripted {
        lab,
        provider,
        pool,
        ..
    } = Scripted::new().await;
    provider.stall();
    provider.rotate();
    provider.hint();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(provider.calls().len(), 2, "a fetch is in flight");
    lab.failpoints.set("login", "provider.wake", 1);
    provider.hint();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(
        lab.failpoints.left("login", "provider.wake"),
        0,
        "the actor crashed"
    );
    provider.resume();
    sleep(CLOCK_CHECK).await;
    assert_eq!(
        pool.current().password(),
        "password-2",
        "the fetched lease is not lost"
    );
    assert_eq!(
        provider.released(),
        [Revision::new("1")],
        "the old lease is released once"
    );
    assert!(lab.supervisor.status().providers[0].restarts >= 1);
    assert_eq!(
        lab.supervisor.status().pools[0].restarts,
        0,
        "only the provider's actor restarted"
    );
}

#[tokio::test(start_paused = true)]
async fn law_12_a_crash_after_each_step_costs_at_most_one_clock_check() {
    for (actor, step) in [
        ("login", "provider.wake"),
        ("login", "provider.fetched"),
        ("orders", "pool.wake"),
        ("orders", "pool.verified"),
        ("orders", "pool.published"),
    ] {
        let Scripted {
            lab,
            provider,
            pool,
            ..
        } = Scripted::new().await;
        let connection = pool.current().connection();
        lab.failpoints.set(actor, step, 1);
        provider.rotate();
        provider.hint();
        sleep(2 * CLOCK_CHECK).await;
        assert_eq!(
            lab.failpoints.left(actor, step),
            0,
            "{step}: the actor crashed"
        );
        assert_eq!(
            pool.current().password(),
            "password-2",
            "{step}: the rotation completed"
        );
        assert_eq!(
            provider.released(),
            [],
            "{step}: a connection of the old lease is open"
        );
        drop(connection);
        sleep(2 * CLOCK_CHECK).await;
        assert_eq!(
            provider.released(),
            [Revision::new("1")],
            "{step}: the drain list was resumed"
        );
        assert!(
            pool.status().expect("supervised").draining.is_empty(),
            "{step}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn law_12_user_code_that_panics_is_one_failed_attempt() {
    let Scripted {
        lab,
        provider,
        pool,
        ..
    } = Scripted::new().await;
    let mut events = lab.supervisor.events();
    provider.panic_next();
    provider.rotate();
    provider.hint();
    sleep(Duration::from_secs(10)).await;
    assert_eq!(pool.current().password(), "password-2");
    let status = lab.supervisor.status();
    assert_eq!(
        (status.providers[0].restarts, status.pools[0].restarts),
        (0, 0),
        "no actor had to be restarted"
    );
    lab.supervisor.shutdown(Duration::from_secs(5)).await;
    let mut panicked = 0;
    while let Some(event) = events.next().await {
        if let Event::FetchFailed { error, .. } = event {
            assert_eq!(error.kind(), claviger::error::ProviderErrorKind::Panicked);
            panicked += 1;
        }
    }
    assert_eq!(panicked, 1);
}

#[tokio::test(start_paused = true)]
async fn law_12_restarts_are_bounded_and_end_readiness() {
    let Scripted {
        lab,
        database,
        pool,
        ..
    } = Scripted::new().await;
    lab.failpoints.set("orders", "pool.wake", u32::MAX);
    let rejection = rejection();
    pool.rejected(1, &rejection);
    sleep(Duration::from_secs(30)).await;
    let crashes = u32::MAX - lab.failpoints.left("orders", "pool.wake");
    assert_eq!(
        crashes, 6,
        "five restarts at once, the sixth a minute later"
    );
    assert!(!lab.supervisor.readiness().ready);
    sleep(Duration::from_secs(600)).await;
    let crashes = u32::MAX - lab.failpoints.left("orders", "pool.wake");
    assert!(
        (12..=17).contains(&crashes),
        "{crashes} crashes; restarts continue at one a minute"
    );
    // The pool continued to serve, because queries need no actor.
    assert_eq!(pool.current().password(), "password-1");
    lab.failpoints.set("orders", "pool.wake", 0);
    database.accept_only(["password-1"]);
    sleep(Duration::from_secs(120)).await;
    assert!(
        pool.status().expect("supervised").serving,
        "the pool recovers by itself"
    );
}

#[tokio::test(start_paused = true)]
async fn law_12_restarts_are_counted_in_the_handle_s_status() {
    let Scripted {
        lab,
        provider,
        pool,
        ..
    } = Scripted::new().await;
    let restarts = || {
        let status = lab.supervisor.status();
        let of_pool = pool.status().expect("supervised").restarts;
        [
            of_pool,
            status.pools[0].restarts,
            status.providers[0].restarts,
            lab.supervisor.liveness().restarts,
        ]
    };
    assert_eq!(restarts(), [0; 4]);
    for (actor, step, times, expected) in [
        ("orders", "pool.wake", 1, [1, 1, 0, 1]),
        ("orders", "pool.wake", 2, [3, 3, 0, 3]),
        ("login", "provider.wake", 1, [3, 3, 1, 4]),
    ] {
        lab.failpoints.set(actor, step, times);
        provider.rotate();
        provider.hint();
        sleep(CLOCK_CHECK).await;
        assert_eq!(lab.failpoints.left(actor, step), 0, "the actor crashed");
        assert_eq!(
            restarts(),
            expected,
            "after {times} more crashes of {actor}"
        );
    }
}
