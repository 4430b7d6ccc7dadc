//! The token that is used now.

use std::time::Instant;

use claviger::{Expiry, Moment};
use secrecy::{ExposeSecret, SecretString};

use crate::api::Grant;
use crate::lifetime::{Care, Life};

/// A token, and how long it is good for. Without `Debug`.
pub(crate) struct Token {
    secret: SecretString,
    /// Which one it is: counted from 1, the same after a renewal.
    serial: u64,
    life: Life,
    batch: bool,
    /// The session's own, by a log-in: it is to be revoked.
    own: bool,
    care: Option<(Instant, Care)>,
}

impl Token {
    /// `own` tokens can be replaced; somebody else's are looked at again where `watched`.
    pub(super) fn new(secret: SecretString, serial: u64, asked: Moment, grant: Grant, own: bool, watched: bool) -> Self {
        let life = Life::new(asked, grant.life);
        let care = life.care(grant.renewable, own || watched, fastrand::f64());
        Self { secret, serial, life, batch: grant.batch, own, care }
    }

    /// The same after a renewal.
    pub(super) fn renewed(&self, asked: Moment, grant: Grant, watched: bool) -> Self {
        let life = self.life.renewed(asked, grant.life);
        let care = life.care(grant.renewable, self.own || watched, fastrand::f64());
        Self { secret: self.secret.clone(), serial: self.serial, life, batch: self.batch, own: self.own, care }
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
    pub(super) fn is_stale(&self, now: Moment) -> bool {
        self.care.is_some() && self.life.is_stale(now)
    }

    pub(super) fn care(&self) -> Option<(Instant, Care)> {
        self.care
    }

    pub(super) fn is_own(&self) -> bool {
        self.own
    }

    /// Whether it can and should be revoked. A batch token cannot.
    pub(super) fn is_to_be_revoked(&self, now: Moment) -> bool {
        self.own && !self.batch && self.is_alive(now)
    }
}
