//! Reference to a registered provider.

use std::fmt;
use std::sync::Arc;

use crate::id::Id;
use crate::provider::ProviderSlot;

/// A registered provider, for the registration of its pools. Clones are the same provider.
pub struct ProviderRef<S: Send + Sync + 'static> {
    pub(super) slot: Arc<ProviderSlot<S>>,
    pub(super) supervisor: Id,
}

impl<S: Send + Sync + 'static> ProviderRef<S> {
    /// Returns the name under which it was registered.
    pub fn name(&self) -> &str {
        self.slot.name()
    }
}

impl<S: Send + Sync + 'static> Clone for ProviderRef<S> {
    fn clone(&self) -> Self {
        Self {
            slot: Arc::clone(&self.slot),
            supervisor: self.supervisor,
        }
    }
}

impl<S: Send + Sync + 'static> fmt::Debug for ProviderRef<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ProviderRef")
            .field(&self.slot.name())
            .finish()
    }
}
