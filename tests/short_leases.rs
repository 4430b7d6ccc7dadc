//! Leases of a few seconds: readiness, and the drain of their generations.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use claviger::events::Event;
use claviger::lease::OldConnections;
use claviger_fixtures::{Scripted, backend_down};
use claviger_testkit::{ScriptedPools, ScriptedProvider};
use tokio::time::{Instant, sleep, timeout};

const LIFETIME: Duration = Duration::from_secs(8);

#[tokio::test(start_paused = true)]
async fn a_lease_of_eight_seconds_does_not_end_readiness_while_it_is_renewed() {
    for lifetime in [2, 4, 8, 12, 30].map(Duration::from_secs) {
        let Scripted { lab, pool, .. } = Scripted::with(
            ScriptedProvider::new()
                .with_lifetime(lifetime)
                .with_new_credential_per_fetch(),
        )
        .await;
        let end = Instant::now() + 20 * lifetime;
        while Instant::now() < end {
            let readiness = lab.supervisor.readiness();
            assert!(
                readiness.ready,
                "{lifetime:?}, generation {}: {:?}",
                pool.generation(),
                readiness.reasons
            );
            sleep(Duration::from_millis(50)).await;
        }
        assert!(
            pool.generation() > 20,
            "the hazard: {lifetime:?} was rotated to generation {}",
            pool.generation()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_of_eight_seconds_that_is_not_renewed_ends_readiness_before_it_expires() {
    let Scripted {
        lab,
        provider,
        pool,
        ..
    } = Scripted::with(ScriptedProvider::new().with_lifetime(LIFETIME)).await;
    provider.fail_next(1_000, backend_down());
    let began = Instant::now();
    while lab.supervisor.readiness().ready {
        sleep(Duration::from_millis(10)).await;
    }
    let ready = began.elapsed();
    assert!(
        pool.status().expect("supervised").serving,
        "the lease has not expired"
    );
    assert!(
        (LIFETIME * 3 / 4..LIFETIME).contains(&ready),
        "ready for {ready:?}"
    );
}

/// The lease expired in an outage of the backend, and another is current now. Returns when the
/// drain was reported as abandoned and as finished, if a connection was busy for `busy_for`.
async fn drained_after_an_outage(
    close: Duration,
    busy_for: Option<Duration>,
) -> (Option<Duration>, Option<Duration>) {
    let provider = ScriptedProvider::new()
        .with_lifetime(LIFETIME)
        .with_old_connections(OldConnections::EndWithLease);
    let database = ScriptedPools::new(4);
    database.delay_closing(close);
    let Scripted {
        lab,
        provider,
        pool,
        ..
    } = Scripted::with_database(provider, database).await;
    let connection = busy_for.map(|_| pool.current().connection());
    provider.fail_next(1_000, backend_down());
    sleep(3 * LIFETIME).await;
    assert!(
        !pool.status().expect("supervised").serving,
        "the hazard: the lease has expired"
    );
    let mut events = lab.supervisor.events();
    let changed = pool.changed();
    provider.recover();
    provider.rotate();
    provider.hint();
    assert_eq!(changed.await, 2, "the pool serves callers again");
    let published = Instant::now();
    if let Some(busy_for) = busy_for {
        tokio::spawn(async move {
            sleep(busy_for).await;
            drop(connection);
        });
    }
    let (mut abandoned, mut over) = (None, None);
    while let Ok(Some(event)) = timeout(Duration::from_secs(30), events.next()).await {
        match event {
            Event::DrainAbandoned {
                generation: 1,
                connections,
                ..
            } => {
                assert_ne!(connections, 0, "an abandoned drain has a connection");
                abandoned = Some(published.elapsed());
            }
            Event::Drained { generation: 1, .. } => {
                over = Some(published.elapsed());
                break;
            }
            _ => {}
        }
    }
    (abandoned, over)
}

#[tokio::test(start_paused = true)]
async fn a_drain_without_a_connection_is_never_reported_as_abandoned() {
    for close in [
        Duration::ZERO,
        Duration::from_secs(1),
        Duration::from_secs(5),
    ] {
        let (abandoned, over) = drained_after_an_outage(close, None).await;
        assert_eq!(
            (abandoned, over.is_some()),
            (None, true),
            "{close:?} to close"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_has_two_seconds_even_if_its_lease_expired() {
    let drained_after =
        |millis| drained_after_an_outage(Duration::ZERO, Some(Duration::from_millis(millis)));
    for millis in [10, 1_000, 1_900] {
        let (abandoned, over) = drained_after(millis).await;
        assert_eq!(
            (abandoned, over.is_some()),
            (None, true),
            "busy for {millis} ms"
        );
    }
    let (abandoned, over) = drained_after(5_000).await;
    let abandoned = abandoned.expect("reported");
    assert!(
        (Duration::from_secs(2)..Duration::from_millis(2_100)).contains(&abandoned),
        "reported after {abandoned:?}"
    );
    assert!(
        over.is_some(),
        "the drain ends when the connection is returned"
    );
}
