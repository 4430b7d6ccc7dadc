//! Candidates below `AWSCURRENT`, in the order in which they are tried.

use claviger::Revision;

/// A staging label of a secret's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StagingLabel {
    /// The version that clients use.
    Current,
    /// The version that a running rotation has created, and may have set in the database.
    Pending,
    /// The version that was current before.
    Previous,
}

impl StagingLabel {
    /// Returns the label as in Secrets Manager.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Current => "AWSCURRENT",
            Self::Pending => "AWSPENDING",
            Self::Previous => "AWSPREVIOUS",
        }
    }
}

/// Version that is used because the database rejected `AWSCURRENT`.
///
/// It is used until it is rejected or `AWSCURRENT` is another version. A rotation that stops
/// half-way may leave `AWSCURRENT` wrong for days, and each retry would cost a failed login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fallback {
    /// Rejected version at `AWSCURRENT`.
    pub(crate) rejected: Revision,
    /// Version that is used instead.
    pub(crate) used: Revision,
}

impl Fallback {
    /// Returns whether `active`, which is not rejected, is preferred to `current` at `AWSCURRENT`.
    pub(crate) fn is_preferred(&self, active: &Revision, current: &Revision) -> bool {
        self.used == *active && self.rejected == *current
    }
}
