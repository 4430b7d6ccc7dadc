//! Checks the laws against the simulated world: what the database rejected, what backends returned
//! and released, and when.

mod pool;
mod provider;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::clock::{MIN, SEC};
use super::database::SecretId;
use super::event::NodeId;
use super::report::Law;
use super::world::World;
use crate::expiry::Expiry;
use crate::provider::machine::LeaseId;

/// Longest exclusion of a rejected revision.
const EXCLUDED: u64 = 600 * SEC;
/// Everything is well again this long after the last fault.
const RECOVERED: u64 = 40 * MIN;
/// A clock jump is acted on within this time: a heartbeat is 15 s.
const JUMP_SEEN: u64 = 20 * SEC;

/// What the world knows of a provider by its inputs and effects.
#[derive(Debug, Default)]
pub(super) struct ProviderModel {
    current: Option<(LeaseId, SecretId, u64)>,
    /// When each secret was last reported as rejected, and verified.
    rejected: BTreeMap<SecretId, u64>,
    verified: BTreeMap<SecretId, u64>,
    /// When each secret was superseded, and whether a login had worked while it was current.
    superseded: BTreeMap<SecretId, (u64, bool)>,
    /// Leases that are to be released, since when, and when they expire.
    unused: BTreeMap<SecretId, (u64, Expiry)>,
    released: BTreeSet<LeaseId>,
    releases_failed: BTreeSet<LeaseId>,
    bucket: Option<FetchAllowance>,
    pub(super) requested: bool,
    pub(super) lost: bool,
    /// A clock jump that no fetch followed yet.
    pub(super) jumped: Option<u64>,
    last_request: Option<u64>,
    last_fetch: Option<u64>,
    last_succeeded: bool,
    pub(super) is_stopped: bool,
}

/// The most that law 7 allows: a bucket that never rounds down.
#[derive(Debug)]
struct FetchAllowance {
    tokens: f64,
    at: u64,
    refill: Option<u64>,
    fills: f64,
}

impl FetchAllowance {
    fn advance(&mut self, to: u64) {
        let passed = to.saturating_sub(self.at) as f64 / SEC as f64;
        self.fills = (self.fills + passed / 60.0).min(20.0);
        self.tokens = (self.tokens + passed / 10.0).min(3.0);
        self.at = self.at.max(to);
    }

    fn fill(&mut self, now: u64) {
        if let Some(at) = self.refill.take_if(|at| *at <= now) {
            self.advance(at);
            // One that is full takes none.
            if self.fills >= 1.0 - 1e-6 && self.tokens < 3.0 - 1e-6 {
                self.fills -= 1.0;
                self.tokens = 3.0;
            }
        }
        self.advance(now);
    }

    fn draw(&mut self, now: u64) -> bool {
        self.fill(now);
        self.tokens -= 1.0;
        self.tokens > -1e-6
    }
}

/// What the world knows of a pool.
#[derive(Debug, Default)]
pub(super) struct PoolModel {
    /// The attempt whose lease the database accepted.
    pub(super) verified: Option<(u64, SecretId)>,
    accounts: BTreeMap<Arc<str>, Window>,
    last_failed_login: Option<u64>,
    last_attempt: Option<u64>,
    pub(super) jumped: Option<u64>,
    probes: BTreeMap<u64, (u64, bool)>,
    abandoned: BTreeSet<u64>,
}

/// Failed logins of one database user.
#[derive(Debug)]
pub(super) struct Window {
    opened: u64,
    length: u64,
    failed: u32,
    /// By secret, and whether it never worked before.
    costs: BTreeMap<SecretId, (u32, bool)>,
}
impl World {
    pub(super) fn broken(&mut self, law: Law, node: NodeId, text: impl Into<String>) {
        self.checks.broken(law, node, text);
    }

    /// Returns whether callers should get connections of the current generation, and could since
    /// `since`.
    pub(super) fn is_usable(&self, at: usize, since: u64) -> bool {
        let true_time = self.clocks.true_time();
        let since = true_time - (self.clocks.mono - since);
        let pool = &self.pools[at];
        let Some(current) = pool.current else {
            return false;
        };
        let server = pool.provider.at;
        let accepted = self.db.accepted_since(current.secret, true_time);
        let healthy = self.db.healthy_since(server, true_time);
        !current.expiry.is_expired(self.clocks.now())
            && accepted.is_some_and(|accepted| accepted <= since)
            && healthy.is_some_and(|healthy| healthy + 2 * MIN <= since)
            && self.quiet[server] <= since
    }

    /// A caller that could have been served is never failed.
    pub(super) fn check_failed_call(&mut self, at: usize, call: u64, why: &'static str) {
        let pool = &self.pools[at];
        let node = pool.node;
        let Some(call) = pool.calls.get(&call) else {
            return;
        };
        let (start, was_usable) = (call.start, call.was_usable);
        if why == "closed" {
            self.checks.hazard("calls after the end", 1);
            return;
        }
        let current = pool.current;
        let is_full = current.is_some_and(|current| pool.count(current.instance) >= pool.max)
            || pool.connections() + 1 >= pool.max + pool.overlap;
        self.checks.hazard("calls that failed", 1);
        // A generation that is newer than the call was verified, too.
        let since = current.map_or(start, |current| start.max(current.since));
        let is_rejected = current.is_some_and(|current| current.is_rejected);
        if was_usable
            && !is_full
            && !is_rejected
            && self.is_usable(at, since)
            && self.clocks.mono - since > 2 * SEC
        {
            self.broken(
                Law(1),
                node,
                format!("a caller failed ({why}) that had a usable generation"),
            );
        }
    }

    /// A connection was returned: it was not to end before its generation's drain deadline.
    pub(super) fn check_returned(&mut self, at: usize, generation: u64, secret: SecretId) {
        let true_time = self.clocks.true_time();
        let pool = &self.pools[at];
        let ended = self
            .db
            .secrets
            .get(secret)
            .map_or(u64::MAX, |role| role.role_ends);
        if true_time < ended {
            return;
        }
        let deadline = pool
            .drains
            .get(&generation)
            .and_then(|drain| drain.deadline);
        self.checks
            .hazard("connections that the backend ended in use", 1);
        let node = pool.node;
        if deadline.is_some_and(|deadline| self.clocks.mono < deadline)
            && self.quiet[pool.provider.at] + SEC < ended
        {
            self.broken(Law(1), node, "a connection ended before its drain deadline");
        }
    }

    /// Some time after the last fault, everything works again.
    pub(super) fn check_recovered(&mut self) {
        for at in 0..self.providers.len() {
            let (now, true_time) = (self.clocks.mono, self.clocks.true_time());
            let healthy = self.backends[at]
                .healthy_since(true_time)
                .zip(self.db.healthy_since(at, true_time));
            let Some((backend, server)) = healthy else {
                continue;
            };
            let quiet = backend.max(server).max(self.quiet[at]);
            if (quiet + 10 * MIN..quiet + 20 * MIN).contains(&true_time) {
                // Nobody notices a credential that is not used: callers have to log in.
                self.end_connections(at);
                self.burst(at);
            }
            let provider = &self.providers[at];
            if true_time < quiet + RECOVERED || provider.model.is_stopped {
                continue;
            }
            self.checks.hazard("recoveries checked", 1);
            let node = provider.node;
            let adopted = provider.model.current.map(|(.., since)| since);
            let users: Vec<SecretId> = self
                .pools
                .iter()
                .filter(|pool| pool.provider == node)
                .flat_map(|pool| pool.leases.values().map(|(_, used)| *used))
                .collect();
            let left = provider
                .model
                .unused
                .iter()
                .find(|(secret, (since, expiry))| {
                    let role = &self.db.secrets[**secret];
                    since + RECOVERED < now
                        && !users.contains(secret)
                        && !expiry.is_expired(self.clocks.now())
                        && true_time < role.expires
                        && !role.release_given_up
                });
            let left = left.map(|(secret, _)| *secret);
            if let Some(secret) = left {
                self.broken(
                    Law(9),
                    node,
                    format!("lease {secret} is unused and was not released"),
                );
            }
            if adopted.is_some_and(|adopted| now < adopted + 3 * MIN) {
                continue;
            }
            for pool in self.subscribers(at) {
                let one = &self.pools[pool];
                let node = one.node;
                if one.is_retired {
                    // No caller holds a connection for so long.
                    if one.retired + RECOVERED < now {
                        self.broken(Law(14), node, "a removed pool has not ended");
                    }
                    continue;
                }
                let served = one
                    .current
                    .filter(|served| !served.is_rejected)
                    .map(|served| served.secret);
                // It may be an older one: a backend that goes back and forth is not followed at
                // once.
                let is_accepted = served.is_some_and(|served| self.db.accepts(served, true_time));
                let lags = !is_accepted && one.since + RECOVERED < now;
                let stuck = one
                    .drains
                    .values()
                    .any(|drain| one.count(drain.instance) == 0);
                one.admission.why_full(self.clocks.now().mono());
                let shut = !one.admission.is_open() && !one.admission.has_old();
                if lags {
                    self.broken(
                        Law(2),
                        node,
                        "the pool serves no lease that works, long after the last fault",
                    );
                }
                if stuck {
                    self.broken(Law(9), node, "a drain without connections has not ended");
                }
                if shut {
                    self.broken(
                        Law(11),
                        node,
                        "logins are limited long after the last rejection",
                    );
                }
            }
        }
    }
}
