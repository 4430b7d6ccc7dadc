//! A rotation on demand.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::inner::Inner;
use super::runtime;
use crate::error::{Error, ProviderError};
use crate::provider::ManualRequest;
use crate::report::RotationReport;
use crate::telemetry::Caller;

pub(super) async fn rotate_now(inner: &Arc<Inner>, name: &str) -> Result<RotationReport, Error> {
    runtime::check("rotate_now")?;
    let provider = inner.lock().provider(name)?;
    let (reply, outcome) = oneshot::channel();
    Arc::clone(&provider.slot).request(ManualRequest {
        reply,
        caller: Caller::current(),
    });
    let start_deadline = inner.context.settings.start_deadline;
    let first = inner.context.settings.fetch_deadline + start_deadline;
    let rotation = match timeout(first, outcome).await {
        Ok(Ok(Ok(rotation))) => rotation,
        Ok(Ok(Err(error))) => return Err(Error::from_manual_rotation(name, error)),
        Ok(Err(_)) => return Err(Error::shut_down()),
        Err(_) => {
            let error = ProviderError::has_not_returned();
            return Err(Error::from_manual_rotation(name, error));
        }
    };
    // The report lists which pools are still to adopt it.
    let _ = timeout(start_deadline, provider.slot.until_closed(&rotation)).await;
    Ok(rotation.report(inner.context.clock.now()))
}
