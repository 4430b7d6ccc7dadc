//! Start of the next attempt that may give a waiting caller a connection.

use std::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
        match (self, other) {
            (Self::Running, _) | (_, Self::Running) => Self::Running,
            (Self::Due(a), Self::Due(b)) => Self::Due(a.min(b)),
            (Self::Never, other) | (other, Self::Never) => other,
        }
    }

    /// Returns whether it begins before `deadline`.
    pub(crate) fn is_before(self, deadline: Instant) -> bool {
        match self {
            Self::Running => true,
            Self::Due(at) => at < deadline,
            Self::Never => false,
        }
    }
}
