//! needs: postgresql, prometheus
//!
//! Each alert fires in a real Prometheus after a real failure. Each query of the dashboard returns
//! data.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/http.rs"]
mod http;
#[path = "support/prometheus.rs"]
mod prometheus;

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum_service::{Bounds, Metrics, Service, serve};
use claviger::error::{ProviderError, ProviderErrorKind};
use claviger::lease::{Expiry, Timestamp};
use claviger::{Credentials, Handle, Lease, PgPools, Revision, Supervisor};
use claviger_fixtures::{Fixture, Server, eventually_within};
use claviger_otel::WithMeter;
use claviger_servers::{Postgres, Prometheus};
use claviger_testkit::{Lab, ScriptedProvider};
use http::get;
use prometheus::values;
use serde_json::Value;
use tokio::net::TcpListener;

/// Timeout of an alert, also on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Writes the shipped rules with shorter times, because a test cannot wait for minutes.
fn write_faster_rules(folder: &Path) -> std::path::PathBuf {
    let mut rules = fs::read_to_string(repository_path("ops/prometheus/claviger.rules.yml"))
        .expect("it is there");
    for (time, faster) in [
        ("for: 1m\n", "for: 1s\n"),
        ("for: 3m\n", "for: 1s\n"),
        ("for: 45s\n", "for: 1s\n"),
        ("[3m]", "[15s]"),
    ] {
        assert!(rules.contains(time), "the rules do not contain {time:?}");
        rules = rules.replace(time, faster);
    }
    let file = folder.join("faster.rules.yml");
    fs::write(&file, rules).expect("it is written");
    file
}

fn repository_path(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

/// Creates a fixture whose drains are abandoned after one second.
async fn fixture(metrics: &Metrics) -> (Fixture, Handle<PgPools>) {
    let server = tokio::task::spawn_blocking(Postgres::start_with_app)
        .await
        .expect("the server's thread ends");
    let builder = Supervisor::builder()
        .with_meter(metrics.meter())
        .with_drain_deadline(Duration::from_secs(1));
    let Lab {
        supervisor,
        clock,
        failpoints,
    } = Lab::with_builder(builder).expect("the durations are valid");
    let fixture = Fixture {
        server: Arc::new(server),
        provider: ScriptedProvider::new(),
        supervisor,
        clock,
        failpoints,
    };
    let db = fixture.pool(4).await;
    (fixture, db)
}

async fn free_listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

async fn get_from(address: SocketAddr, path: &'static str) -> (u16, String) {
    tokio::task::spawn_blocking(move || get(address, path))
        .await
        .expect("the thread ends")
        .expect("it responds")
}

/// Returns the names of the firing alerts.
fn firing_alerts(prometheus: &Prometheus) -> BTreeSet<String> {
    let response: Value =
        serde_json::from_str(&prometheus.alerts().expect("it responds")).expect("JSON");
    let alerts = response["data"]["alerts"]
        .as_array()
        .expect("a list")
        .iter();
    alerts
        .filter(|alert| alert["state"] == "firing")
        .map(|alert| {
            alert["labels"]["alertname"]
                .as_str()
                .expect("a name")
                .to_owned()
        })
        .collect()
}

async fn wait_until_firing(prometheus: &Prometheus, alert: &str) {
    eventually_within(TIMEOUT, alert, || firing_alerts(prometheus).contains(alert)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_alert_fires_and_each_query_of_the_dashboard_returns_data() {
    let folder = tempfile::tempdir().expect("a folder");
    let metrics = Metrics::new("orders").expect("the exporter is registered");
    let (fixture, db) = fixture(&metrics).await;
    let service = Service::new(fixture.supervisor.clone(), db.clone(), metrics);
    let ((customers, address), (operators, _)) = (free_listener().await, free_listener().await);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let bounds = Bounds {
        not_ready: Duration::ZERO,
        ..Bounds::default()
    };
    let stopped = async {
        let _ = stopped.await;
    };
    let running = tokio::spawn(serve(service, customers, operators, stopped, bounds));
    let prometheus = Prometheus::start(
        &[&address.to_string()],
        Some(&write_faster_rules(folder.path())),
    )
    .expect("it starts");

    // A healthy service fires nothing, and its counters exist with value 0.
    eventually_within(TIMEOUT, "the service is scraped", || {
        values(&prometheus, "count_over_time(supervisor_ready[1m]) > 4") != Vec::<String>::new()
    })
    .await;
    for zero in [
        "pool_drain_abandoned_total",
        "db_client_connection_timeouts_total",
        "supervisor_restarts_total{actor=\"orders\"}",
        "supervisor_ready - 1",
    ] {
        assert_eq!(values(&prometheus, zero), ["0"], "{zero}");
    }
    assert_eq!(firing_alerts(&prometheus), BTreeSet::new());

    // An actor of the library fails during a rotation.
    fixture.failpoints.set("orders", "pool.wake", 1);
    fixture.rotate_announced().await;
    wait_until_firing(&prometheus, "ClavigerActorRestarting").await;
    assert_eq!(
        fixture.failpoints.left("orders", "pool.wake"),
        0,
        "it has failed"
    );
    assert_eq!(
        firing_alerts(&prometheus).len(),
        1,
        "no other alert fires: {:?}",
        firing_alerts(&prometheus)
    );

    // A transaction continues beyond the drain deadline.
    eventually_within(TIMEOUT, "the rotation is over", || db.generation() == 2).await;
    let transaction = db.begin().await.expect("a connection");
    fixture.rotate_announced().await;
    wait_until_firing(&prometheus, "ClavigerDrainAbandoned").await;
    transaction.commit().await.expect("it was not cut");

    // Every connection is in use, which fires no alert.
    eventually_within(TIMEOUT, "the rotation is over", || db.generation() == 3).await;
    let mut connections = Vec::new();
    for _ in 0..4 {
        connections.push(db.acquire().await.expect("a connection"));
    }
    assert_eq!(get_from(address, "/orders").await.0, 503);
    drop(connections);
    eventually_within(TIMEOUT, "it is counted", || {
        values(&prometheus, "db_client_connection_timeouts_total") == ["1"]
    })
    .await;

    // A rotation is incomplete: the backend has the new password, the database does not. Customers'
    // requests still succeed.
    let password = fixture.provider.rotate();
    fixture.provider.hint();
    wait_until_firing(&prometheus, "ClavigerHandoverFailing").await;
    assert_eq!(
        (
            get_from(address, "/readyz").await.0,
            get_from(address, "/orders").await.0,
            db.generation()
        ),
        (200, 200, 3)
    );
    fixture.set_password(&password).await;
    assert!(fixture.terminate_connections().await > 0);
    eventually_within(TIMEOUT, "the rotation is complete", || {
        let _ = get(address, "/orders");
        db.generation() == 4
    })
    .await;

    // The password is changed in the database only.
    assert!(!firing_alerts(&prometheus).contains("ClavigerNotReady"));
    assert_eq!(get_from(address, "/orders").await.0, 200);
    fixture.set_password("an unknown password").await;
    assert!(fixture.terminate_connections().await > 0);
    let (status, body) = get_from(address, "/orders").await;
    assert_eq!(
        (status, body.as_str()),
        (503, "the database is not available\n")
    );
    assert!(fixture.rejected_logins() > 0);
    wait_until_firing(&prometheus, "ClavigerNotReady").await;
    assert_eq!(get_from(address, "/readyz").await.0, 503);
    assert_eq!(get_from(address, "/livez").await.0, 200);
    fixture.rotate_announced().await;
    eventually_within(TIMEOUT, "no alert fires", || {
        !firing_alerts(&prometheus).contains("ClavigerNotReady")
    })
    .await;
    assert_eq!(get_from(address, "/orders").await.0, 200);

    // A credential is valid for twenty seconds, and the backend is down when a refresh is due.
    assert!(
        !firing_alerts(&prometheus).contains("ClavigerRefreshFailing")
            && !firing_alerts(&prometheus).contains("ClavigerCredentialExpiresSoon")
    );
    let password = fixture.provider.rotate();
    fixture.set_password(&password).await;
    let expiry = Expiry::after(Timestamp::now(), Duration::from_secs(20));
    fixture.provider.return_next(
        Lease::new(
            Credentials::new("app", password),
            Revision::new("expires".to_owned()),
        )
        .with_expiry(expiry),
    );
    fixture
        .supervisor
        .rotate_now("login")
        .await
        .expect("it is adopted");
    fixture.provider.fail_next(
        1_000,
        ProviderError::new(ProviderErrorKind::Unavailable, "the backend is down"),
    );
    wait_until_firing(&prometheus, "ClavigerRefreshFailing").await;
    wait_until_firing(&prometheus, "ClavigerCredentialExpiresSoon").await;

    assert_dashboard_queries_return_data(&prometheus).await;

    fixture.provider.recover();
    stop.send(()).expect("it runs");
    running
        .await
        .expect("no panic")
        .expect("the server has no error");
}

async fn assert_dashboard_queries_return_data(prometheus: &Prometheus) {
    let dashboard =
        fs::read_to_string(repository_path("ops/grafana/claviger.json")).expect("it is there");
    let dashboard: Value = serde_json::from_str(&dashboard).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("a list");
    let queries: Vec<_> = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().expect("a list"))
        .collect();
    assert!(panels.len() > 8 && queries.len() > panels.len());
    for query in queries {
        // Grafana substitutes the variables so without a selection.
        let query = query["expr"].as_str().expect("an expression");
        let expression = query
            .replace("$job", ".*")
            .replace("$instance", ".*")
            .replace("$__rate_interval", "5m");
        assert!(!expression.contains('$'), "{query}");
        eventually_within(Duration::from_secs(5), query, || {
            !values(prometheus, &expression).is_empty()
        })
        .await;
    }
}
