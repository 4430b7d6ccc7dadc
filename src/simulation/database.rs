//! Simulated database servers, one for each provider, and the secrets that they accept.

use std::sync::Arc;

use super::clock::{ClockFaults, MS, SEC};
use crate::error::ConnectErrorKind;
use crate::lease::Revision;

/// Number of a secret, and the text of its revision.
pub(super) type SecretId = usize;

/// Secret of a connection that the server ended.
pub(super) const ENDED: SecretId = usize::MAX;

pub(super) fn revision(secret: SecretId) -> Revision {
    Revision::new(secret.to_string())
}

pub(super) fn secret_of(revision: &Revision) -> SecretId {
    revision.as_str().parse().unwrap_or(usize::MAX)
}

/// State of a secret. Times are in true time.
#[derive(Debug)]
pub(super) struct Secret {
    pub(super) provider: usize,
    pub(super) account: Arc<str>,
    /// Periods in which the server accepts it.
    accepted: Vec<(u64, u64)>,
    /// When the role is dropped and its connections end.
    pub(super) role_ends: u64,
    /// When it expires at the backend.
    pub(super) expires: u64,
    pub(super) delivered: bool,
    /// When it was first delivered.
    pub(super) clock_faults: Option<ClockFaults>,
    pub(super) releases: u32,
    pub(super) failed_releases: u32,
    pub(super) release_given_up: bool,
    /// The last failed login or probe.
    pub(super) last_rejected: Option<u64>,
    /// The last successful login.
    pub(super) last_worked: Option<u64>,
    pub(super) first_worked: Option<u64>,
}

/// Faults of one server, each with the time until which it lasts.
#[derive(Debug, Default)]
pub(super) struct Server {
    pub(super) down: u64,
    pub(super) hangs: u64,
    pub(super) slow: u64,
    pub(super) full: u64,
    pub(super) misconfigured: u64,
    /// One of two nodes lags behind by `lag`.
    pub(super) lags: u64,
    pub(super) lag: u64,
}

#[derive(Debug, Default)]
pub(super) struct Database {
    pub(super) servers: Vec<Server>,
    pub(super) secrets: Vec<Secret>,
}

impl Database {
    /// Adds a secret that is accepted in this period.
    pub(super) fn add(
        &mut self,
        provider: usize,
        account: Arc<str>,
        accepted: Option<(u64, u64)>,
        expires: u64,
        role_ends: u64,
    ) -> SecretId {
        self.secrets.push(Secret {
            provider,
            account,
            accepted: accepted.into_iter().collect(),
            role_ends,
            expires,
            delivered: false,
            clock_faults: None,
            releases: 0,
            failed_releases: 0,
            release_given_up: false,
            last_rejected: None,
            last_worked: None,
            first_worked: None,
        });
        self.secrets.len() - 1
    }

    pub(super) fn accept(&mut self, secret: SecretId, from: u64) {
        if !self.accepts(secret, from) {
            self.secrets[secret].accepted.push((from, u64::MAX));
        }
    }

    pub(super) fn stop_accepting(&mut self, secret: SecretId, at: u64) {
        if let Some((_, until)) = self.secrets[secret].accepted.last_mut() {
            *until = (*until).min(at);
        }
    }

    pub(super) fn drop_role(&mut self, secret: SecretId, at: u64) {
        let role = &mut self.secrets[secret];
        role.role_ends = role.role_ends.min(at);
    }

    pub(super) fn accepts(&self, secret: SecretId, true_time: u64) -> bool {
        self.secrets.get(secret).is_some_and(|known| {
            true_time < known.role_ends
                && known
                    .accepted
                    .iter()
                    .rev()
                    .any(|(from, until)| (*from..*until).contains(&true_time))
        })
    }

    /// Returns since when the secret has been accepted without interruption.
    pub(super) fn accepted_since(&self, secret: SecretId, true_time: u64) -> Option<u64> {
        let known = self.secrets.get(secret)?;
        let span = known.accepted.iter().rev();
        let mut span = span.filter(|(from, until)| (*from..*until).contains(&true_time));
        span.next()
            .filter(|_| true_time < known.role_ends)
            .map(|(from, _)| *from)
    }

    /// Draws how long a login takes, and whether the server hangs.
    pub(super) fn latency(
        &self,
        server: usize,
        true_time: u64,
        rng: &mut fastrand::Rng,
    ) -> (u64, bool) {
        let server = &self.servers[server];
        if true_time < server.hangs {
            (server.hangs - true_time + 20 * MS, true)
        } else if true_time < server.slow {
            (rng.u64(300 * MS..9 * SEC), false)
        } else {
            (rng.u64(3 * MS..40 * MS), false)
        }
    }

    /// Returns the result of a login that ends now.
    pub(super) fn login(
        &mut self,
        secret: SecretId,
        true_time: u64,
        rng: &mut fastrand::Rng,
    ) -> Result<(), ConnectErrorKind> {
        let Some(known) = self.secrets.get(secret) else {
            return Err(ConnectErrorKind::Rejected);
        };
        let server = &self.servers[known.provider];
        if true_time < server.down {
            return Err(ConnectErrorKind::Unreachable);
        }
        let is_behind = true_time < server.lags && rng.bool();
        let seen = true_time.saturating_sub(if is_behind { server.lag } else { 0 });
        if !self.accepts(secret, seen) || !self.accepts(secret, true_time) && !is_behind {
            self.secrets[secret].last_rejected = Some(true_time);
            return Err(ConnectErrorKind::Rejected);
        }
        if true_time < server.full {
            return Err(ConnectErrorKind::Overloaded);
        }
        if true_time < server.misconfigured {
            return Err(ConnectErrorKind::Misconfigured);
        }
        let known = &mut self.secrets[secret];
        known.last_worked = Some(true_time);
        known.first_worked.get_or_insert(true_time);
        Ok(())
    }

    /// Returns since when a server has had no fault, or `None` while it has one.
    pub(super) fn healthy_since(&self, server: usize, true_time: u64) -> Option<u64> {
        let server = &self.servers[server];
        let last = [
            server.down,
            server.hangs,
            server.slow,
            server.full,
            server.misconfigured,
            server.lags + server.lag,
        ];
        last.into_iter().max().filter(|last| *last <= true_time)
    }
}
