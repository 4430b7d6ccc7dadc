//! A manual rotation.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{Supervisor, runtime};
use crate::clock::rfc3339;
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::error::{Error, ProviderError};
use crate::provider::{ManualRequest, NotRotated};
use crate::report::RotationReport;
use crate::telemetry::Caller;

impl Supervisor {
    /// Requests a *new* credential, never a renewal, and waits until every pool has adopted it: up
    /// to the start deadline (30 s) after the fetch. Calls within a second share one fetch. If the
    /// backend's newest credential is still being handed over, the call waits for that, and returns
    /// the report of that rotation.
    ///
    /// # Errors
    /// When there is no such provider, or it returned no lease; the current lease then stays in
    /// use. While the provider is held ([`ErrorKind::Held`]). Outside of a tokio runtime.
    ///
    /// # Cancel safety
    /// The rotation continues without the future.
    pub async fn rotate_now(&self, provider: &str) -> Result<RotationReport, Error> {
        let inner = &self.inner;
        runtime::check("rotate_now")?;
        let node = inner.lock().provider(provider)?;
        let (reply, outcome) = oneshot::channel();
        Arc::clone(&node.slot).request(ManualRequest {
            reply,
            caller: Caller::current(),
        });
        let start_deadline = inner.context.settings.start_deadline;
        let first = inner.context.settings.fetch_deadline + start_deadline;
        let rotation = match timeout(first, outcome).await {
            Ok(Ok(Ok(rotation))) => rotation,
            Ok(Ok(Err(NotRotated::Failed(error)))) => {
                return Err(Error::from_manual_rotation(provider, error));
            }
            Ok(Ok(Err(NotRotated::Held))) => {
                let since = node.slot.status().held.map(rfc3339);
                return Err(Error::held(provider, since));
            }
            Ok(Err(_)) => return Err(Error::shut_down()),
            Err(_) => {
                let error = ProviderError::has_not_returned();
                return Err(Error::from_manual_rotation(provider, error));
            }
        };
        // The report lists which pools are still to adopt it.
        let _ = timeout(start_deadline, node.slot.until_closed(&rotation)).await;
        Ok(rotation.report(inner.context.clock.now()))
    }
}
