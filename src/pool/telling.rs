//! What the log is told of verifications.

use super::decide::Attempt;
use super::generation::Phase;
use super::{PoolFactory, PoolSlot};
use crate::clock::Timestamp;
use crate::error::{ConnectError, ConnectErrorKind};

impl<F: PoolFactory> PoolSlot<F> {
    /// Backends often have a password before the database does: that a first login with the next
    /// one is rejected while another serves is no trouble.
    pub(super) fn say_not_verified(&self, attempt: &Attempt, error: &ConnectError, now: Timestamp) {
        let is_early = error.kind() == ConnectErrorKind::Rejected
            && !attempt.check_only
            && self.shared().current().end.phase() == Phase::Serving;
        if is_early && self.trouble.is_expected() {
            tracing::info!(pool = %self.name(), provider = %self.upstream().name(), revision = %attempt.revision, error = %error, "the database does not take the next lease yet; it is tried again");
        } else if let Some(times) = self.trouble.met(now.mono(), error.kind().as_str()) {
            tracing::warn!(pool = %self.name(), provider = %self.upstream().name(), revision = %attempt.revision, times, error = %error, "a lease could not be verified");
        }
    }

    /// A login worked.
    pub(super) fn recovered(&self) {
        if let Some(times) = self.trouble.over() {
            tracing::info!(pool = %self.name(), provider = %self.upstream().name(), times, "the database lets us in again");
        }
    }
}
