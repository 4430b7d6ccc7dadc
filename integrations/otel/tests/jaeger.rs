//! needs: postgresql, jaeger
//!
//! Every trigger and every outcome, on a real database, exported to a real Jaeger: names, parents,
//! links, attributes, consistent durations, and no secret.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "common/jaeger.rs"]
mod api;

use std::time::Duration;

use claviger::error::{ProviderError, ProviderErrorKind};
use claviger::events::Event;
use claviger::report::RotationOutcome;
use claviger::{PgPools, Supervisor};
use claviger_fixtures::{Fixture, eventually_within};
use claviger_testkit::Lab;
use claviger_traces::{Span, check_handovers, tree};
use tracing::Instrument;

const TIMEOUT: Duration = Duration::from_secs(20);
const DRAIN: Duration = Duration::from_millis(300);

/// Removes the address of the database, whose port differs between runs.
fn without_target(text: &str) -> String {
    let mut parts = text.split("; user \"app\" at 127.0.0.1:");
    let first = parts.next().unwrap_or_default().to_owned();
    let rest: Vec<_> = parts
        .map(|part| {
            part.split_once(", database \"orders\"")
                .expect("it names the database")
                .1
        })
        .collect();
    assert!(!rest.is_empty(), "{text}");
    first + &rest.concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_trigger_and_outcome_is_in_jaeger() {
    let (response, all) = api::run_traced("", scenario()).await;

    assert!(response.contains("credential.rotation"));
    assert!(
        !response.contains("password-"),
        "a trace contains a password"
    );
    assert_eq!(
        rotations(&all, "start", "adopted"),
        ["\
credential.rotation outcome=adopted provider=orders-credentials span.kind=internal trigger=start
  credential.fetch provider=orders-credentials span.kind=client trigger=start
pool.handover generation=1 mode=replace pool=orders span.kind=internal → credential.rotation
  pool.verify span.kind=client
  pool.open span.kind=internal
  pool.publish generation=1 span.kind=internal
"]
    );
    for (trigger, generation) in [("schedule", 2), ("changed", 3)] {
        assert_eq!(
            rotations(&all, trigger, "adopted"),
            [replaced(trigger, generation, "", "")]
        );
    }
    // A lease that is rejected just after its verification is verified again before a fetch. That
    // handover is a root of its own, linked to its cause.
    let manual = rotations(&all, "manual", "adopted");
    let (rotation, again) = (
        replaced("manual", 4, " → POST /rotate", ABANDONED),
        "pool.handover error=true error.type=rejected",
    );
    let is_expected = |one: &String| {
        one.strip_prefix(&rotation)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(again))
    };
    assert!(
        matches!(&manual[..], [one] if is_expected(one)),
        "{manual:?}"
    );
    let unchanged = |trigger: &str| {
        format!(
            "credential.rotation outcome=unchanged provider=orders-credentials span.kind=internal trigger={trigger}\n  \
             credential.fetch provider=orders-credentials span.kind=client trigger={trigger}\n"
        )
    };
    assert_eq!(
        rotations(&all, "manual", "unchanged"),
        [unchanged("manual")]
    );
    assert_eq!(
        rotations(&all, "clock_jump", "unchanged"),
        [unchanged("clock_jump")]
    );

    // A failed attempt that is retried is marked, and the rotation is not. The number of attempts
    // varies.
    let down = "  credential.fetch error=true error.type=unavailable otel.status_code=ERROR otel.status_description=the backend is down (unavailable)";
    let rejected = "error=true error.type=rejected otel.status_code=ERROR \
        otel.status_description=password authentication failed for user \"app\" (rejected, SQLSTATE 28P01)";
    let [superseded] = rotations(&all, "rejected", "superseded")
        .try_into()
        .expect("the wrong one came in one rotation");
    let superseded = without_target(&superseded);
    assert!(superseded.starts_with("credential.rotation outcome=superseded provider=orders-credentials span.kind=internal trigger=rejected\n"));
    for part in [
        down,
        &format!("  pool.handover {rejected} pool=orders"),
        &format!("    pool.verify {rejected} span.kind=client"),
    ] {
        assert!(
            superseded.contains(part),
            "{part:?} is not in\n{superseded}"
        );
    }
    let [adopted] = rotations(&all, "rejected", "adopted")
        .try_into()
        .expect("the right one came in one rotation");
    let (root, rest) = adopted.split_once('\n').expect("it has children");
    assert_eq!(
        root,
        "credential.rotation generation=5 outcome=adopted provider=orders-credentials span.kind=internal trigger=rejected"
    );
    assert!(
        rest.contains("pool.handover generation=5 mode=replace")
            && rest.contains("pool.drain generation=4"),
        "{adopted}"
    );

    assert_eq!(check_handovers(&all), Ok(5));
    let abandoned: Vec<_> = all
        .iter()
        .filter(|span| span.tag("abandoned").is_some())
        .collect();
    assert!(
        !abandoned.is_empty() && abandoned.iter().all(|drain| drain.took >= DRAIN),
        "{abandoned:?}"
    );
}

const ABANDONED: &str = " abandoned=true error=true error.type=drain_abandoned";

/// Returns the tree of a rotation that replaced the pool, with the linked drain of the old
/// generation.
fn replaced(trigger: &str, generation: u64, link: &str, abandoned: &str) -> String {
    let old = generation - 1;
    let status = if abandoned.is_empty() {
        ""
    } else {
        " otel.status_code=ERROR otel.status_description=connections outlive the drain deadline of their generation"
    };
    format!(
        "\
credential.rotation generation={generation} outcome=adopted provider=orders-credentials span.kind=internal trigger={trigger}{link}
  credential.fetch provider=orders-credentials span.kind=client trigger={trigger}
  pool.handover generation={generation} mode=replace pool=orders span.kind=internal
    pool.verify span.kind=client
    pool.open span.kind=internal
    pool.publish generation={generation} span.kind=internal
pool.drain{abandoned} generation={old}{status} pool=orders span.kind=internal → credential.rotation
"
    )
}

/// Returns the trees of all rotations with this trigger and outcome. Each has the digest of a
/// revision if it fetched one.
fn rotations(all: &[Span], trigger: &str, outcome: &str) -> Vec<String> {
    let roots = all.iter().filter(|span| span.name == "credential.rotation");
    let roots = roots.filter(|root| {
        root.tag("trigger") == Some(trigger) && root.tag("outcome") == Some(outcome)
    });
    roots
        .map(|root| {
            assert_eq!(root.parent, None);
            let digest = root.tag("revision");
            assert_eq!(
                digest.is_some_and(|digest| digest.len() == 8),
                outcome != "unchanged",
                "{digest:?}"
            );
            tree(all, root)
        })
        .collect()
}

/// Runs all rotations.
async fn scenario() {
    let fixture = Fixture::new().await;
    let (provider, options) = (fixture.provider.clone(), fixture.pool_options(4));
    let builder = Supervisor::builder()
        .with_drain_deadline(DRAIN)
        .with_poll_interval(Duration::from_secs(2));
    let Lab {
        supervisor, clock, ..
    } = Lab::with_builder(builder).expect("the durations are valid");

    // Start, adopted. The pool is added when the rotation has ended.
    let mut events = supervisor.events();
    let credentials = supervisor
        .add_provider("orders-credentials", provider.clone())
        .await
        .expect("a lease");
    while !matches!(events.next().await, Some(Event::Rotated(_)) | None) {}
    let db = supervisor
        .add_pool(
            "orders",
            &credentials,
            PgPools::new(fixture.connect_options(), options),
        )
        .await
        .expect("verified");
    let wait_for_generation = async |generation: u64| {
        eventually_within(TIMEOUT, "the next generation is current", || {
            db.generation() >= generation
        })
        .await;
    };

    // Schedule: no hint about the new credential.
    fixture.set_password("password-2").await;
    provider.rotate();
    wait_for_generation(2).await;

    // Changed.
    fixture.set_password("password-3").await;
    provider.rotate();
    provider.hint();
    wait_for_generation(3).await;

    // Manual, in a request; a connection is returned after the drain deadline.
    let connection = db.acquire().await.expect("a connection");
    let password = provider.rotate();
    fixture.set_password(&password).await;
    let request = tracing::info_span!("POST /rotate", otel.kind = "server");
    let report = supervisor
        .rotate_now("orders-credentials")
        .instrument(request)
        .await
        .expect("it rotates");
    assert_eq!(report.outcome, RotationOutcome::Adopted);
    let draining = || {
        db.status()
            .map(|status| status.draining)
            .unwrap_or_default()
    };
    eventually_within(TIMEOUT, "the drain is abandoned", || {
        draining().iter().any(|drain| drain.abandoned)
    })
    .await;
    drop(connection);
    eventually_within(TIMEOUT, "the connection is closed", || {
        draining().is_empty()
    })
    .await;

    // Manual, without a new credential.
    let report = supervisor
        .rotate_now("orders-credentials")
        .await
        .expect("it responds");
    assert_eq!(report.outcome, RotationOutcome::Unchanged);

    // Rejected: the backend is down once, then returns a credential that the database rejects, then
    // the right one.
    fixture.set_password("password-6").await;
    fixture.terminate_connections().await;
    provider.fail_next(
        1,
        ProviderError::new(ProviderErrorKind::Unavailable, "the backend is down"),
    );
    provider.rotate();
    while !db.status().is_some_and(|status| status.rejected) {
        let _ = sqlx::query("SELECT 1").execute(&db).await;
    }
    eventually_within(TIMEOUT, "the wrong one is rejected, too", || {
        fixture.rejected_logins() >= 3
    })
    .await;
    provider.rotate();
    provider.hint();
    wait_for_generation(5).await;
    sqlx::query("SELECT 1")
        .execute(&db)
        .await
        .expect("it serves");

    // Woke: the next reconcile detects the jump.
    let before = provider.calls().len();
    clock.jump(Duration::from_secs(3_600));
    eventually_within(TIMEOUT, "it wakes", || {
        provider
            .calls()
            .iter()
            .skip(before)
            .any(|call| call.trigger == claviger::report::RotationTrigger::ClockJump)
    })
    .await;

    supervisor.shutdown(Duration::from_secs(5)).await;
}
