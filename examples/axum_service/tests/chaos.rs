//! needs: postgresql
//!
//! A series of failures. Meanwhile probes and an operator send requests ten times a second, and
//! every trace is collected. All probes are right, and spans, events and metrics agree.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/http.rs"]
mod http;
#[path = "support/probes.rs"]
mod probes;
#[path = "support/telemetry.rs"]
mod telemetry;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum_service::{Bounds, Metrics, Service, serve};
use claviger::error::{ProviderError, ProviderErrorKind};
use claviger::events::Event;
use claviger::pool::HandoverPolicy;
use claviger::{Handle, PgPools, Revision, Supervisor};
use claviger_fixtures::{Capture, Fixture, Server, eventually_within};
use claviger_otel::WithMeter;
use claviger_servers::Postgres;
use claviger_testkit::{Lab, ScriptedProvider};
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::{Instrument, info_span};

const TIMEOUT: Duration = Duration::from_secs(60);
/// A password that the provider never has.
const UNKNOWN: &str = "password-of-no-lease";

/// Makes a fixture whose drains are abandoned after two seconds.
async fn fixture(metrics: &Metrics) -> Fixture {
    let server = spawn_blocking(Postgres::start_with_app)
        .await
        .expect("the server's thread ends");
    let builder = Supervisor::builder()
        .with_meter(metrics.meter())
        .with_drain_deadline(Duration::from_secs(2));
    let Lab {
        supervisor,
        clock,
        failpoints,
    } = Lab::with_builder(builder).expect("the durations are valid");
    Fixture {
        server: Arc::new(server),
        provider: ScriptedProvider::new(),
        supervisor,
        clock,
        failpoints,
    }
}

/// Waits until both pools use the provider's current password.
/// Waits until the pools use the lease with this password.
async fn wait_until_adopted(fixture: &Fixture, password: &str, after: &str) {
    let number = password.trim_start_matches("password-").to_owned();
    let revision = Some(Revision::new(number).digest());
    let is_adopted = || {
        let status = fixture.supervisor.status();
        let is_current = |pool: &claviger::status::PoolStatus| {
            pool.revision == revision && pool.last_error.is_none()
        };
        fixture.supervisor.readiness().ready && status.pools.iter().all(is_current)
    };
    eventually_within(TIMEOUT, after, is_adopted).await;
}

async fn run_failures(fixture: &Fixture, db: &Handle<PgPools>) {
    fixture.provider.panic_next();
    let password = fixture.rotate_announced().await;
    wait_until_adopted(fixture, &password, "a rotation, and a provider that panics").await;

    fixture.set_password(UNKNOWN).await;
    assert!(fixture.terminate_connections().await > 0);
    sleep(Duration::from_secs(1)).await;
    let password = fixture.rotate_announced().await;
    wait_until_adopted(
        fixture,
        &password,
        "a password that was changed before the provider had it",
    )
    .await;

    let transaction = db.begin().await.expect("a connection");
    let password = fixture.rotate_announced().await;
    let is_abandoned = || {
        db.status()
            .is_some_and(|status| status.draining.iter().any(|drain| drain.abandoned))
    };
    eventually_within(TIMEOUT, "the drain is abandoned", is_abandoned).await;
    transaction.commit().await.expect("it was not cut");
    wait_until_adopted(
        fixture,
        &password,
        "a transaction that outlives its rotation",
    )
    .await;

    let failpoints = [
        ("orders", "pool.wake"),
        ("orders", "pool.verified"),
        ("reports", "pool.verified"),
        ("login", "provider.wake"),
    ];
    for (actor, step) in failpoints {
        fixture.failpoints.set(actor, step, 1);
    }
    let password = fixture.rotate_announced().await;
    let each_has_crashed = || {
        let mut failpoints = failpoints.iter();
        failpoints.all(|(actor, step)| fixture.failpoints.left(actor, step) == 0)
    };
    eventually_within(TIMEOUT, "each has crashed", each_has_crashed).await;
    wait_until_adopted(fixture, &password, "crashes").await;

    fixture
        .on_the_server(|server| server.stop().expect("it stops"))
        .await;
    fixture.provider.rotate();
    fixture.provider.hint();
    sleep(Duration::from_secs(2)).await;
    fixture
        .on_the_server(|server| server.start_again().expect("it starts"))
        .await;
    let password = fixture.rotate_announced().await;
    wait_until_adopted(
        fixture,
        &password,
        "a rotation after one during which the database is down",
    )
    .await;

    fixture.provider.fail_next(
        1_000,
        ProviderError::new(ProviderErrorKind::Unavailable, "the backend is down"),
    );
    fixture.set_password(UNKNOWN).await;
    assert!(fixture.terminate_connections().await > 0);
    sleep(Duration::from_secs(2)).await;
    assert!(fixture.supervisor.rotate_now("login").await.is_err());
    fixture.provider.recover();
    let password = fixture.rotate_announced().await;
    wait_until_adopted(
        fixture,
        &password,
        "a backend that is down when the password is changed",
    )
    .await;

    let password = fixture.provider.rotate();
    fixture.set_password(&password).await;
    let request = info_span!("POST /rotate", otel.kind = "server");
    fixture
        .supervisor
        .rotate_now("login")
        .instrument(request)
        .await
        .expect("it rotates");
    wait_until_adopted(fixture, &password, "a manual rotation").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_spans_events_and_metrics_agree_during_failures() {
    let log = Capture::default();
    let (exporter, provider) = telemetry::collect(log.clone());
    let metrics = Metrics::new("orders").expect("the exporter is registered");
    let fixture = fixture(&metrics).await;
    let mut events = fixture.supervisor.events();
    let listener = tokio::spawn(async move {
        let mut all = Vec::new();
        while let Some(event) = events.next().await {
            all.push(event);
        }
        all
    });
    let credentials = fixture.add_provider().await;
    let warm = fixture.pools_with(fixture.pool_options(8).min_connections(2));
    let db = fixture
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
                .pools(3)
                .with_handover_policy(HandoverPolicy::AlwaysInPlace),
        )
        .await
        .expect("verified");

    let service = Service::new(fixture.supervisor.clone(), db.clone(), metrics.clone());
    let customers = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let operators = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (customers_address, operators_address) = (
        customers.local_addr().expect("an address"),
        operators.local_addr().expect("an address"),
    );
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let stopped = async {
        let _ = stopped.await;
    };
    let bounds = Bounds {
        not_ready: Duration::ZERO,
        ..Bounds::default()
    };
    let running = tokio::spawn(serve(service, customers, operators, stopped, bounds));

    let over = Arc::new(AtomicBool::new(false));
    let probing = spawn_blocking({
        let over = Arc::clone(&over);
        move || probes::probe(customers_address, operators_address, &over)
    });
    let load: Vec<_> = [db.clone(), db.clone(), db.clone(), reports]
        .into_iter()
        .map(|pool| {
            let over = Arc::clone(&over);
            tokio::spawn(async move {
                while !over.load(Ordering::Acquire) {
                    let query = sqlx::query("SELECT count(*) FROM orders").execute(&pool);
                    let _ = query
                        .instrument(info_span!("GET /orders", otel.kind = "server"))
                        .await;
                    sleep(Duration::from_millis(20)).await;
                }
            })
        })
        .collect();
    run_failures(&fixture, &db).await;
    over.store(true, Ordering::Release);
    let observed = probing.await.expect("every probe got a response");
    for task in load {
        task.await.expect("no panic");
    }
    stop.send(()).expect("it runs");
    let report = running
        .await
        .expect("no panic")
        .expect("the server has no error");
    assert!(report.clean, "{report:?}");
    let events = tokio::time::timeout(TIMEOUT, listener)
        .await
        .expect("events end")
        .expect("no panic");
    provider.force_flush().expect("everything was collected");
    let spans = exporter.get_finished_spans().expect("no panic");

    // The hazards occurred.
    assert!(
        observed.ready > 0 && observed.unready > 0,
        "{} probes of a ready service, {} of another",
        observed.ready,
        observed.unready
    );
    assert!(fixture.rejected_logins() > 0);
    let restarted = events
        .iter()
        .filter(|event| matches!(event, Event::Restarted { .. }))
        .count();
    assert_eq!(restarted, 2, "an actor of a pool and one of a provider");
    for error_type in [
        "panicked",
        "unavailable",
        "unreachable",
        "rejected",
        "drain_abandoned",
    ] {
        let has = |span: &&_| {
            telemetry::attribute(span, "error.type").is_some_and(|value| value == error_type)
        };
        assert!(spans.iter().any(|span| has(&span)), "{error_type}");
    }
    assert!(
        spans
            .iter()
            .any(|span| span.name == "GET /orders" && !span.links.is_empty()),
        "a request waited for a rotation"
    );

    let inconsistencies = telemetry::inconsistencies(&spans);
    assert!(
        inconsistencies.is_empty(),
        "{} inconsistencies in {} spans:\n{}",
        inconsistencies.len(),
        spans.len(),
        inconsistencies.join("\n")
    );
    for (what, by_spans, by_events) in telemetry::counts(&spans, &events) {
        assert_eq!(by_spans, by_events, "{what}");
    }
    let fetches = spans
        .iter()
        .filter(|span| span.name == "credential.fetch")
        .count();
    assert_eq!(fetches, fixture.provider.calls().len());
    let metrics_text = metrics.text().expect("text");
    let outputs = [
        ("a span", format!("{spans:?}")),
        ("the log", log.text()),
        ("a metric", metrics_text),
        ("a response", observed.bodies.join("\n")),
    ];
    for (what, text) in outputs {
        assert!(
            !text.is_empty() && !text.contains("password-"),
            "{what} contains a password"
        );
    }
}
