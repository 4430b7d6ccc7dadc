//! The API with its token endpoint. A token is valid for a minute, unless it is revoked.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::{get, post};
use axum::{Json, Router};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::net::TcpListener;

const LIFETIME_SECONDS: u64 = 60;

#[derive(Default)]
struct TokenEndpoint {
    issued: u64,
    rejected: u64,
    valid: HashSet<String>,
}

type SharedEndpoint = Arc<Mutex<TokenEndpoint>>;

#[derive(Serialize)]
struct IssuedToken {
    id: u64,
    access_token: String,
    expires_in: u64,
}

pub(crate) struct Service {
    address: SocketAddr,
    endpoint: SharedEndpoint,
}

/// Starts the API on a free loopback port. It runs until the program ends.
pub(crate) async fn start() -> std::io::Result<Service> {
    let endpoint = SharedEndpoint::default();
    let routes = Router::new()
        .route("/token", post(issue_token))
        .route("/orders", get(count_orders))
        .with_state(Arc::clone(&endpoint));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok(Service { address, endpoint })
}

impl Service {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Revokes all tokens that were issued so far.
    pub(crate) fn revoke_tokens(&self) {
        self.endpoint.lock().valid.clear();
    }

    pub(crate) fn token_requests(&self) -> u64 {
        self.endpoint.lock().issued
    }

    #[cfg(test)]
    pub(crate) fn rejected_calls(&self) -> u64 {
        self.endpoint.lock().rejected
    }
}

async fn issue_token(State(endpoint): State<SharedEndpoint>) -> Json<IssuedToken> {
    let mut endpoint = endpoint.lock();
    endpoint.issued += 1;
    let id = endpoint.issued;
    let access_token = format!("token-{id}");
    endpoint.valid.insert(access_token.clone());
    Json(IssuedToken {
        id,
        access_token,
        expires_in: LIFETIME_SECONDS,
    })
}

async fn count_orders(
    State(endpoint): State<SharedEndpoint>,
    headers: HeaderMap,
) -> Result<Json<u64>, StatusCode> {
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
        .ok_or(StatusCode::UNAUTHORIZED)?;
    let mut endpoint = endpoint.lock();
    if endpoint.valid.contains(token) {
        Ok(Json(42))
    } else {
        endpoint.rejected += 1;
        Err(StatusCode::UNAUTHORIZED)
    }
}
