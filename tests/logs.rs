//! What an operator reads: one line per rotation; for a lasting error three lines, then one an
//! hour, and one at its end.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "logs/lines.rs"]
mod lines;

use std::time::Duration;

use claviger::Supervisor;
use claviger::error::{ConnectError, ConnectErrorKind};
use claviger_fixtures::{Scripted, backend_down, rejection};
use claviger_testkit::{Lab, ScriptedPools, ScriptedProvider};
use tokio::time::sleep;

use lines::Lines;

#[tokio::test(start_paused = true)]
async fn a_rotation_logs_one_line_and_a_lasting_error_few() {
    let (lines, _guard) = Lines::record();
    let Scripted {
        provider,
        database,
        pool,
        ..
    } = Scripted::new().await;
    sleep(Duration::from_millis(100)).await;
    lines.take();

    provider.rotate();
    provider.hint();
    sleep(Duration::from_secs(2)).await;
    insta::assert_snapshot!("one_rotation", lines.take());

    // Three hours without a backend, which is polled every five minutes at most.
    provider.fail_next(10_000, backend_down());
    sleep(Duration::from_secs(3 * 3_600)).await;
    assert!(
        provider.calls().len() > 30,
        "the hazard: {} calls",
        provider.calls().len()
    );
    insta::assert_snapshot!("three_hours_without_a_backend", lines.take());
    provider.recover();
    sleep(Duration::from_secs(600)).await;
    insta::assert_snapshot!("the_backend_is_back", lines.take());

    // The database rejects for two hours, and the backend has nothing else.
    database.accept_only(["nothing"]);
    pool.rejected(pool.generation(), &rejection());
    sleep(Duration::from_secs(2 * 3_600)).await;
    assert!(
        database.rejected() > 60,
        "the hazard: {} rejections",
        database.rejected()
    );
    insta::assert_snapshot!("two_hours_rejected", lines.take());
    database.accept_only(["password-2"]);
    sleep(Duration::from_secs(120)).await;
    insta::assert_snapshot!("accepted_again", lines.take());
}

/// The file is rewritten before the password changes: a rotation that needs no alert.
#[tokio::test(start_paused = true)]
async fn a_lease_that_precedes_its_password_logs_no_warning() {
    let (lines, _guard) = Lines::record();
    let Scripted {
        provider,
        database,
        pool,
        ..
    } = Scripted::new().await;
    for round in 1..=2_u64 {
        lines.take();
        database.accept_only([format!("password-{round}")]);
        let next = provider.rotate();
        provider.hint();
        let before = database.rejected();
        sleep(Duration::from_millis(50)).await;
        assert_eq!(
            database.rejected(),
            before + 1,
            "the hazard: the first login is rejected"
        );
        database.accept_only([next]);
        sleep(Duration::from_secs(2)).await;
        assert_eq!(pool.generation(), round + 1);
        let logged = lines.take();
        assert!(!logged.contains("WARN"), "{logged}");
        let starts: Vec<_> = logged
            .lines()
            .map(|line| {
                line.split(" pool=")
                    .next()
                    .expect("a line")
                    .split(" provider=")
                    .next()
                    .expect("a line")
            })
            .collect();
        assert_eq!(
            starts,
            [
                "INFO the database does not accept the next lease yet; it is verified again",
                "INFO rotated"
            ]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_is_superseded_while_it_is_verified_is_not_announced_again() {
    let (lines, _guard) = Lines::record();
    let Scripted {
        provider,
        database,
        pool,
        ..
    } = Scripted::new().await;
    database.accept_only(["password-1", "password-3"]);
    lines.take();
    database.stall();
    provider.rotate();
    provider.hint();
    sleep(Duration::from_millis(500)).await;
    provider.rotate();
    provider.hint();
    // A second passes between two fetches.
    sleep(Duration::from_secs(2)).await;
    database.resume();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(database.rejected(), 1, "the hazard: one is rejected");
    assert_eq!(pool.generation(), 2);
    let logged = lines.take();
    assert!(
        logged.contains("INFO superseded by a newer rotation"),
        "{logged}"
    );
    assert!(!logged.contains("it is verified again"), "{logged}");
}

#[tokio::test(start_paused = true)]
async fn a_wrong_credential_that_is_corrected_is_not_logged_as_a_rotation() {
    let (lines, _guard) = Lines::record();
    let Scripted {
        provider,
        database,
        pool,
        ..
    } = Scripted::new().await;
    database.accept_only(["password-1"]);
    provider.rotate();
    provider.hint();
    sleep(Duration::from_secs(1)).await;
    assert!(database.rejected() > 0, "the hazard: it is rejected");
    lines.take();
    provider.roll_back_to(1);
    provider.hint();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(pool.generation(), 1);
    let logged = lines.take();
    let expected = "INFO the backend returned the active credential again provider=login";
    assert!(logged.contains(expected), "{logged}");
    assert!(!logged.contains("INFO rotated"), "{logged}");
    assert!(!logged.contains("span="), "{logged}");
}

#[tokio::test(start_paused = true)]
async fn a_rollback_is_logged_with_the_expiry_of_the_lease_that_it_returns_to() {
    const MINUTE: Duration = Duration::from_secs(60);
    let (lines, _guard) = Lines::record();
    let builder = Supervisor::builder().with_previous_lease_kept_for(60 * MINUTE);
    let lab = Lab::with_builder(builder).expect("valid durations");
    let provider = ScriptedProvider::new()
        .with_lifetime(60 * MINUTE)
        .with_refresh_after(50 * MINUTE);
    let scripted = Scripted::in_lab(lab, provider, ScriptedPools::new(4)).await;
    sleep(20 * MINUTE).await;
    scripted.provider.rotate();
    scripted.provider.hint();
    sleep(10 * MINUTE).await;
    lines.take();
    let supervisor = &scripted.lab.supervisor;
    supervisor.roll_back("orders").await.expect("it is kept");
    let logged = lines.take();
    let line = logged
        .lines()
        .find(|line| line.contains("trigger=roll_back"));
    let line = line.expect("it is logged");
    assert!(
        line.starts_with("INFO rolled back provider=login"),
        "{line}"
    );
    assert!(
        line.contains(" expires_in=30m "),
        "not the other's 50 min: {line}"
    );

    supervisor.resume("login").expect("it is registered");
    sleep(MINUTE).await;
    scripted.database.accept_only(["password-2"]);
    lines.take();
    let error = supervisor.roll_back("orders").await;
    error.expect_err("its password is rejected");
    let logged = lines.take();
    assert!(
        logged.contains("INFO not rolled back provider=login"),
        "{logged}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_waits_for_the_login_budget_is_logged_with_its_time() {
    let (lines, _guard) = Lines::record();
    let Scripted {
        provider,
        database,
        pool,
        ..
    } = Scripted::new().await;
    database.accept_only(["password-1"]);
    lines.take();
    let mut logged = String::new();
    for _ in 0..10 {
        provider.rotate();
        provider.hint();
        sleep(Duration::from_millis(500)).await;
        logged += &lines.take();
    }
    let expected = "WARN failed logins have used up their budget; the next verification waits \
                    pool=orders provider=login times=1 next_login_in=";
    assert!(logged.contains(expected), "{logged}");
    assert_eq!(
        logged.matches("used up their budget").count(),
        1,
        "{logged}"
    );
    database.accept_only([provider.rotate()]);
    provider.hint();
    sleep(Duration::from_secs(30)).await;
    assert_eq!(pool.generation(), 2, "{}", lines.take());
}

/// The login works, and the pool's hook fails.
#[tokio::test(start_paused = true)]
async fn a_handover_that_keeps_failing_after_its_login_logs_few_lines() {
    let (lines, _guard) = Lines::record();
    let Scripted {
        provider,
        database,
        pool,
        ..
    } = Scripted::new().await;
    lines.take();
    let error = ConnectError::new(ConnectErrorKind::Other, "the hook failed");
    database.fail_next_verifications_as_pool(10_000, error);
    let logins = database.verifications().len();
    provider.rotate();
    provider.hint();
    sleep(Duration::from_secs(1_800)).await;
    let attempts = database.verifications().len() - logins;
    assert!(attempts > 30, "the hazard: {attempts} logins");
    assert_eq!(pool.generation(), 1);
    let logged = lines.take();
    let failures = logged.matches("WARN a lease could not be verified").count();
    assert_eq!(failures, 3, "{logged}");
    assert!(!logged.contains("verification succeeds again"), "{logged}");
}

#[tokio::test(start_paused = true)]
async fn a_failed_first_fetch_and_the_end_of_an_abandoned_drain_are_logged() {
    let (lines, _guard) = Lines::record();
    let lab = Lab::new();
    let (provider, database) = (ScriptedProvider::new(), ScriptedPools::new(4));
    provider.fail_next(1, backend_down());
    let credentials = lab.add_provider("login", provider.clone()).await;
    assert!(
        lines
            .take()
            .starts_with("WARN fetch failed; there is no lease yet")
    );
    database.disable_in_place();
    let _pool = lab.add_pool("orders", &credentials, database.clone()).await;
    let busy = database.connection();
    provider.rotate();
    lab.supervisor.rotate_now("login").await.expect("a report");
    sleep(Duration::from_secs(70)).await;
    assert!(
        lines
            .take()
            .contains("WARN connections outlive the drain deadline of their generation"),
        "the hazard: the drain is abandoned"
    );
    drop(busy);
    sleep(Duration::from_secs(1)).await;
    assert!(lines.take().starts_with(
        "INFO connections that outlived their drain deadline have closed pool=orders generation=1"
    ));
}

#[tokio::test(start_paused = true)]
async fn a_start_that_hangs_logs_its_reason_within_a_second() {
    let (lines, _guard) = Lines::record();
    let lab = Lab::new();
    let (provider, database) = (ScriptedProvider::new(), ScriptedPools::new(4));
    let register = |name: &'static str, provider: &ScriptedProvider| {
        let (supervisor, provider) = (lab.supervisor.clone(), provider.clone());
        tokio::spawn(async move { supervisor.add_provider(name, provider).await })
    };
    provider.stall();
    let starting = register("login", &provider);
    sleep(Duration::from_secs(1)).await;
    let line = "WARN start still waits for a verified lease provider=login fails_in=29s reason=the provider has not returned its first lease\n";
    assert_eq!(lines.take(), line);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(lines.take(), "", "the line is logged once");
    provider.resume();
    let credentials = starting.await.expect("no panic").expect("a lease");

    // A database that accepts connections and does not respond.
    database.stall();
    let starting = tokio::spawn({
        let (supervisor, credentials, database) = (
            lab.supervisor.clone(),
            credentials.clone(),
            database.clone(),
        );
        async move { supervisor.add_pool("orders", &credentials, database).await }
    });
    sleep(Duration::from_secs(1)).await;
    let logged = lines.take();
    assert!(
        logged.contains("WARN start still waits for a verified lease pool=orders provider=login"),
        "{logged}"
    );
    assert!(
        logged.contains("reason=the first verification has not ended"),
        "{logged}"
    );
    database.resume();
    starting.await.expect("no panic").expect("verified");
    let serves = "INFO pool ready pool=orders provider=login account=";
    let logged = lines.take();
    assert!(logged.contains(serves), "{logged}");

    // A provider that was registered in the background, whose failures were logged long ago.
    let failing = ScriptedProvider::new();
    failing.fail_next(1_000, backend_down());
    let late = lab
        .supervisor
        .add_provider_in_background("late", failing)
        .expect("registered");
    sleep(Duration::from_secs(120)).await;
    lines.take();
    let starting = tokio::spawn({
        let supervisor = lab.supervisor.clone();
        async move {
            supervisor
                .add_pool("reports", &late, ScriptedPools::new(1))
                .await
        }
    });
    sleep(Duration::from_secs(1)).await;
    let logged = lines.take();
    assert!(logged.contains("pool=reports provider=late fails_in=29s reason=the provider has no lease: the backend is down"), "{logged}");
    let error = starting
        .await
        .expect("no panic")
        .expect_err("the start fails at its deadline");
    assert!(error.to_string().contains("the backend is down"), "{error}");
    lines.take();

    // Errors that were logged before, but not when the start fails.
    let rejecting = ScriptedPools::new(1);
    rejecting.fail_next(1_000, rejection());
    let added = lab.supervisor.add_pool("rejected", &credentials, rejecting);
    added.await.expect_err("each login is rejected");
    let logged = lines.take();
    let waits = "WARN start still waits for a verified lease pool=rejected provider=login fails_in=29s reason=";
    assert!(logged.contains(waits), "{logged}");
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_is_dropped_without_shutdown_is_logged_with_what_still_runs() {
    let (lines, _guard) = Lines::record();
    let start = async || {
        let lab = Lab::new();
        let credentials = lab
            .supervisor
            .add_provider("orders-credentials", ScriptedProvider::new())
            .await
            .expect("a lease");
        let pool = lab
            .supervisor
            .add_pool("orders", &credentials, ScriptedPools::new(4))
            .await
            .expect("verified");
        sleep(Duration::from_millis(100)).await;
        lines.take();
        (lab, credentials, pool)
    };
    let (lab, _credentials, _pool) = start().await;
    let clone = lab.supervisor.clone();
    drop(lab);
    assert_eq!(lines.take(), "", "a clone is left");
    drop(clone);
    assert_eq!(
        lines.take(),
        "WARN supervisor dropped without shutdown; its providers and pools still run \
         providers=orders-credentials pools=orders\n"
    );
    let (lab, ..) = start().await;
    assert!(lab.supervisor.shutdown(Duration::from_secs(1)).await.clean);
    lines.take();
    drop(lab);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(lines.take(), "", "nothing is logged after a shutdown");
}
