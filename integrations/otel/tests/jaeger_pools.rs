//! needs: postgresql, jaeger
//!
//! A rotation with two pools, one replaced and warmed and one updated in place, in a real Jaeger.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "common/jaeger.rs"]
mod api;

use std::time::Duration;

use claviger::pool::HandoverPolicy;
use claviger::report::RotationOutcome;
use claviger_fixtures::{Fixture, eventually_within};
use claviger_traces::{check_handovers, tree};

const TIMEOUT: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn each_pool_has_a_handover_with_its_steps() {
    let (response, all) = api::run_traced("/v1/traces", scenario()).await;
    assert!(
        !response.contains("password-"),
        "a trace contains a password"
    );

    let rotation = |trigger: &str| {
        let mut found = all.iter().filter(|span| {
            span.name == "credential.rotation" && span.tag("trigger") == Some(trigger)
        });
        let root = found.next().expect("it was exported");
        assert!(found.next().is_none(), "one rotation of each trigger");
        tree(&all, root)
    };
    // There is no old generation: all minimum connections are opened.
    let first = rotation("start");
    let warmed = "\
pool.handover generation=1 mode=replace pool=orders span.kind=internal → credential.rotation
  pool.verify span.kind=client
  pool.open span.kind=internal
  pool.warm connections=2 span.kind=internal
  pool.publish generation=1 span.kind=internal
";
    assert!(first.contains(warmed), "{first}");

    let head = "\
credential.rotation generation=2 outcome=adopted provider=login span.kind=internal trigger=manual
  credential.fetch provider=login span.kind=client trigger=manual
";
    // The overlap of a pool of eight is two connections. The verification uses one of them.
    let replaced = "  pool.handover generation=2 mode=replace pool=orders span.kind=internal
    pool.verify span.kind=client
    pool.open span.kind=internal
    pool.warm connections=1 span.kind=internal
    pool.publish generation=2 span.kind=internal
";
    let in_place = "  pool.handover generation=2 mode=in_place pool=reports span.kind=internal
    pool.verify span.kind=client
    pool.open span.kind=internal
    pool.publish generation=2 span.kind=internal
";
    // A pool that is updated in place has nothing to drain.
    let drain = "pool.drain generation=1 pool=orders span.kind=internal → credential.rotation\n";
    // The order of the two handovers varies.
    let either = [
        [head, replaced, in_place, drain].concat(),
        [head, in_place, replaced, drain].concat(),
    ];
    let manual = rotation("manual");
    assert!(either.contains(&manual), "{manual}");
    assert_eq!(check_handovers(&all), Ok(4));
}

async fn scenario() {
    let fixture = Fixture::new().await;
    let credentials = fixture.add_provider().await;
    let warm = fixture.pools_with(fixture.pool_options(8).min_connections(2));
    let orders = fixture
        .supervisor
        .add_pool("orders", &credentials, warm)
        .await
        .expect("verified");
    let reports = fixture
        .supervisor
        .add_pool(
            "reports",
            &credentials,
            fixture
                .pools(2)
                .with_handover_policy(HandoverPolicy::AlwaysInPlace),
        )
        .await
        .expect("verified");
    sqlx::query("SELECT 1")
        .execute(&reports)
        .await
        .expect("it serves");

    let password = fixture.provider.rotate();
    fixture.set_password(&password).await;
    let report = fixture
        .supervisor
        .rotate_now("login")
        .await
        .expect("it rotates");
    assert_eq!(
        (report.outcome, orders.generation(), reports.generation()),
        (RotationOutcome::Adopted, 2, 2)
    );
    let has_drained = || {
        orders
            .status()
            .is_some_and(|status| status.draining.is_empty())
    };
    eventually_within(TIMEOUT, "the old generation has drained", has_drained).await;
    fixture.supervisor.shutdown(Duration::from_secs(5)).await;
}
