//! An HTTP client whose bearer token rotates. Run it with `cargo run -p http_client`.
//!
//! A token is valid for a minute, and the API may revoke it before. The supervisor obtains the next
//! one in time. When a token is rejected, it obtains another at once. It sends one request, even if
//! many calls are rejected. Calls continue.

#![expect(clippy::print_stdout, reason = "an example prints its results")]

mod api;
mod client;
mod service;
#[cfg(test)]
mod tests;
mod token;

use std::time::Duration;

use claviger::Supervisor;

use api::Api;
use client::ApiClients;
use token::TokenProvider;

type Problem = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Problem> {
    let service = service::start().await?;
    let http = reqwest::Client::builder()
        .timeout(Duration::from_secs(10))
        .build()?;

    let supervisor = Supervisor::start();
    let provider = TokenProvider::new(service.address(), http.clone());
    let token = supervisor.add_provider("api-token", provider).await?;
    let clients = ApiClients::new(service.address(), http);
    let api = Api::new(supervisor.add_pool("orders-api", &token, clients).await?);

    println!("orders: {}", api.orders().await?);
    supervisor.rotate_now("api-token").await?;
    println!("orders after a rotation: {}", api.orders().await?);
    service.revoke_tokens();
    println!(
        "orders after the token was revoked: {}",
        api.orders().await?
    );
    println!("token requests: {}", service.token_requests());

    let report = supervisor.shutdown(Duration::from_secs(10)).await;
    println!("shut down, nothing remains: {}", report.clean);
    Ok(())
}
