//! Law 8: a lease expires when either clock reaches its expiry. A clock jump is the trigger
//! `clock_jump`. A lease serves until its expiry while renewals fail.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use claviger::report::RotationTrigger;
use claviger_fixtures::{Scripted, backend_down};
use claviger_testkit::ScriptedProvider;
use tokio::time::{Instant, sleep};

const TOKEN: Duration = Duration::from_secs(900);

#[tokio::test(start_paused = true)]
async fn law_08_a_token_is_renewed_at_fourteen_minutes_not_before() {
    let began = Instant::now();
    let Scripted { provider, pool, .. } = Scripted::with(
        ScriptedProvider::new()
            .with_lifetime(TOKEN)
            .with_refresh_after(Duration::from_secs(840))
            .with_new_credential_per_fetch(),
    )
    .await;
    sleep(Duration::from_secs(839)).await;
    assert_eq!(provider.calls().len(), 1);
    sleep(Duration::from_secs(2)).await;
    let at = provider.calls()[1].at - began;
    assert!((840..=841).contains(&at.as_secs()), "renewed after {at:?}");
    assert_eq!(pool.generation(), 2);
}

#[tokio::test(start_paused = true)]
async fn law_08_a_lease_serves_until_its_expiry_while_renewals_fail() {
    let Scripted {
        lab,
        provider,
        pool,
        ..
    } = Scripted::with(
        ScriptedProvider::new()
            .with_lifetime(TOKEN)
            .with_refresh_after(Duration::from_secs(840)),
    )
    .await;
    provider.fail_next(1_000, backend_down());
    sleep(Duration::from_secs(899)).await;
    assert!(provider.calls().len() > 3, "the hazard: renewals failed");
    assert!(
        pool.status().expect("supervised").serving,
        "the lease expires in a second"
    );
    sleep(Duration::from_secs(2)).await;
    assert!(
        !pool.status().expect("supervised").serving,
        "the lease has expired"
    );
    let readiness = lab.supervisor.readiness();
    assert!(
        !readiness.ready
            && readiness
                .reasons
                .iter()
                .any(|reason| reason.contains("expired")),
        "{readiness:?}"
    );
    provider.recover();
    provider.rotate();
    sleep(Duration::from_secs(12)).await;
    assert!(pool.status().expect("supervised").serving);
    assert_eq!(pool.current().password(), "password-2");
}

#[tokio::test(start_paused = true)]
async fn law_08_a_machine_that_slept_fetches_and_verifies() {
    let Scripted {
        lab,
        provider,
        pool,
        ..
    } = Scripted::with(
        ScriptedProvider::new()
            .with_lifetime(TOKEN)
            .with_new_credential_per_fetch(),
    )
    .await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(provider.calls().len(), 1);
    // An hour passes on the wall clock, none on the monotonic one.
    lab.clock.jump(Duration::from_secs(3_600));
    assert!(
        !pool.status().expect("supervised").serving,
        "the lease has expired by the wall clock"
    );
    // After the next clock check.
    sleep(Duration::from_secs(16)).await;
    assert_eq!(provider.calls()[1].trigger, RotationTrigger::ClockJump);
    assert!(pool.status().expect("supervised").serving);
    assert_eq!(pool.generation(), 2);
}

#[tokio::test(start_paused = true)]
async fn law_08_only_a_clock_jump_over_a_minute_verifies_again() {
    let Scripted {
        lab,
        provider,
        database,
        pool,
        ..
    } = Scripted::new().await;
    lab.clock.jump(Duration::from_secs(50));
    sleep(Duration::from_secs(40)).await;
    assert_eq!(
        (provider.calls().len(), database.verifications().len()),
        (1, 1)
    );
    lab.clock.jump(Duration::from_secs(61));
    sleep(Duration::from_secs(40)).await;
    assert_eq!(
        (provider.calls().len(), database.verifications().len()),
        (2, 2)
    );
    assert_eq!(pool.generation(), 1, "the current lease is accepted");
}
