//! Why a rotation began.

use std::fmt;

/// Why a rotation began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RotationTrigger {
    /// The provider was registered.
    Start,
    /// The lease's time to be refreshed came.
    Schedule,
    /// The database rejected the credential.
    Rejected,
    /// The source signalled a change.
    Changed,
    /// Somebody called `rotate_now`: a new credential is wanted, never a renewal.
    Manual,
    /// The clock jumped: the machine slept, or time was set.
    Woke,
}

impl RotationTrigger {
    /// The word for telemetry.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Schedule => "schedule",
            Self::Rejected => "rejected",
            Self::Changed => "changed",
            Self::Manual => "manual",
            Self::Woke => "woke",
        }
    }
}

impl fmt::Display for RotationTrigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
