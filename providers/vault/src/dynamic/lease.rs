//! A lease as the server issued it.

use std::time::Duration;

use claviger::lease::{Expiry, Timestamp};

use crate::lifetime::Lifetime;
use crate::session::Token;

/// A lease as the server issued or renewed it.
#[derive(Clone, Copy, Debug)]
pub(super) struct IssuedLease {
    /// Serial of the token that it was issued to.
    pub(super) serial: u64,
    pub(super) lifetime: Lifetime,
    pub(super) renewable: bool,
    /// Time of its last known expiry, at which a failed revocation is tried again.
    pub(super) revoke_after: Option<Expiry>,
}

impl IssuedLease {
    /// Returns the earlier of its own expiry and that of its token.
    pub(super) fn expiry(&self, token: &Token) -> Expiry {
        self.lifetime.expiry().earliest(token.expiry())
    }

    /// Returns whether it expires with its token rather than by itself. The server limits the lease
    /// of a batch token, and rounds both expiries to whole seconds.
    pub(super) fn is_bound_by(&self, token: &Token, now: Timestamp) -> bool {
        let rounding = if token.is_batch() {
            Duration::from_secs(2)
        } else {
            Duration::ZERO
        };
        match (
            self.lifetime.expiry().remaining(now),
            token.expiry().remaining(now),
        ) {
            (Some(lease), Some(token)) => lease.saturating_add(rounding) >= token,
            (lease, token) => lease.is_none() && token.is_some(),
        }
    }
}
