//! A rotation on demand.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::inner::Inner;
use super::runtime;
use crate::error::{Error, ProviderError, ProviderErrorKind};
use crate::provider::ManualRequest;
use crate::report::RotationReport;
use crate::telemetry::Caller;

pub(super) async fn rotate_now(inner: &Arc<Inner>, name: &str) -> Result<RotationReport, Error> {
    runtime::check("rotate_now")?;
    let provider = inner.lock().provider(name)?;
    let (reply, outcome) = oneshot::channel();
    provider.request(ManualRequest {
        reply,
        caller: Caller::current(),
    });
    let patience = inner.context.settings.start_deadline;
    let deadline = tokio::time::Instant::now() + inner.context.settings.fetch_deadline + patience;
    let rotation = match tokio::time::timeout_at(deadline, outcome).await {
        Ok(Ok(Ok(rotation))) => rotation,
        Ok(Ok(Err(error))) => return Err(Error::from_manual_rotation(name, error)),
        Ok(Err(_)) => return Err(Error::shut_down()),
        Err(_) => {
            let error = ProviderError::new(
                ProviderErrorKind::TimedOut,
                "the provider has not returned yet",
            );
            return Err(Error::from_manual_rotation(name, error));
        }
    };
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        let settled = provider.slot.next_settled();
        if rotation.is_closed() {
            break;
        }
        // A lost wake-up costs no more than this.
        let check = tokio::time::Instant::now() + crate::actor::RECONCILE_EVERY;
        let _ = tokio::time::timeout_at(deadline.min(check), settled).await;
        if tokio::time::Instant::now() >= deadline {
            break;
        }
    }
    Ok(rotation.report(inner.context.clock.now()))
}
