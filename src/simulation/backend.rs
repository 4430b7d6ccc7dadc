//! Simulated backends, one for each provider, and their responses.

use std::sync::Arc;
use std::time::Duration;

use super::clock::{DAY, HOUR, MIN, MS, SEC};
use super::database::{Database, SecretId, secret_of};
use crate::error::{ProviderError, ProviderErrorKind};
use crate::lease::{OldConnections, Revision};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A 15-minute token at each fetch. Connections stay.
    Token,
    /// A password with rotation windows and rollbacks. Connections drain.
    Rotating,
    /// A role at each fetch, dropped at its expiry or release. Connections end with it.
    Dynamic,
    /// A file that sometimes changes, and may contain a wrong secret.
    Static,
}

impl Kind {
    /// Returns the treatment of connections that were opened with this secret. Every second token
    /// has connections that authenticate again.
    pub(super) fn old_connections(self, secret: SecretId) -> OldConnections {
        match self {
            Self::Token if secret.is_multiple_of(2) => OldConnections::Reauthenticate,
            Self::Token => OldConnections::Keep,
            Self::Rotating | Self::Static => OldConnections::Drain,
            Self::Dynamic => OldConnections::EndWithLease,
        }
    }

    /// Returns how long after an authentication the server ends a connection that does not
    /// authenticate again, if that differs from the expiry.
    pub(super) fn connection_lifetime(self) -> Option<Duration> {
        (self == Self::Token).then(|| Duration::from_micros(12 * HOUR))
    }
}

/// A backend and its faults, each with the true time until which it lasts.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) kind: Kind,
    pub(super) account: Arc<str>,
    pub(super) ttl: u64,
    pub(super) current: SecretId,
    pub(super) previous: Option<SecretId>,
    pub(super) pending: Option<SecretId>,
    pub(super) down: u64,
    pub(super) denied: u64,
    pub(super) slow: u64,
    pub(super) hangs: u64,
    /// One node returns the previous credential.
    pub(super) lags: u64,
    /// New credentials are rejected.
    pub(super) wrong_credentials: u64,
    /// New credentials are accepted for about a second.
    pub(super) short_lived: u64,
    /// Leases that it returns have expired.
    pub(super) expired: u64,
    pub(super) releases_fail: u64,
    /// Hints of changes get lost.
    pub(super) hints_lost: bool,
}

/// Response of a backend.
#[derive(Clone, Debug)]
pub(super) enum BackendReply {
    New { secret: SecretId, ttl: Option<u64> },
    Renewed { ttl: u64 },
    Unchanged,
    Failed(ProviderError),
}

fn error(kind: ProviderErrorKind) -> BackendReply {
    BackendReply::Failed(ProviderError::new(kind, "simulated"))
}

impl Backend {
    pub(super) fn new(
        provider: usize,
        kind: Kind,
        db: &mut Database,
        rng: &mut fastrand::Rng,
    ) -> Self {
        let account: Arc<str> = format!("user-{provider}").into();
        let current = db.add(
            provider,
            Arc::clone(&account),
            Some((0, u64::MAX)),
            u64::MAX,
            u64::MAX,
        );
        let ttl = match kind {
            Kind::Token => 15 * MIN,
            _ => rng.u64(20 * MIN..6 * HOUR),
        };
        Self {
            kind,
            account,
            ttl,
            current,
            previous: None,
            pending: None,
            down: 0,
            denied: 0,
            slow: 0,
            hangs: 0,
            lags: 0,
            wrong_credentials: 0,
            short_lived: 0,
            expired: 0,
            releases_fail: 0,
            hints_lost: rng.bool(),
        }
    }

    /// Draws how long a response takes.
    pub(super) fn latency(&self, true_time: u64, rng: &mut fastrand::Rng) -> u64 {
        if true_time < self.hangs {
            rng.u64(31 * SEC..8 * MIN)
        } else if true_time < self.slow {
            rng.u64(SEC..29 * SEC)
        } else {
            rng.u64(5 * MS..300 * MS)
        }
    }

    /// Returns the response to a fetch that ends now. `leased` is the current lease's secret.
    pub(super) fn response(
        &mut self,
        provider: usize,
        leased: Option<SecretId>,
        excluded: &[Revision],
        true_time: u64,
        db: &mut Database,
        rng: &mut fastrand::Rng,
    ) -> BackendReply {
        if true_time < self.down {
            return match rng.u8(..3) {
                0 => BackendReply::Failed(
                    ProviderError::new(ProviderErrorKind::Throttled, "simulated")
                        .with_retry_after(Duration::from_secs(rng.u64(1..20))),
                ),
                _ => error(ProviderErrorKind::Unavailable),
            };
        }
        if true_time < self.denied {
            return error(ProviderErrorKind::Denied);
        }
        let is_excluded = |secret: SecretId| {
            excluded
                .iter()
                .any(|revision| secret_of(revision) == secret)
        };
        match self.kind {
            Kind::Token | Kind::Dynamic => {
                let renews = self.kind == Kind::Dynamic
                    && rng.u8(..3) == 0
                    && true_time >= self.wrong_credentials
                    && leased.is_some_and(|leased| {
                        let role = &db.secrets[leased];
                        !is_excluded(leased) && true_time + self.ttl / 2 < role.expires
                    });
                if let Some(leased) = leased.filter(|_| renews) {
                    return match rng.u8(..3) {
                        0 => BackendReply::Unchanged,
                        1 => BackendReply::Renewed {
                            ttl: db.secrets[leased].expires - true_time - SEC,
                        },
                        _ => BackendReply::New {
                            secret: leased,
                            ttl: Some(db.secrets[leased].expires - true_time - SEC),
                        },
                    };
                }
                let ends = true_time + self.ttl;
                // A replica may have the role up to 3 s later.
                let from = true_time
                    + if rng.u8(..20) == 0 {
                        rng.u64(..3 * SEC)
                    } else {
                        0
                    };
                let accepted_until =
                    (true_time < self.short_lived).then(|| from + rng.u64(500 * MS..1_500 * MS));
                let is_correct = true_time >= self.wrong_credentials;
                let role_ends = if self.kind == Kind::Dynamic {
                    ends
                } else {
                    u64::MAX
                };
                let account = if self.kind == Kind::Dynamic {
                    format!("role-{provider}-{}", db.secrets.len()).into()
                } else {
                    Arc::clone(&self.account)
                };
                let secret = db.add(
                    provider,
                    account,
                    is_correct.then_some((from, accepted_until.unwrap_or(ends))),
                    ends,
                    role_ends,
                );
                // A lease may expire before it is returned.
                let ttl = if true_time < self.expired {
                    0
                } else {
                    self.ttl
                };
                BackendReply::New {
                    secret,
                    ttl: Some(ttl),
                }
            }
            Kind::Rotating | Kind::Static => {
                let mut secret = self.current;
                if true_time < self.lags && rng.bool() {
                    secret = self.previous.unwrap_or(secret);
                }
                if is_excluded(secret) {
                    let other = [Some(self.current), self.pending, self.previous];
                    let other = other
                        .into_iter()
                        .flatten()
                        .find(|secret| !is_excluded(*secret));
                    secret = other.unwrap_or(secret);
                }
                if leased == Some(secret) && rng.u8(..4) == 0 {
                    return BackendReply::Unchanged;
                }
                BackendReply::New { secret, ttl: None }
            }
        }
    }

    /// Returns the response to a renewal of the current lease, whose secret is `leased`.
    pub(super) fn renewal(
        &self,
        leased: Option<SecretId>,
        true_time: u64,
        db: &Database,
    ) -> BackendReply {
        if true_time < self.down {
            return error(ProviderErrorKind::Unavailable);
        }
        let expires = leased.map(|leased| db.secrets[leased].expires);
        match expires.filter(|_| self.kind == Kind::Dynamic) {
            Some(expires) if true_time + 2 * SEC < expires => BackendReply::Renewed {
                ttl: expires - true_time - SEC,
            },
            _ => BackendReply::Unchanged,
        }
    }

    /// Begins a fault. Returns its name and its end.
    pub(super) fn fail(&mut self, true_time: u64, rng: &mut fastrand::Rng) -> (&'static str, u64) {
        let (name, until, field): (_, _, &mut u64) = match rng.u8(..9) {
            0 => (
                "backend down for hours",
                true_time + rng.u64(HOUR..DAY),
                &mut self.down,
            ),
            1 => (
                "backend down",
                true_time + rng.u64(SEC..20 * MIN),
                &mut self.down,
            ),
            2 => (
                "backend denies",
                true_time + rng.u64(MIN..40 * MIN),
                &mut self.denied,
            ),
            3 => (
                "backend slow",
                true_time + rng.u64(MIN..2 * HOUR),
                &mut self.slow,
            ),
            4 => (
                "backend hangs",
                true_time + rng.u64(MIN..30 * MIN),
                &mut self.hangs,
            ),
            5 => (
                "backend lags",
                true_time + rng.u64(MIN..30 * MIN),
                &mut self.lags,
            ),
            6 => (
                "backend returns wrong credentials",
                true_time + rng.u64(MIN..20 * MIN),
                &mut self.wrong_credentials,
            ),
            7 => (
                "backend returns expired leases",
                true_time + rng.u64(MIN..20 * MIN),
                &mut self.expired,
            ),
            _ => (
                "releases fail",
                true_time + rng.u64(MIN..HOUR),
                &mut self.releases_fail,
            ),
        };
        *field = until.max(*field);
        (name, until)
    }

    /// Returns since when the backend has had no fault, or `None` while it has one.
    pub(super) fn healthy_since(&self, true_time: u64) -> Option<u64> {
        let last = [
            self.down,
            self.denied,
            self.slow,
            self.hangs,
            self.lags,
            self.wrong_credentials,
            self.short_lived,
            self.expired,
            self.releases_fail,
        ];
        last.into_iter().max().filter(|last| *last <= true_time)
    }
}
