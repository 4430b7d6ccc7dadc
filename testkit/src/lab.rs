//! A supervisor whose clock is moved and whose actors crash on demand.

use claviger::{Error, Supervisor, SupervisorBuilder};

use crate::{Failpoints, MovedClock};

/// A supervisor on a moved clock.
#[derive(Debug)]
pub struct Lab {
    /// The supervisor.
    pub supervisor: Supervisor,
    /// Its wall clock: follows tokio's (also paused) time, and jumps when told to.
    pub clock: MovedClock,
    /// Where its actors crash.
    pub traps: Failpoints,
}

impl Lab {
    /// With the default durations.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[expect(clippy::expect_used, reason = "the default durations are right")]
    pub fn new() -> Self {
        Self::with(Supervisor::builder()).expect("the default durations are right")
    }

    /// With other durations.
    ///
    /// # Errors
    /// When one cannot be right.
    pub fn with(builder: SupervisorBuilder) -> Result<Self, Error> {
        let (clock, traps) = (MovedClock::default(), Failpoints::default());
        let supervisor = builder.testing(clock.clone(), traps.clone()).start()?;
        Ok(Self {
            supervisor,
            clock,
            traps,
        })
    }
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}
