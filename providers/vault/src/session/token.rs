//! The token that is used now.

use std::time::Instant;

use claviger::{Expiry, Moment};
use secrecy::{ExposeSecret, SecretString};

use crate::api::Grant;
use crate::lifetime::{Care, Life, Source};

/// A token, and how long it is good for. Without `Debug`.
pub(crate) struct Token {
    secret: SecretString,
    /// Which one it is: counted from 1, the same after a renewal.
    serial: u64,
    life: Life,
    batch: bool,
    source: Source,
    care: Option<(Instant, Care)>,
}

impl Token {
    pub(super) fn new(secret: SecretString, serial: u64, asked: Moment, grant: Grant, source: Source) -> Self {
        let life = Life::new(asked, grant.life);
        let care = life.care(grant.renewable, source, fastrand::f64());
        Self { secret, serial, life, batch: grant.batch, source, care }
    }

    /// The same after a renewal, or after a look.
    pub(super) fn renewed(&self, asked: Moment, grant: Grant) -> Self {
        let life = self.life.renewed(asked, grant.life);
        let care = life.care(grant.renewable, self.source, fastrand::f64());
        Self { secret: self.secret.clone(), life, care, ..*self }
    }

    pub(crate) fn expose(&self) -> &str {
        self.secret.expose_secret()
    }

    pub(crate) fn serial(&self) -> u64 {
        self.serial
    }

    pub(crate) fn expiry(&self) -> Expiry {
        self.life.expiry()
    }

    pub(super) fn is_alive(&self, now: Moment) -> bool {
        !self.expiry().is_expired(now)
    }

    /// Half of its life has passed, and something can be done about that.
    pub(crate) fn is_stale(&self, now: Moment) -> bool {
        self.care.is_some() && self.life.is_stale(now)
    }

    pub(super) fn care(&self) -> Option<(Instant, Care)> {
        self.care
    }

    pub(crate) fn is_batch(&self) -> bool {
        self.batch
    }

    /// The session's own, by a log-in.
    pub(super) fn is_own(&self) -> bool {
        self.source == Source::LogIn
    }

    /// Whether it can and should be revoked. A batch token cannot.
    pub(super) fn is_to_be_revoked(&self, now: Moment) -> bool {
        self.is_own() && !self.batch && self.is_alive(now)
    }
}
