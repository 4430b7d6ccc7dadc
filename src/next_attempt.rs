//! When something that may help is tried next: what a caller without a connection goes by.

use std::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextAttempt {
    /// It runs now, or starts at any moment.
    Running,
    /// It starts then.
    Due(Instant),
    /// Nothing is planned.
    Never,
}

impl NextAttempt {
    /// The sooner of two.
    pub(crate) fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Running, _) | (_, Self::Running) => Self::Running,
            (Self::Due(a), Self::Due(b)) => Self::Due(a.min(b)),
            (Self::Never, outlook) | (outlook, Self::Never) => outlook,
        }
    }

    /// Whether it comes before `deadline`.
    pub(crate) fn is_before(self, deadline: Instant) -> bool {
        match self {
            Self::Running => true,
            Self::Due(at) => at < deadline,
            Self::Never => false,
        }
    }
}
