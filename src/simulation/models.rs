//! State of providers and pools as the laws see it: according to their inputs and effects alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use super::clock::{HOUR, SEC};
use super::database::SecretId;
use crate::expiry::Expiry;
use crate::lease::Revision;
use crate::provider::machine::LeaseId;

/// Most refunds of failed logins in a window.
const REFUNDS_MOST: u32 = 60;
/// Most rejected secrets of a database user that are remembered.
const REJECTED_MOST: usize = 64;

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
    accounts: BTreeMap<Arc<str>, LoginWindow>,
    /// The last generation whose rejection was noted.
    pub(super) noted: u64,
    pub(super) last_failed_login: Option<u64>,
    pub(super) last_attempt: Option<u64>,
    pub(super) jumped: Option<u64>,
    pub(super) probes: BTreeMap<u64, (u64, bool)>,
    pub(super) abandoned: BTreeSet<u64>,
    pub(super) crash: CrashModel,
    /// Revision of the provider's lease at the last wake, unless it had expired.
    pub(super) last_lease: Option<Revision>,
}

/// Failed logins of one database user in a window. Opens with one of them.
#[derive(Debug)]
pub(super) struct LoginWindow {
    opened: u64,
    /// Zero before the first failed login.
    length: u64,
    pub(super) failed: u32,
    refunds: u32,
    rejected: BTreeMap<SecretId, RejectedSecret>,
}

/// A secret that the database rejected.
#[derive(Debug)]
struct RejectedSecret {
    /// Failed logins with it in this window.
    cost: u32,
    /// Whether it was rejected before any login with it worked.
    never_verified: bool,
    last: u64,
}

impl LoginWindow {
    fn new(now: u64) -> Self {
        Self {
            opened: now,
            length: 0,
            failed: 0,
            refunds: 0,
            rejected: BTreeMap::new(),
        }
    }

    fn ends(&self) -> u64 {
        self.opened + self.length
    }

    /// Counts a failed login.
    fn count(&mut self, secret: SecretId, never_verified: bool, now: u64) {
        if now >= self.ends() {
            self.length = if self.length == 0 { 30 } else { 60 } * SEC;
            self.opened = now;
            (self.failed, self.refunds) = (0, 0);
            self.rejected
                .values_mut()
                .for_each(|rejected| rejected.cost = 0);
        }
        self.failed += 1;
        self.note(secret, never_verified, now).cost += 1;
    }

    /// Notes a rejection. The one that is longest ago is forgotten if there are too many.
    fn note(&mut self, secret: SecretId, never_verified: bool, now: u64) -> &mut RejectedSecret {
        if self.rejected.len() > REJECTED_MOST
            && let Some(oldest) = self
                .rejected
                .iter()
                .min_by_key(|(_, rejected)| rejected.last)
                .map(|(secret, _)| *secret)
        {
            self.rejected.remove(&oldest);
        }
        let rejected = self.rejected.entry(secret).or_insert(RejectedSecret {
            cost: 0,
            never_verified,
            last: now,
        });
        rejected.last = now;
        rejected
    }

    /// Refunds failed logins that a rotation explains, so often in a window. Returns whether it
    /// did.
    fn refund(&mut self, cost: u32) -> bool {
        let refunds = cost > 0 && self.refunds < REFUNDS_MOST;
        if refunds {
            self.refunds += 1;
            self.failed = self.failed.saturating_sub(cost);
        }
        refunds
    }
}

impl PoolModel {
    /// Counts a failed login of this user. Returns the number in the window.
    pub(super) fn login_failed(
        &mut self,
        account: Arc<str>,
        secret: SecretId,
        never_verified: bool,
        now: u64,
    ) -> u32 {
        self.last_failed_login = Some(now);
        let window = self.account(account, now);
        window.count(secret, never_verified, now);
        window.failed
    }

    /// Notes that the current generation was rejected, perhaps without a login.
    pub(super) fn rejected(&mut self, account: Arc<str>, secret: SecretId, now: u64) {
        self.account(account, now).note(secret, false, now);
    }

    /// Notes that a login with this secret worked: what it cost is refunded if it never had before.
    /// Returns the number of refunds.
    pub(super) fn worked(&mut self, account: &str, secret: SecretId, now: u64) -> u64 {
        let mut refunds = false;
        if let Some(window) = self.accounts.get_mut(account)
            && let Some(rejected) = window.rejected.remove(&secret)
        {
            refunds = rejected.never_verified && window.refund(rejected.cost);
        }
        self.accounts
            .retain(|_, window| !window.rejected.is_empty() || now < window.ends());
        u64::from(refunds)
    }

    /// Notes that this secret replaced another one: what the others cost is refunded. Returns the
    /// number of refunds.
    pub(super) fn superseded(&mut self, account: &str, served: SecretId) -> u64 {
        let Some(window) = self.accounts.get_mut(account) else {
            return 0;
        };
        let others = window.rejected.iter_mut();
        let others = others.filter(|(secret, _)| **secret != served);
        let cost = others.map(|(_, rejected)| std::mem::take(&mut rejected.cost));
        let cost = cost.sum();
        u64::from(window.refund(cost))
    }

    fn account(&mut self, account: Arc<str>, now: u64) -> &mut LoginWindow {
        self.accounts.retain(|_, window| now < window.ends() + HOUR);
        self.accounts
            .entry(account)
            .or_insert_with(|| LoginWindow::new(now))
    }
}
