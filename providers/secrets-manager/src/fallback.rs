//! The candidates, in the order in which they are tried.

use claviger::Revision;

/// A staging label of a secret's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StagingLabel {
    /// What everybody is to use.
    Current,
    /// What a rotation under way has made, and maybe given to the database already.
    Pending,
    /// What was current before.
    Previous,
}

impl StagingLabel {
    /// The label, as Secrets Manager writes it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Current => "AWSCURRENT",
            Self::Pending => "AWSPENDING",
            Self::Previous => "AWSPREVIOUS",
        }
    }
}

/// What was taken from further down because the database rejected `AWSCURRENT`.
///
/// It is held until it is rejected itself or `AWSCURRENT` is another version: a rotation that stops
/// half-way may leave `AWSCURRENT` wrong for days, and each look would cost a failed login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fallback {
    /// The version at `AWSCURRENT`, rejected.
    pub(crate) rejected: Revision,
    /// What was taken.
    pub(crate) taken: Revision,
}

impl Fallback {
    /// Whether `held`, which is not rejected, is still the better choice with `current` at
    /// `AWSCURRENT`.
    pub(crate) fn is_preferred(&self, held: &Revision, current: &Revision) -> bool {
        self.taken == *held && self.rejected == *current
    }
}
