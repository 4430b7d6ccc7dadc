//! The pool: an HTTP client with a token, and its integration with the supervisor.

use std::error::Error;
use std::net::SocketAddr;

use claviger::error::{ConnectError, ConnectErrorKind};
use claviger::pool::{AcquireError, LoginPermits, PoolFactory, PoolSettings, Taken};
use reqwest::{Client, StatusCode};

use crate::token::Token;

/// Maximum number of concurrent calls of the API.
const CALLS: u32 = 100;

/// Error of a call of the API.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// The API rejected the token. The call had no effect.
    #[error("the API rejected the token")]
    Rejected,
    /// No token is accepted.
    #[error("{0}")]
    NoClient(ConnectError),
    /// There was no client before the deadline, or the supervisor was shut down.
    #[error("{0}")]
    Unavailable(&'static str),
    /// The call itself failed.
    #[error("the API returned no orders")]
    Call(#[source] reqwest::Error),
}

/// A client of the API with a token. Clones share its connections.
#[derive(Clone)]
pub(crate) struct ApiClient {
    url: String,
    http: Client,
    token: String,
}

impl ApiClient {
    pub(crate) async fn orders(&self) -> Result<u64, ApiError> {
        let request = self.http.get(&self.url).bearer_auth(&self.token);
        let response = request.send().await.map_err(ApiError::Call)?;
        if response.status() == StatusCode::UNAUTHORIZED {
            return Err(ApiError::Rejected);
        }
        let response = response.error_for_status().map_err(ApiError::Call)?;
        response.json().await.map_err(ApiError::Call)
    }
}

/// Creates clients of the API.
#[derive(Debug)]
pub(crate) struct ApiClients {
    url: String,
    http: Client,
}

impl ApiClients {
    pub(crate) fn new(address: SocketAddr, http: Client) -> Self {
        let url = format!("http://{address}/orders");
        Self { url, http }
    }

    fn client(&self, token: &str) -> ApiClient {
        ApiClient {
            url: self.url.clone(),
            http: self.http.clone(),
            token: token.to_owned(),
        }
    }
}

impl PoolFactory for ApiClients {
    type Secret = Token;
    type Pool = ApiClient;
    type Connection = ApiClient;
    type Error = ApiError;

    fn settings(&self) -> PoolSettings {
        PoolSettings::new(CALLS)
    }

    fn vacant(&self) -> ApiClient {
        self.client("")
    }

    async fn verify(&self, token: &Token) -> Result<(), ConnectError> {
        match self.client(&token.0).orders().await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.classify(&error).with_source(error)),
        }
    }

    fn open(&self, token: &Token, _: LoginPermits) -> Result<ApiClient, ConnectError> {
        Ok(self.client(&token.0))
    }

    /// Drops the client. Running calls complete by themselves, because no HTTP connection belongs
    /// to a token.
    async fn drain(&self, client: ApiClient) {
        drop(client);
    }

    fn connections(&self, _: &ApiClient) -> u32 {
        0
    }

    /// Returns 1, because a client is always available.
    fn idle(&self, _: &ApiClient) -> u32 {
        1
    }

    fn classify(&self, error: &(dyn Error + 'static)) -> ConnectError {
        let kind = match error.downcast_ref() {
            Some(ApiError::Rejected) => ConnectErrorKind::Rejected,
            Some(ApiError::Call(error)) if error.is_connect() || error.is_timeout() => {
                ConnectErrorKind::Unreachable
            }
            _ => ConnectErrorKind::Other,
        };
        ConnectError::new(kind, error.to_string())
    }

    /// Returns nothing: no connection of a client with a rejected token is usable.
    fn try_get(&self, _: &ApiClient) -> Option<Taken<ApiClient>> {
        None
    }

    async fn get(&self, client: &ApiClient) -> Result<Taken<ApiClient>, ApiError> {
        Ok(client.clone().into())
    }

    fn error(&self, error: AcquireError<'_>) -> ApiError {
        match error {
            AcquireError::Connect(error) => ApiError::NoClient(error.clone()),
            AcquireError::Closed => ApiError::Unavailable("the supervisor was shut down"),
            _ => ApiError::Unavailable("no token before the deadline"),
        }
    }
}
