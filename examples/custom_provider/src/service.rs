//! The secret service: creates database users and drops them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{delete, post};
use axum::{Json, Router};
use claviger_servers::Postgres;
use serde::Serialize;
use tokio::net::TcpListener;

const TTL_SECONDS: u64 = 60;

struct Service {
    server: Postgres,
    created: AtomicU64,
}

#[derive(Serialize)]
struct CreatedUser {
    id: String,
    user: String,
    password: String,
    ttl_seconds: u64,
}

/// Starts the service on a free loopback port. It runs until the program ends.
pub(crate) async fn start(server: Postgres) -> std::io::Result<SocketAddr> {
    let service = Arc::new(Service {
        server,
        created: AtomicU64::new(0),
    });
    let routes = Router::new()
        .route("/leases", post(create))
        .route("/leases/{id}", delete(revoke))
        .with_state(service);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok(address)
}

async fn create(State(service): State<Arc<Service>>) -> Result<Json<CreatedUser>, StatusCode> {
    let number = service.created.fetch_add(1, Ordering::Relaxed) + 1;
    let (user, password) = (
        format!("orders_{number}"),
        format!("secret of orders_{number}"),
    );
    let (role, role_password) = (user.clone(), password.clone());
    run_on_server(service, move |server| {
        server.create_role(&role, &role_password).is_ok()
    })
    .await?;
    Ok(Json(CreatedUser {
        id: number.to_string(),
        user,
        password,
        ttl_seconds: TTL_SECONDS,
    }))
}

async fn revoke(
    State(service): State<Arc<Service>>,
    Path(id): Path<u64>,
) -> Result<StatusCode, StatusCode> {
    run_on_server(service, move |server| {
        server.sql(&format!("DROP ROLE orders_{id}")).is_ok()
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn run_on_server(
    service: Arc<Service>,
    work: impl FnOnce(&Postgres) -> bool + Send + 'static,
) -> Result<(), StatusCode> {
    match tokio::task::spawn_blocking(move || work(&service.server)).await {
        Ok(true) => Ok(()),
        _ => Err(StatusCode::SERVICE_UNAVAILABLE),
    }
}
