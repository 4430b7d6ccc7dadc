//! Hints: reports of a provider that its backend may have a new credential.

use std::fmt;
use std::sync::Arc;

use crate::clock::Clock;

/// Reports from a provider's background work that the backend may have a new credential.
#[derive(Clone)]
pub struct Hints {
    changed: Arc<dyn Fn() + Send + Sync>,
    clock: Clock,
}

impl Hints {
    /// Creates hints that call this function, for a provider's own tests.
    pub fn new(changed: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            changed: Arc::new(changed),
            clock: Clock::default(),
        }
    }

    /// Returns the hints with this clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Returns the supervisor's clock.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Reports that the backend has changed. Cheap: all calls within a second cause one fetch.
    pub fn changed(&self) {
        (self.changed)();
    }
}

impl fmt::Debug for Hints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hints")
    }
}
