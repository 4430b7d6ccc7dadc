//! The provider, which is the code that you write.

use std::time::Duration;

use claviger::error::{ProviderError, ProviderErrorKind};
use claviger::lease::{Expiry, OldConnections};
use claviger::provider::{FetchRequest, Fetched};
use claviger::report::RotationTrigger;
use claviger::{Credentials, Lease, Provider, Revision};
use reqwest::{Client, StatusCode};
use serde::Deserialize;

/// Requests users from the secret service. Its `Debug` form shows the address and no secret.
#[derive(Debug)]
pub(crate) struct HttpSecrets {
    address: String,
    http: Client,
}

/// A response of the service. It has no `Debug`, because it contains the password.
#[derive(Deserialize)]
struct UserResponse {
    id: String,
    user: String,
    password: String,
    ttl_seconds: u64,
}

impl HttpSecrets {
    pub(crate) fn new(address: String) -> Result<Self, ProviderError> {
        let http = Client::builder()
            .timeout(Duration::from_secs(10))
            .build()
            .map_err(|error| {
                ProviderError::new(
                    ProviderErrorKind::Misconfigured,
                    "the HTTP client cannot be created",
                )
                .with_source(error)
            })?;
        Ok(Self { address, http })
    }
}

/// Converts an HTTP error to a provider error, transient or permanent.
fn provider_error(error: reqwest::Error) -> ProviderError {
    let kind = match error.status() {
        Some(StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED) => ProviderErrorKind::Denied,
        Some(StatusCode::NOT_FOUND) => ProviderErrorKind::NotFound,
        Some(StatusCode::TOO_MANY_REQUESTS) => ProviderErrorKind::Throttled,
        _ => ProviderErrorKind::Unavailable,
    };
    // The URL is left out, because it might contain a token.
    ProviderError::new(kind, "the secret service returned no lease")
        .with_source(error.without_url())
}

impl Provider for HttpSecrets {
    type Secret = Credentials;

    async fn fetch(
        &self,
        request: FetchRequest<Credentials>,
    ) -> Result<Fetched<Credentials>, ProviderError> {
        // After a hint or a clock jump the current user is still valid, so none is created.
        if request.current.is_some()
            && matches!(
                request.trigger,
                RotationTrigger::Changed | RotationTrigger::ClockJump
            )
        {
            return Ok(Fetched::Unchanged);
        }
        let response = self
            .http
            .post(format!("{}/leases", self.address))
            .send()
            .await
            .map_err(provider_error)?;
        let created: UserResponse = response
            .error_for_status()
            .map_err(provider_error)?
            .json()
            .await
            .map_err(provider_error)?;
        Ok(Lease::new(
            Credentials::new(created.user, created.password),
            Revision::new(created.id),
        )
        .with_expiry(Expiry::after(
            request.started,
            Duration::from_secs(created.ttl_seconds),
        ))
        .with_old_connections(OldConnections::EndWithLease)
        .into())
    }

    async fn release(&self, lease: Lease<Credentials>) -> Result<(), ProviderError> {
        let url = format!("{}/leases/{}", self.address, lease.revision().as_str());
        self.http
            .delete(url)
            .send()
            .await
            .and_then(reqwest::Response::error_for_status)
            .map(drop)
            .map_err(provider_error)
    }
}
