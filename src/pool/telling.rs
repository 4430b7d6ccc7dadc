//! What the log is told of proofs.

use super::decide::Attempt;
use super::generation::Phase;
use super::{PoolFactory, PoolSlot};
use crate::clock::Timestamp;
use crate::error::{ConnectError, ConnectErrorKind};

impl<F: PoolFactory> PoolSlot<F> {
    /// Issuers often have a password before the database does: that a first log-in with the next one is refused while another serves is no trouble.
    pub(super) fn say_not_proved(&self, attempt: &Attempt, fault: &ConnectError, now: Timestamp) {
        let is_early =
            fault.kind() == ConnectErrorKind::Rejected && !attempt.check_only && self.shared().current().end.phase() == Phase::Serving;
        if is_early && self.trouble.is_expected() {
            tracing::info!(pool = %self.name(), provider = %self.upstream().name(), revision = %attempt.revision, error = %fault, "the database does not take the next lease yet; it is tried again");
        } else if let Some(times) = self.trouble.met(now.mono(), fault.kind().as_str()) {
            tracing::warn!(pool = %self.name(), provider = %self.upstream().name(), revision = %attempt.revision, times, error = %fault, "a lease could not be proved");
        }
    }

    /// A log-in worked.
    pub(super) fn recovered(&self) {
        if let Some(times) = self.trouble.over() {
            tracing::info!(pool = %self.name(), provider = %self.upstream().name(), times, "the database lets us in again");
        }
    }
}
