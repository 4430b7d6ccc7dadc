//! The API for the rest of the application.

use claviger::Handle;

use crate::client::{ApiClients, ApiError};

/// Maximum attempts of one request. The second one uses the token that replaced a rejected one.
const ATTEMPTS: usize = 3;

/// The orders API with the current token.
#[derive(Clone)]
pub(crate) struct Api(Handle<ApiClients>);

impl Api {
    pub(crate) fn new(handle: Handle<ApiClients>) -> Self {
        Self(handle)
    }

    pub(crate) async fn orders(&self) -> Result<u64, ApiError> {
        let mut attempt = 1;
        loop {
            // Read before the client is obtained, so that a newer generation is never reported.
            let generation = self.0.generation();
            let client = self.0.get().await?;
            match client.orders().await {
                // A rejected request had no effect, so it may be repeated.
                Err(ApiError::Rejected) if attempt < ATTEMPTS => {
                    self.0.rejected(generation, &ApiError::Rejected);
                    attempt += 1;
                }
                result => return result,
            }
        }
    }
}
