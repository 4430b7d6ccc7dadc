//! Keeps the lease of a running command.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use claviger::error::ProviderError;
use claviger::provider::{FetchRequest, Fetched, Hints};
use claviger::{Credentials, Lease, Provider};
use claviger_config::AnyProvider;

/// A provider whose first lease is not released before [`end`](Self::end). Clones share it.
///
/// When the first lease cannot be renewed any more, the supervisor fetches another. The command
/// still uses the first one.
#[derive(Clone, Debug)]
pub(super) struct Keeper {
    provider: AnyProvider,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    first: Option<Lease<Credentials>>,
    /// The first lease, when the supervisor has released it.
    postponed: Option<Lease<Credentials>>,
    has_ended: bool,
}

impl Keeper {
    pub(super) fn new(provider: AnyProvider) -> Self {
        Self {
            provider,
            state: Arc::default(),
        }
    }

    /// Returns the credentials of the first lease.
    pub(super) fn credentials(&self) -> Option<Credentials> {
        let state = self.lock();
        state.first.as_ref().map(|lease| lease.secret().clone())
    }

    /// Releases the first lease if its release was postponed. Later releases are not postponed.
    pub(super) async fn end(&self) {
        let postponed = {
            let mut state = self.lock();
            state.has_ended = true;
            state.postponed.take()
        };
        if let Some(lease) = postponed {
            // A lease that cannot be released expires.
            let _ = self.provider.release(lease).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Provider for Keeper {
    type Secret = Credentials;

    async fn fetch(
        &self,
        request: FetchRequest<Credentials>,
    ) -> Result<Fetched<Credentials>, ProviderError> {
        let fetched = self.provider.fetch(request).await?;
        if let Fetched::New(lease) = &fetched {
            self.lock().first.get_or_insert_with(|| lease.clone());
        }
        Ok(fetched)
    }

    async fn release(&self, lease: Lease<Credentials>) -> Result<(), ProviderError> {
        {
            let mut state = self.lock();
            let first = state.first.as_ref().map(Lease::revision);
            if first == Some(lease.revision()) && !state.has_ended {
                state.postponed = Some(lease);
                return Ok(());
            }
        }
        self.provider.release(lease).await
    }

    async fn watch(&self, hints: Hints) {
        self.provider.watch(hints).await;
    }

    async fn close(&self) {
        self.provider.close().await;
    }
}
