//! A token of a session.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use claviger::lease::{Expiry, Timestamp};
use secrecy::{ExposeSecret, SecretString};

use crate::api::Grant;
use crate::lifetime::{Lifetime, TokenOrigin, TokenTask};

/// Age up to which a 403 may come from a standby that has not received the token yet.
const NEW_TOKEN_MAX_AGE: Duration = Duration::from_secs(5);

/// A token with its lifetime. Without `Debug`, because it is a secret.
pub(crate) struct Token {
    secret: SecretString,
    /// Identifies the token: counted from 1, unchanged by a renewal.
    serial: u64,
    /// Time at which it was obtained. A renewal does not change it.
    obtained: Instant,
    lifetime: Lifetime,
    batch: bool,
    origin: TokenOrigin,
    task: Option<(Instant, TokenTask)>,
}

impl Token {
    pub(super) fn new(
        secret: SecretString,
        serial: u64,
        sent: Timestamp,
        obtained: Timestamp,
        grant: Grant,
        origin: TokenOrigin,
    ) -> Self {
        let lifetime = Lifetime::new(sent, grant.lifetime);
        let task = lifetime.next_task(grant.renewable, origin, fastrand::f64());
        Self {
            secret,
            serial,
            obtained: obtained.mono(),
            lifetime,
            batch: grant.batch,
            origin,
            task,
        }
    }

    /// Returns the token after a renewal or lookup.
    pub(super) fn renewed(&self, sent: Timestamp, grant: Grant) -> Self {
        let lifetime = self.lifetime.renewed(sent, grant.lifetime);
        let task = lifetime.next_task(grant.renewable, self.origin, fastrand::f64());
        Self {
            secret: self.secret.clone(),
            lifetime,
            task,
            ..*self
        }
    }

    pub(crate) fn expose(&self) -> &str {
        self.secret.expose_secret()
    }

    pub(crate) fn serial(&self) -> u64 {
        self.serial
    }

    pub(crate) fn expiry(&self) -> Expiry {
        self.lifetime.expiry()
    }

    /// Returns whether a 403 may come from a standby that has not received the token yet.
    pub(super) fn is_new(&self, now: Timestamp) -> bool {
        now.mono().saturating_duration_since(self.obtained) < NEW_TOKEN_MAX_AGE
    }

    pub(super) fn is_valid(&self, now: Timestamp) -> bool {
        !self.expiry().is_expired(now)
    }

    /// Returns whether half of its lifetime has passed and it can be renewed or replaced.
    pub(crate) fn is_stale(&self, now: Timestamp) -> bool {
        self.task.is_some() && self.lifetime.is_stale(now)
    }

    pub(super) fn next_task(&self) -> Option<(Instant, TokenTask)> {
        self.task
    }

    pub(crate) fn is_batch(&self) -> bool {
        self.batch
    }

    /// Returns whether it is the session's own, from a login.
    pub(super) fn is_own(&self) -> bool {
        self.origin == TokenOrigin::Login
    }

    /// Returns whether it is revoked when the session ends. A batch token cannot be revoked.
    pub(super) fn needs_revocation(&self, now: Timestamp) -> bool {
        self.is_own() && !self.batch && self.is_valid(now)
    }
}

/// Most tokens that [`InvalidTokens`] remembers.
const MAX_INVALID: usize = 256;

/// Serials of the latest tokens whose leases were revoked with them. The release of a lease whose
/// token was forgotten costs one request.
#[derive(Default)]
pub(super) struct InvalidTokens(BTreeSet<u64>);

impl InvalidTokens {
    pub(super) fn insert(&mut self, serial: u64) {
        self.0.insert(serial);
        if self.0.len() > MAX_INVALID {
            self.0.pop_first();
        }
    }

    pub(super) fn contains(&self, serial: u64) -> bool {
        self.0.contains(&serial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_256_invalid_tokens_are_remembered() {
        let mut invalid = InvalidTokens::default();
        (1..=1_000).for_each(|serial| invalid.insert(serial));
        assert_eq!(invalid.0.len(), 256);
        assert!(invalid.contains(1_000) && invalid.contains(745) && !invalid.contains(744));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_new_for_five_seconds_despite_renewals() {
        let grant = || Grant {
            lifetime: Some(Duration::from_secs(60)),
            renewable: true,
            batch: false,
        };
        let token = Token::new(
            SecretString::from("t"),
            1,
            Timestamp::now(),
            Timestamp::now(),
            grant(),
            TokenOrigin::Login,
        );
        tokio::time::advance(Duration::from_millis(4_999)).await;
        let renewed = token.renewed(Timestamp::now(), grant());
        assert!(token.is_new(Timestamp::now()) && renewed.is_new(Timestamp::now()));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!token.is_new(Timestamp::now()) && !renewed.is_new(Timestamp::now()));
    }
}
