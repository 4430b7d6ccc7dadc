//! The API with its token endpoint. A token is valid for a minute, until it is revoked.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Serialize;
use tokio::net::TcpListener;

const LIFETIME_SECONDS: u64 = 60;

#[derive(Default)]
struct Issuer {
    issued: u64,
    rejected: u64,
    valid: HashSet<String>,
}

type Shared = Arc<Mutex<Issuer>>;

#[derive(Serialize)]
struct Issued {
    id: u64,
    access_token: String,
    expires_in: u64,
}

pub(crate) struct Service {
    address: SocketAddr,
    issuer: Shared,
}

/// Serves on a free loopback port until the program ends.
pub(crate) async fn start() -> std::io::Result<Service> {
    let issuer = Shared::default();
    let routes = Router::new()
        .route("/token", post(issue))
        .route("/orders", get(orders))
        .with_state(Arc::clone(&issuer));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok(Service { address, issuer })
}

impl Service {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Revokes all tokens that were issued so far.
    pub(crate) fn revoke_tokens(&self) {
        lock(&self.issuer).valid.clear();
    }

    pub(crate) fn token_requests(&self) -> u64 {
        lock(&self.issuer).issued
    }

    #[cfg(test)]
    pub(crate) fn rejected_calls(&self) -> u64 {
        lock(&self.issuer).rejected
    }
}

fn lock(issuer: &Shared) -> std::sync::MutexGuard<'_, Issuer> {
    issuer.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn issue(State(issuer): State<Shared>) -> Json<Issued> {
    let mut issuer = lock(&issuer);
    issuer.issued += 1;
    let id = issuer.issued;
    let access_token = format!("token-{id}");
    issuer.valid.insert(access_token.clone());
    Json(Issued {
        id,
        access_token,
        expires_in: LIFETIME_SECONDS,
    })
}

async fn orders(State(issuer): State<Shared>, headers: HeaderMap) -> Result<Json<u64>, StatusCode> {
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
        .ok_or(StatusCode::UNAUTHORIZED)?;
    let mut issuer = lock(&issuer);
    if issuer.valid.contains(token) {
        Ok(Json(42))
    } else {
        issuer.rejected += 1;
        Err(StatusCode::UNAUTHORIZED)
    }
}
