//! needs: postgresql
//!
//! A service as in `docs/frameworks/actix.md`. Each of its workers has a runtime of its own, which
//! ends before the supervisor's.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "../../../examples/axum_service/tests/support/http.rs"]
mod http;

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use actix_web::error::ErrorServiceUnavailable;
use actix_web::{App, HttpServer, get, web};
use claviger::{Handle, PgPools};
use claviger_fixtures::{Fixture, until_generation};
use tokio::task::{JoinHandle, spawn_blocking};

const CALLERS: usize = 8;
const REQUESTS: usize = 50;

#[get("/one")]
async fn select(db: web::Data<Handle<PgPools>>) -> actix_web::Result<String> {
    let one: i32 = sqlx::query_scalar("SELECT 1")
        .fetch_one(&**db)
        .await
        .map_err(|_| ErrorServiceUnavailable("the database is not available"))?;
    Ok(one.to_string())
}

/// Starts callers that each send some requests. Every request must succeed.
fn start_callers(address: SocketAddr) -> Vec<JoinHandle<()>> {
    let caller = |_| {
        spawn_blocking(move || {
            for _ in 0..REQUESTS {
                let response = http::get(address, "/one").expect("a response");
                assert_eq!(response, (200, "1".to_owned()));
            }
        })
    };
    (0..CALLERS).map(caller).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_succeed_through_rotations_and_the_shutdown_leaves_nothing() {
    let fixture = Fixture::new().await;
    let db = fixture.pool(4).await;
    let data = web::Data::new(db.clone());
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = HttpServer::new(move || App::new().app_data(data.clone()).service(select))
        .workers(2)
        .disable_signals()
        .shutdown_timeout(10)
        .listen(listener)
        .expect("it listens")
        .run();
    let stop = server.handle();
    let server = tokio::spawn(server);

    let callers = start_callers(address);
    for generation in 2..=4 {
        fixture.rotate_announced().await;
        until_generation(&db, generation).await;
    }
    for caller in callers {
        caller.await.expect("every request succeeds");
    }

    stop.stop(true).await;
    server.await.expect("no panic").expect("it ends");
    // The workers are gone. The pool still works, and closes.
    let one: i32 = sqlx::query_scalar("SELECT 1")
        .fetch_one(&db)
        .await
        .expect("the query succeeds");
    assert_eq!(one, 1);
    let report = fixture.supervisor.shutdown(Duration::from_secs(10)).await;
    assert!(report.clean, "{report:?}");
}
