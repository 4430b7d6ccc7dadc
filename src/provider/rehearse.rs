//! Rehearses a rotation: fetches, lets pools verify, and returns the lease.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::machine::ProviderInput;
use super::slot::{LeaseGuard, ProviderSlot};
use crate::error::ProviderError;
use crate::report::{PoolRehearsal, RehearsalReport};

/// Receives the lease to verify. Dropped without a reply if the provider ends first.
pub(super) type RehearsalReply<S> = oneshot::Sender<Result<LeaseGuard<S>, ProviderError>>;

impl<S: Send + Sync + 'static> ProviderSlot<S> {
    /// Returns `None` if the provider ends first. `pool` names the one pool that verifies.
    pub(crate) async fn rehearse(
        self: Arc<Self>,
        pool: Option<Arc<str>>,
    ) -> Option<Result<RehearsalReport, ProviderError>> {
        let began = self.clock().mono();
        let (reply, outcome) = oneshot::channel();
        let request = self.lock().add_rehearsal(reply);
        self.feed(ProviderInput::Rehearse(request));
        // In use until the last pool has ended its verification, also if the caller is gone.
        let settings = &self.context().settings;
        let within = settings.fetch_deadline + settings.start_deadline;
        let lease_guard = match timeout(within, outcome).await {
            Ok(Ok(Ok(lease_guard))) => Arc::new(lease_guard),
            Ok(Ok(Err(error))) => return Some(Err(error)),
            Ok(Err(_)) => return None,
            Err(_) => return Some(Err(ProviderError::has_not_returned())),
        };
        let fetch = self.clock().mono().saturating_duration_since(began);
        let began = self.clock().mono();
        let pools = self.remaining_pools().into_iter();
        let verifications: Vec<_> = pools
            .filter(|one| pool.as_ref().is_none_or(|pool| pool == one.name()))
            .map(|one| {
                let (name, lease_guard) = (Arc::clone(one.name()), Arc::clone(&lease_guard));
                let verification = async move { one.rehearse(&lease_guard.lease).await };
                (name, tokio::spawn(verification))
            })
            .collect();
        let mut pools = Vec::new();
        for (name, verification) in verifications {
            pools.push(verification.await.unwrap_or_else(|_| {
                let took = self.clock().mono().saturating_duration_since(began);
                PoolRehearsal::panicked(name, took)
            }));
        }
        let lease = &lease_guard.lease;
        let current = self.current_lease();
        Some(Ok(RehearsalReport {
            provider: Arc::clone(self.name()),
            revision: lease.revision().digest(),
            is_current: current.is_some_and(|one| one.revision() == lease.revision()),
            expires: lease.expiry().wall(),
            fetch,
            pools,
        }))
    }
}
