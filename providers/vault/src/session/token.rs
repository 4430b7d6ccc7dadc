//! The token that is used now.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use claviger::{Expiry, Timestamp};
use secrecy::{ExposeSecret, SecretString};

use crate::api::Grant;
use crate::lifetime::{Lifetime, TokenOrigin, TokenTask};

/// Age up to which a 403 may come from a standby that has not received the token yet.
const NEW_FOR: Duration = Duration::from_secs(5);

/// A token, and how long it is good for. Without `Debug`.
pub(crate) struct Token {
    secret: SecretString,
    /// Which one it is: counted from 1, the same after a renewal.
    serial: u64,
    /// When it was obtained. A renewal does not change it.
    obtained: Instant,
    lifetime: Lifetime,
    batch: bool,
    source: TokenOrigin,
    task: Option<(Instant, TokenTask)>,
}

impl Token {
    pub(super) fn new(
        secret: SecretString,
        serial: u64,
        sent: Timestamp,
        grant: Grant,
        source: TokenOrigin,
    ) -> Self {
        let lifetime = Lifetime::new(sent, grant.lifetime);
        let task = lifetime.next_task(grant.renewable, source, fastrand::f64());
        Self {
            secret,
            serial,
            obtained: Timestamp::now().mono(),
            lifetime,
            batch: grant.batch,
            source,
            task,
        }
    }

    /// The same after a renewal, or after a look.
    pub(super) fn renewed(&self, sent: Timestamp, grant: Grant) -> Self {
        let lifetime = self.lifetime.renewed(sent, grant.lifetime);
        let task = lifetime.next_task(grant.renewable, self.source, fastrand::f64());
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

    /// Returns whether a 403 at this time does not yet mean that the token is dead.
    pub(super) fn is_new(&self, now: Timestamp) -> bool {
        now.mono().saturating_duration_since(self.obtained) < NEW_FOR
    }

    pub(super) fn is_valid(&self, now: Timestamp) -> bool {
        !self.expiry().is_expired(now)
    }

    /// Half of its life has passed, and something can be done about that.
    pub(crate) fn is_stale(&self, now: Timestamp) -> bool {
        self.task.is_some() && self.lifetime.is_stale(now)
    }

    pub(super) fn next_task(&self) -> Option<(Instant, TokenTask)> {
        self.task
    }

    pub(crate) fn is_batch(&self) -> bool {
        self.batch
    }

    /// The session's own, by a login.
    pub(super) fn is_own(&self) -> bool {
        self.source == TokenOrigin::Login
    }

    /// Whether it can and should be revoked. A batch token cannot.
    pub(super) fn needs_revocation(&self, now: Timestamp) -> bool {
        self.is_own() && !self.batch && self.is_valid(now)
    }
}

/// Most tokens that [`DeadTokens`] remembers.
const MAX_INVALID: usize = 256;

/// Serials of the latest tokens whose leases have ended with them. The release of a lease whose
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
    fn the_latest_256_dead_tokens_are_remembered() {
        let mut dead = InvalidTokens::default();
        (1..=1_000).for_each(|serial| dead.insert(serial));
        assert_eq!(dead.0.len(), 256);
        assert!(dead.contains(1_000) && dead.contains(745) && !dead.contains(744));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_new_for_five_seconds_whatever_is_renewed() {
        let grant = || Grant {
            lifetime: Some(Duration::from_secs(60)),
            renewable: true,
            batch: false,
        };
        let token = Token::new(
            SecretString::from("t"),
            1,
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
