//! State of providers and pools as the laws see it: according to their inputs and effects alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use super::clock::SEC;
use super::database::SecretId;
use crate::expiry::Expiry;
use crate::lease::Revision;
use crate::provider::machine::LeaseId;

/// State of a machine that a crash of its actor must not change.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct MachineState {
    /// The current lease: its id or generation, its revision and its expiry.
    pub(super) lease: Option<(u64, Revision, Expiry)>,
    /// Whether a fetch or an attempt runs.
    pub(super) is_busy: bool,
    pub(super) deadline: Option<Instant>,
}

/// What law 12 requires of an actor that has crashed.
#[derive(Debug, Default)]
pub(super) struct CrashModel {
    /// From the crash to the restart: the machine's state after its last input.
    pub(super) state: Option<MachineState>,
    /// After the restart: when the actor has to reconcile again at the latest.
    pub(super) next: Option<u64>,
}

/// State of a provider according to its inputs and effects.
#[derive(Debug, Default)]
pub(super) struct ProviderModel {
    pub(super) current: Option<(LeaseId, SecretId, u64)>,
    /// When each secret was last reported as rejected.
    pub(super) rejected: BTreeMap<SecretId, u64>,
    /// When each secret was last verified.
    pub(super) verified: BTreeMap<SecretId, u64>,
    /// When each secret was superseded, and whether it was verified while it was current.
    pub(super) superseded: BTreeMap<SecretId, (u64, bool)>,
    /// Unused leases: since when, and their expiry.
    pub(super) unused: BTreeMap<SecretId, (u64, Expiry)>,
    pub(super) released: BTreeSet<LeaseId>,
    pub(super) releases_failed: BTreeSet<LeaseId>,
    pub(super) bucket: Option<FetchAllowance>,
    pub(super) requested: bool,
    pub(super) lost: bool,
    /// Time of a clock jump that no fetch followed yet.
    pub(super) jumped: Option<u64>,
    pub(super) last_request: Option<u64>,
    pub(super) last_fetch: Option<u64>,
    pub(super) last_succeeded: bool,
    pub(super) is_stopped: bool,
    pub(super) crash: CrashModel,
}

/// The most that law 7 allows, in fractions of a token.
#[derive(Debug)]
pub(super) struct FetchAllowance {
    pub(super) tokens: f64,
    pub(super) at: u64,
    pub(super) refill: Option<u64>,
    pub(super) fills: f64,
}

impl FetchAllowance {
    fn advance(&mut self, to: u64) {
        let passed = to.saturating_sub(self.at) as f64 / SEC as f64;
        self.fills = (self.fills + passed / 60.0).min(20.0);
        self.tokens = (self.tokens + passed / 10.0).min(3.0);
        self.at = self.at.max(to);
    }

    pub(super) fn fill(&mut self, now: u64) {
        if let Some(at) = self.refill.take_if(|at| *at <= now) {
            self.advance(at);
            // A full bucket uses no refill.
            if self.fills >= 1.0 - 1e-6 && self.tokens < 3.0 - 1e-6 {
                self.fills -= 1.0;
                self.tokens = 3.0;
            }
        }
        self.advance(now);
    }

    pub(super) fn draw(&mut self, now: u64) -> bool {
        self.fill(now);
        self.tokens -= 1.0;
        self.tokens > -1e-6
    }
}

/// State of a pool according to its inputs and effects.
#[derive(Debug, Default)]
pub(super) struct PoolModel {
    /// The attempt that was verified, and its secret.
    pub(super) verified: Option<(u64, SecretId)>,
    pub(super) accounts: BTreeMap<Arc<str>, Window>,
    pub(super) last_failed_login: Option<u64>,
    pub(super) last_attempt: Option<u64>,
    pub(super) jumped: Option<u64>,
    pub(super) probes: BTreeMap<u64, (u64, bool)>,
    pub(super) abandoned: BTreeSet<u64>,
    pub(super) crash: CrashModel,
    /// Revision of the provider's lease at the last wake, unless it had expired.
    pub(super) last_lease: Option<Revision>,
}

/// Failed logins of one database user.
#[derive(Debug)]
pub(super) struct Window {
    pub(super) opened: u64,
    pub(super) length: u64,
    pub(super) failed: u32,
    /// Failed logins by secret, and whether the secret was never accepted before.
    pub(super) costs: BTreeMap<SecretId, (u32, bool)>,
}
