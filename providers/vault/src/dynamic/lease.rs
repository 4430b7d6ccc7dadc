//! A lease as the server issued it.

use std::time::Duration;

use claviger::{Expiry, Timestamp};

use crate::lifetime::Lifetime;
use crate::session::Token;

/// What the server said of a lease.
#[derive(Clone, Copy, Debug)]
pub(super) struct IssuedLease {
    /// The token's that it was issued by.
    pub(super) serial: u64,
    pub(super) lifetime: Lifetime,
    pub(super) renewable: bool,
    /// It could not be given back, and was taken to die then.
    pub(super) revoke_after: Option<Expiry>,
}

impl IssuedLease {
    /// With its token.
    pub(super) fn expiry(&self, token: &Token) -> Expiry {
        self.lifetime.expiry().earliest(token.expiry())
    }

    /// Whether it dies with its token rather than by itself. The server cuts the lease of a batch
    /// token, in whole seconds, of a token whose life it counts in whole seconds.
    pub(super) fn is_bound_by(&self, token: &Token, now: Timestamp) -> bool {
        let cut = if token.is_batch() {
            Duration::from_secs(2)
        } else {
            Duration::ZERO
        };
        match (
            self.lifetime.expiry().remaining(now),
            token.expiry().remaining(now),
        ) {
            (Some(lease), Some(token)) => lease.saturating_add(cut) >= token,
            (lease, token) => lease.is_none() && token.is_some(),
        }
    }
}
