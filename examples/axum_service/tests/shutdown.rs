//! needs: postgresql
//!
//! Shutdown: the service is not ready, then its listener is closed. Every request is completed and
//! every credential released.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/http.rs"]
mod http;

use std::io::ErrorKind;
use std::time::Duration;

use axum_service::{Bounds, Metrics, Service, serve};
use claviger_fixtures::{Fixture, eventually};
use http::get;
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;

#[tokio::test(flavor = "multi_thread")]
async fn requests_complete_then_pools_drain_then_leases_are_released() {
    let fixture = Fixture::new().await;
    let db = fixture.pool(4).await;
    let service = Service::new(
        fixture.supervisor.clone(),
        db.clone(),
        Metrics::new("orders").expect("the exporter is registered"),
    );
    let customers = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let operators = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (customers_address, operators_address) = (
        customers.local_addr().expect("an address"),
        operators.local_addr().expect("an address"),
    );
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let bounds = Bounds {
        not_ready: Duration::from_secs(1),
        ..Bounds::default()
    };
    let stopped = async {
        let _ = stopped.await;
    };
    let running = tokio::spawn(serve(service, customers, operators, stopped, bounds));
    let get_from = move |path: &'static str| async move {
        spawn_blocking(move || get(customers_address, path))
            .await
            .expect("the thread ends")
    };

    assert_eq!(get_from("/readyz").await.expect("it responds").0, 200);
    assert_eq!(
        get_from("/status").await.expect("it responds").0,
        404,
        "not for customers"
    );
    let status = spawn_blocking(move || get(operators_address, "/status"))
        .await
        .expect("the thread ends")
        .expect("it responds");
    assert!(
        status.0 == 200 && status.1.contains("\"orders\""),
        "{status:?}"
    );

    // The query takes longer than `not_ready`.
    let report = tokio::spawn(get_from("/report/6"));
    eventually("the query runs", || {
        fixture
            .server
            .sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
            .expect("it responds")
            == "1"
    })
    .await;
    stop.send(()).expect("it runs");
    loop {
        let (status, body) = get_from("/readyz").await.expect("it still responds");
        if status == 503 {
            let body_json: serde_json::Value =
                serde_json::from_str(&body).expect("it is JSON, as when it is ready");
            assert_eq!(
                body_json,
                serde_json::json!({
                    "ready": false,
                    "reasons": ["this instance is about to shut down"],
                })
            );
            break;
        }
        tokio::task::yield_now().await;
    }
    // Requests still succeed after the shutdown was announced.
    assert_eq!(get_from("/orders").await.expect("it still responds").0, 200);
    // A request may be interrupted while the listener closes. Later connections are refused.
    while !get_from("/livez")
        .await
        .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    {}
    assert!(
        !report.is_finished(),
        "it is in progress while new connections are refused"
    );
    assert!(
        fixture.provider.released().is_empty(),
        "the credential is in use"
    );

    let (status, body) = report.await.expect("no panic").expect("it succeeds");
    assert_eq!((status, body.as_str()), (200, "0 orders, counted in 6 s\n"));
    let outcome = running
        .await
        .expect("no panic")
        .expect("the server has no error");
    assert!(outcome.clean, "{outcome:?}");
    assert_eq!(fixture.provider.released().len(), 1);
    assert_eq!(
        fixture.server.connection_count("app").expect("it responds"),
        0
    );
}
