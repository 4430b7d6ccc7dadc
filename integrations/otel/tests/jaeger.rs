//! needs: postgresql, jaeger
//!
//! Every trigger and every outcome, on a real database, sent to a real Jaeger and read back from
//! it: names, parents, links, attributes, durations that add up, and no secret.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "common/jaeger.rs"]
mod api;

use std::time::Duration;

use claviger::{PgPools, ProviderError, ProviderErrorKind, RotationOutcome, Supervisor};
use claviger_fixtures::{Fixture, eventually_within};
use claviger_testkit::Lab;
use claviger_traces::{Span, handovers_add_up, tree};
use tracing::Instrument;

const PATIENCE: Duration = Duration::from_secs(20);
const DRAIN: Duration = Duration::from_millis(300);

/// Who tried to log in where is told, too; the port differs from run to run.
fn without_target(text: &str) -> String {
    let mut parts = text.split("; user \"app\" at 127.0.0.1:");
    let first = parts.next().unwrap_or_default().to_owned();
    let rest: Vec<_> = parts
        .map(|part| part.split_once(", database \"orders\"").expect("it ends").1)
        .collect();
    assert!(!rest.is_empty(), "{text}");
    first + &rest.concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_trigger_and_every_outcome_is_read_back() {
    let (answer, all) = api::traced("", play()).await;

    assert!(answer.contains("credential.rotation"));
    for secret in ["password-", "nobody-knows"] {
        assert!(!answer.contains(secret), "a trace shows {secret}");
    }
    assert_eq!(
        of(&all, "start", "adopted"),
        ["\
credential.rotation outcome=adopted provider=orders-login span.kind=internal trigger=start
  credential.fetch provider=orders-login span.kind=client trigger=start
pool.handover generation=1 mode=replace pool=orders span.kind=internal → credential.rotation
  pool.verify span.kind=client
  pool.open span.kind=internal
  pool.publish generation=1 span.kind=internal
"]
    );
    for (trigger, generation) in [("schedule", 2), ("changed", 3)] {
        assert_eq!(
            of(&all, trigger, "adopted"),
            [replaced(trigger, generation, "", "")]
        );
    }
    // Rejected a moment after it was verified, it is verified again, before anything is fetched: by
    // a handover of its own, linked to what brought it.
    let manual = of(&all, "manual", "adopted");
    let (rotation, again) = (
        replaced("manual", 4, " → POST /rotate", ABANDONED),
        "pool.handover error=true error.type=rejected",
    );
    assert!(
        matches!(&manual[..], [one] if one.strip_prefix(&rotation).is_some_and(|rest| rest.is_empty() || rest.starts_with(again))),
        "{manual:?}"
    );
    let nothing_new = |trigger: &str| {
        format!(
            "credential.rotation outcome=unchanged provider=orders-login span.kind=internal trigger={trigger}\n  \
             credential.fetch provider=orders-login span.kind=client trigger={trigger}\n"
        )
    };
    assert_eq!(of(&all, "manual", "unchanged"), [nothing_new("manual")]);
    assert_eq!(of(&all, "woke", "unchanged"), [nothing_new("woke")]);

    // What failed and was tried again is marked itself, and not the rotation. How often it was
    // tried depends on the time.
    let down = "  credential.fetch error=true error.type=unavailable otel.status_code=ERROR otel.status_description=the store is down (unavailable)";
    let rejected = "error=true error.type=rejected otel.status_code=ERROR \
        otel.status_description=password authentication failed for user \"app\" (rejected, SQLSTATE 28P01)";
    let [superseded] = of(&all, "rejected", "superseded")
        .try_into()
        .expect("the wrong one came in one rotation");
    let superseded = without_target(&superseded);
    assert!(superseded.starts_with("credential.rotation outcome=superseded provider=orders-login span.kind=internal trigger=rejected\n"));
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
    let [adopted] = of(&all, "rejected", "adopted")
        .try_into()
        .expect("the right one came in one rotation");
    let (root, rest) = adopted.split_once('\n').expect("it has children");
    assert_eq!(
        root,
        "credential.rotation generation=5 outcome=adopted provider=orders-login span.kind=internal trigger=rejected"
    );
    assert!(
        rest.contains("pool.handover generation=5 mode=replace")
            && rest.contains("pool.drain generation=4"),
        "{adopted}"
    );

    assert_eq!(handovers_add_up(&all), Ok(5));
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

/// The tree of a rotation in which the pool was replaced, whose old generation's drain is linked to
/// it.
fn replaced(trigger: &str, generation: u64, link: &str, abandoned: &str) -> String {
    let old = generation - 1;
    let status = if abandoned.is_empty() {
        ""
    } else {
        " otel.status_code=ERROR otel.status_description=connections of an old generation outlive its drain deadline"
    };
    format!(
        "\
credential.rotation generation={generation} outcome=adopted provider=orders-login span.kind=internal trigger={trigger}{link}
  credential.fetch provider=orders-login span.kind=client trigger={trigger}
  pool.handover generation={generation} mode=replace pool=orders span.kind=internal
    pool.verify span.kind=client
    pool.open span.kind=internal
    pool.publish generation={generation} span.kind=internal
pool.drain{abandoned} generation={old}{status} pool=orders span.kind=internal → credential.rotation
"
    )
}

/// The trees of all rotations that began and ended so. Each has the digest of a revision if it
/// brought one.
fn of(all: &[Span], trigger: &str, outcome: &str) -> Vec<String> {
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

/// The rotations, one after the other.
async fn play() {
    let fixture = Fixture::new().await;
    let (store, options) = (fixture.provider.clone(), fixture.pool_options(4));
    let builder = Supervisor::builder()
        .with_drain_deadline(DRAIN)
        .with_poll_interval(Duration::from_secs(2));
    let Lab {
        supervisor, clock, ..
    } = Lab::with_builder(builder).expect("the durations are right");

    // Start, adopted.
    let login = supervisor
        .add_provider("orders-login", store.clone())
        .await
        .expect("a lease");
    let db = supervisor
        .add_pool(
            "orders",
            &login,
            PgPools::new(fixture.connect_options(), options),
        )
        .await
        .expect("verified");
    let serves = async |generation: u64| {
        eventually_within(PATIENCE, "the next generation is served", || {
            db.generation() >= generation
        })
        .await;
    };

    // Schedule: nobody says that the store has another.
    fixture.set_password("password-2").await;
    store.rotate();
    serves(2).await;

    // Changed.
    fixture.set_password("password-3").await;
    store.rotate();
    store.hint();
    serves(3).await;

    // Manual, in a request; a connection outlives the drain's deadline, and returns.
    let held = db.acquire().await.expect("a connection");
    let password = store.rotate();
    fixture.set_password(&password).await;
    let request = tracing::info_span!("POST /rotate", otel.kind = "server");
    let report = supervisor
        .rotate_now("orders-login")
        .instrument(request)
        .await
        .expect("it rotates");
    assert_eq!(report.outcome, RotationOutcome::Adopted);
    let draining = || {
        db.status()
            .map(|status| status.draining)
            .unwrap_or_default()
    };
    eventually_within(PATIENCE, "the drain is abandoned", || {
        draining().iter().any(|drain| drain.abandoned)
    })
    .await;
    drop(held);
    eventually_within(PATIENCE, "the connection is gone", || draining().is_empty()).await;

    // Manual, with nothing new.
    let report = supervisor
        .rotate_now("orders-login")
        .await
        .expect("it answers");
    assert_eq!(report.outcome, RotationOutcome::Unchanged);

    // Rejected: the store is down once; then it has one that the database does not take, and then
    // the right one.
    fixture.set_password("password-6").await;
    fixture.terminate_connections().await;
    store.fail_next(
        1,
        ProviderError::new(ProviderErrorKind::Unavailable, "the store is down"),
    );
    store.rotate();
    while !db.status().is_some_and(|status| status.rejected) {
        let _ = sqlx::query("SELECT 1").execute(&db).await;
    }
    eventually_within(PATIENCE, "the wrong one is rejected, too", || {
        fixture.rejected_logins() >= 3
    })
    .await;
    store.rotate();
    store.hint();
    serves(5).await;
    sqlx::query("SELECT 1")
        .execute(&db)
        .await
        .expect("it serves");

    // Woke: found by the next look.
    let before = store.calls().len();
    clock.jump(Duration::from_secs(3_600));
    eventually_within(PATIENCE, "it wakes", || {
        store
            .calls()
            .iter()
            .skip(before)
            .any(|call| call.trigger == claviger::RotationTrigger::Woke)
    })
    .await;

    supervisor.shutdown(Duration::from_secs(5)).await;
}
