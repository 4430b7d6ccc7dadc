//! The provider of tokens.

use std::net::SocketAddr;
use std::time::Duration;

use claviger::error::{ProviderError, ProviderErrorKind};
use claviger::lease::Expiry;
use claviger::provider::{FetchRequest, Fetched};
use claviger::{Lease, Provider, Revision};
use reqwest::Client;
use serde::Deserialize;

/// A bearer token. It has no `Debug`, because it is a secret.
pub(crate) struct Token(pub(crate) String);

/// Requests tokens from the token endpoint.
#[derive(Debug)]
pub(crate) struct TokenProvider {
    url: String,
    http: Client,
}

#[derive(Deserialize)]
struct TokenResponse {
    id: u64,
    access_token: String,
    expires_in: u64,
}

impl TokenProvider {
    pub(crate) fn new(address: SocketAddr, http: Client) -> Self {
        let url = format!("http://{address}/token");
        Self { url, http }
    }
}

impl Provider for TokenProvider {
    type Secret = Token;

    async fn fetch(&self, request: FetchRequest<Token>) -> Result<Fetched<Token>, ProviderError> {
        let unavailable = |error: reqwest::Error| {
            ProviderError::new(
                ProviderErrorKind::Unavailable,
                "the token endpoint issued no token",
            )
            .with_source(error.without_url())
        };
        let response = self
            .http
            .post(&self.url)
            .send()
            .await
            .map_err(unavailable)?;
        let response = response.error_for_status().map_err(unavailable)?;
        let issued: TokenResponse = response.json().await.map_err(unavailable)?;
        let lifetime = Duration::from_secs(issued.expires_in);
        let lease = Lease::new(
            Token(issued.access_token),
            Revision::new(issued.id.to_string()),
        );
        Ok(lease
            .with_expiry(Expiry::after(request.started, lifetime))
            .into())
    }
}
