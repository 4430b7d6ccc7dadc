//! Start of the next attempt that may give a waiting caller a connection.

use std::time::Instant;

/// Start of an attempt. Ordered by time: the sooner one is the lesser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum NextAttempt {
    /// It runs now, or is about to start.
    Running,
    /// It starts at that time.
    Due(Instant),
    /// Nothing is planned.
    Never,
}

impl NextAttempt {
    /// Returns the sooner of two.
    pub(crate) fn or(self, other: Self) -> Self {
        self.min(other)
    }

    /// Returns whether it begins before `deadline`.
    pub(crate) fn is_before(self, deadline: Instant) -> bool {
        self < Self::Due(deadline)
    }
}
