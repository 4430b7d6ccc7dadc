//! The laws, checked by what the world itself knows: what the database rejected, what backends were
//! asked for and released, when that was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::backend::Kind;
use super::clock::{MIN, MS, SEC};
use super::database::{SecretId, secret_of};
use super::event::Node;
use super::pool::{Current, PATIENCE};
use super::report::Law;
use super::world::World;
use crate::expiry::Expiry;
use crate::lease::Revision;
use crate::pool::machine::{Effect as PoolEffect, LeaseFacts};
use crate::provider::machine::{Effect, Input, LeaseId, Offer};
use crate::report::RotationTrigger;

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
    bucket: Option<Allowance>,
    pub(super) asked: bool,
    pub(super) lost: bool,
    /// A clock jump that no fetch followed yet.
    pub(super) jumped: Option<u64>,
    last_asked: Option<u64>,
    last_fetch: Option<u64>,
    last_succeeded: bool,
    pub(super) is_stopped: bool,
}

/// The most that law 7 allows: a bucket that never rounds down.
#[derive(Debug)]
struct Allowance {
    tokens: f64,
    at: u64,
    refill: Option<u64>,
    fills: f64,
}

impl Allowance {
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
    pub(super) fn broken(&mut self, law: Law, node: Node, text: impl Into<String>) {
        self.checks.broken(law, node, text);
    }

    pub(super) fn provider_input(&mut self, at: usize, input: &Input) {
        let now = self.clocks.mono;
        let model = &mut self.providers[at].model;
        match input {
            Input::Rejected(revision) => {
                let secret = secret_of(revision);
                model.rejected.insert(secret, now);
                if let (Some((_, current, _)), Some(bucket)) = (model.current, &mut model.bucket)
                    && current == secret
                {
                    bucket.fill(now);
                    bucket.refill = None;
                }
            }
            Input::Verified(revision) => {
                let secret = secret_of(revision);
                let before = model.verified.insert(secret, now);
                if let (Some((_, current, since)), Some(bucket)) =
                    (model.current, &mut model.bucket)
                    && current == secret
                    && before.is_none_or(|before| before < since)
                {
                    bucket.fill(now);
                    bucket.refill = Some(now + 250 * MS);
                }
            }
            Input::ReleaseDone {
                lease,
                result: Err(_),
            } => {
                model.releases_failed.insert(*lease);
            }
            Input::FetchLost(_) => model.lost = true,
            Input::FetchLate {
                lease: Some(facts), ..
            } => {
                let secret = secret_of(&facts.revision);
                let is_known = model
                    .current
                    .is_some_and(|(_, current, _)| current == secret)
                    || model.superseded.contains_key(&secret);
                if !is_known && self.backends[at].kind == Kind::Dynamic {
                    model.unused.insert(secret, (now, facts.expiry));
                }
            }
            Input::FetchHangs { .. } => model.last_succeeded = false,
            Input::Stop => model.is_stopped = true,
            _ => {}
        }
    }

    pub(super) fn provider_effects(
        &mut self,
        at: usize,
        offered: Option<&Result<Offer, crate::error::ProviderError>>,
        effects: &[Effect],
        known_before: Option<Expiry>,
    ) {
        let (now, time) = (self.clocks.mono, self.clocks.now());
        let node = self.providers[at].node;
        let current = self.providers[at].model.current;
        let hands_over = effects
            .iter()
            .any(|effect| matches!(effect, Effect::HandOver { .. }));
        let is_valid = known_before.is_some_and(|expiry| !expiry.is_expired(time));
        match offered {
            Some(Err(_)) => {
                self.providers[at].model.last_succeeded = false;
                self.checks.hazard(
                    "failed fetches while the lease was valid",
                    u64::from(is_valid),
                );
                let touches = |effect: &Effect| match effect {
                    Effect::HandOver { .. } | Effect::Keep(_) | Effect::Extend(..) => true,
                    Effect::Release(lease) | Effect::Forget(lease) => {
                        current.is_some_and(|(id, ..)| id == *lease)
                    }
                    _ => false,
                };
                let is_closed = self.providers[at].is_closed;
                if effects.iter().any(touches) && !is_closed
                    || self.machine_lease(at) != current.map(|(id, ..)| id)
                {
                    self.broken(Law(3), node, "a failed fetch replaced the current lease");
                }
            }
            Some(Ok(offer)) => {
                self.providers[at].model.last_succeeded = true;
                let secret = match offer {
                    Offer::New(facts) => Some((secret_of(&facts.revision), facts.expiry)),
                    Offer::Renewed(_) | Offer::Unchanged => None,
                };
                let held = current.map(|(_, secret, _)| secret);
                if secret.is_none() || secret.map(|(secret, _)| secret) == held {
                    self.checks.hazard("equal revisions", 1);
                    if hands_over {
                        self.broken(Law(4), node, "an equal revision was handed over");
                    }
                    let later = match offer {
                        Offer::Renewed(expiry) => Some(*expiry),
                        Offer::New(facts) => Some(facts.expiry),
                        Offer::Unchanged => None,
                    };
                    let known = self.providers[at]
                        .machine
                        .current()
                        .map(|(_, facts)| facts.expiry);
                    if later.is_some() && later != known && !self.providers[at].is_closed {
                        self.broken(Law(4), node, "a later expiry was not adopted");
                    }
                } else if let Some((secret, expiry)) = secret {
                    let model = &self.providers[at].model;
                    let superseded = model
                        .superseded
                        .get(&secret)
                        .is_some_and(|(when, _)| now - when < 3_600 * SEC);
                    let rejected = held.and_then(|held| model.rejected.get(&held).copied());
                    let verified = held.and_then(|held| model.verified.get(&held).copied());
                    let stays = is_valid
                        && verified >= current.map(|(.., since)| since)
                        && rejected.is_none_or(|rejected| {
                            verified.is_some_and(|verified| verified > rejected)
                        })
                        && model
                            .superseded
                            .get(&secret)
                            .is_some_and(|(_, worked)| *worked);
                    if superseded && stays {
                        self.checks.hazard("superseded revisions offered again", 1);
                        if hands_over {
                            self.broken(Law(3), node, "a superseded lease replaced a valid one");
                        }
                    }
                    if hands_over {
                        self.adopted(at, secret, expiry, known_before);
                    } else if !superseded && self.backends[at].kind == Kind::Dynamic {
                        self.providers[at]
                            .model
                            .unused
                            .entry(secret)
                            .or_insert((now, expiry));
                    }
                }
            }
            None => {}
        }
    }

    fn machine_lease(&self, at: usize) -> Option<LeaseId> {
        self.providers[at].machine.current().map(|(lease, _)| lease)
    }

    fn adopted(&mut self, at: usize, secret: SecretId, expiry: Expiry, before: Option<Expiry>) {
        let (now, time) = (self.clocks.mono, self.clocks.now());
        let node = self.providers[at].node;
        if expiry.is_expired(time) {
            self.broken(Law(8), node, "an expired lease was adopted");
        }
        self.checks.trace.line("adopted", node, secret as u64, 0);
        self.checks.hazard("leases adopted", 1);
        let lease = self.machine_lease(at);
        let model = &mut self.providers[at].model;
        if let Some((_, old, since)) = model.current {
            let worked = model.verified.get(&old).is_some_and(|at| *at >= since);
            model.superseded.insert(old, (now, worked));
            model
                .unused
                .insert(old, (now, before.unwrap_or(Expiry::never())));
        }
        model.unused.remove(&secret);
        model.superseded.remove(&secret);
        if let Some(lease) = lease {
            model.releases_failed.remove(&lease);
            model.released.remove(&lease);
            model.current = Some((lease, secret, now));
        }
    }

    /// A fetch begins. Every failure path draws on the bucket.
    pub(super) fn check_fetch(
        &mut self,
        at: usize,
        trigger: RotationTrigger,
        is_requested: bool,
        excluded: &[Revision],
    ) {
        let now = self.clocks.mono;
        let node = self.providers[at].node;
        let model = &mut self.providers[at].model;
        let since_last = model.last_fetch.map(|last| now - last);
        let is_scheduled = model.last_succeeded
            && trigger != RotationTrigger::Rejected
            && since_last.is_some_and(|since| since + MS >= SEC);
        let is_free = since_last.is_none()
            || model.asked
            || is_requested
            || model.lost
            || model.jumped.is_some()
            || is_scheduled;
        let mut broken = Vec::new();
        if model.is_stopped {
            broken.push((Law(14), "a fetch began after the stop".to_owned()));
        }
        let bucket = model.bucket.get_or_insert(Allowance {
            tokens: 3.0,
            at: now,
            refill: None,
            fills: 20.0,
        });
        if !is_free {
            self.checks.hazard("fetches on failure paths", 1);
            if !bucket.draw(now) {
                broken.push((
                    Law(7),
                    format!("a fetch ({trigger}) on a failure path beyond the bucket"),
                ));
            }
        }
        if matches!(trigger, RotationTrigger::Manual | RotationTrigger::Changed)
            && (model.asked || is_requested)
        {
            // A retry may come sooner, if the bucket allows it.
            let is_early = model.last_asked.is_some_and(|last| now - last + MS < SEC);
            if is_early && !bucket.draw(now) {
                let text = "two fetches for hints or requests within a second";
                broken.push((Law(16), text.to_owned()));
            }
            model.last_asked = Some(now);
        }
        if trigger == RotationTrigger::Rejected
            && let Some((_, secret, _)) = model.current
        {
            self.checks.hazard("fetches after rejections", 1);
            let rejected = model.rejected.get(&secret).copied();
            let verified = model.verified.get(&secret).copied();
            if rejected.is_none() || verified > rejected {
                broken.push((
                    Law(5),
                    "a fetch for a rejection that is not the current lease's".to_owned(),
                ));
            }
            if self.db.secrets[secret].last_rejected.is_none() {
                broken.push((
                    Law(6),
                    "a fetch for a lease that the database never rejected".to_owned(),
                ));
            }
        }
        for revision in excluded {
            self.checks.hazard("exclusions", 1);
            let reported = model.rejected.get(&secret_of(revision));
            if reported.is_none_or(|reported| now - reported > EXCLUDED) {
                broken.push((
                    Law(5),
                    "a revision is excluded ten minutes after its last rejection".to_owned(),
                ));
            }
        }
        model.asked = false;
        model.lost = false;
        model.jumped = None;
        model.last_fetch = Some(now);
        for (law, text) in broken {
            self.broken(law, node, text);
        }
    }

    pub(super) fn release_starts(&mut self, at: usize, lease: LeaseId) {
        let now = self.clocks.mono;
        let node = self.providers[at].node;
        let is_closed = self.providers[at].is_closed;
        let Some(secret) = self.providers[at]
            .leases
            .get(&lease)
            .map(|facts| secret_of(&facts.revision))
        else {
            return self.broken(Law(9), node, "a release of an unknown lease");
        };
        self.checks
            .trace
            .line("release", node, lease.0, secret as u64);
        self.checks.hazard("releases", 1);
        let keeps = self.backends[at].kind == Kind::Token;
        let keeps_one_life = self.backends[at].kind == Kind::Dynamic;
        let mut is_used = false;
        for pool in self.pools.iter().filter(|pool| pool.provider == node) {
            is_used |= pool.leases.values().any(|(_, used)| *used == secret);
            is_used |= pool.attempted() == Some(secret);
            if !keeps {
                let idle = pool.instances.values().flat_map(|one| &one.idle);
                let busy = pool.calls.values().filter_map(|call| call.holds);
                is_used |= idle
                    .copied()
                    .chain(busy.map(|(.., secret)| secret))
                    .any(|one| one == secret);
            }
        }
        let model = &mut self.providers[at].model;
        let is_current = model
            .current
            .is_some_and(|(_, current, _)| current == secret);
        let is_gone = keeps_one_life && self.db.secrets[secret].releases > 0;
        let twice = is_gone || model.released.contains(&lease);
        let draws = model.releases_failed.contains(&lease) && !is_closed;
        let within = !draws || model.bucket.as_mut().is_none_or(|bucket| bucket.draw(now));
        if draws {
            self.checks.hazard("releases tried again", 1);
        }
        if twice {
            self.broken(Law(9), node, format!("lease {secret} was released twice"));
        }
        if (is_used || is_current) && !is_closed {
            self.broken(
                Law(9),
                node,
                format!("lease {secret} was released while in use"),
            );
        }
        if !within {
            self.broken(Law(7), node, "a further release beyond the bucket");
        }
    }

    pub(super) fn release_worked(&mut self, at: usize, lease: LeaseId, secret: SecretId) {
        let truth = self.clocks.truth();
        let model = &mut self.providers[at].model;
        model.released.insert(lease);
        model.unused.remove(&secret);
        self.db.secrets[secret].releases += 1;
        if self.backends[at].kind == Kind::Dynamic {
            self.db.drop_role(secret, truth);
        }
    }

    /// After the close, everything was released or is being released.
    pub(super) fn check_closed(&mut self, at: usize) {
        let provider = &self.providers[at];
        let mut left = provider
            .leases
            .keys()
            .filter(|lease| !provider.releases.contains(lease));
        if left.next().is_some() {
            let node = provider.node;
            self.broken(Law(14), node, "a lease was not released at the close");
        }
    }

    pub(super) fn check_after_jump(&mut self, at: usize) {
        let now = self.clocks.mono;
        let provider = &self.providers[at];
        let is_busy =
            provider.fetches.values().any(|one| !one.hangs) || provider.fetches.len() >= 3;
        if provider
            .model
            .jumped
            .is_some_and(|jumped| now > jumped + JUMP_SEEN && provider.actor.crashed_until < jumped)
            && !is_busy
            && !provider.model.is_stopped
        {
            let node = provider.node;
            self.broken(Law(8), node, "no fetch followed a clock jump");
        }
    }

    pub(super) fn check_pool_after_jump(&mut self, at: usize) {
        let now = self.clocks.mono;
        let provider = self.providers[self.pools[at].provider.at].secret();
        let pool = &mut self.pools[at];
        let Some(jumped) = pool.model.jumped.filter(|jumped| now > jumped + JUMP_SEEN) else {
            return;
        };
        pool.model.jumped = None;
        let is_checked = pool
            .model
            .last_attempt
            .is_some_and(|last| last + MIN >= jumped);
        let is_calm = pool
            .model
            .last_failed_login
            .is_none_or(|last| last + 3 * MIN < jumped)
            && pool.actor.crashed_until < jumped
            && !pool.has_attempt()
            && pool.current.is_some_and(|current| {
                !current.is_rejected
                    && Some(current.secret) == provider
                    && !current.expiry.is_expired(self.clocks.now())
            });
        if is_calm && !is_checked {
            let node = pool.node;
            self.broken(
                Law(8),
                node,
                "the active lease was not checked after a clock jump",
            );
        }
    }

    pub(super) fn attempt_starts(&mut self, at: usize, facts: &LeaseFacts) {
        let time = self.clocks.now();
        let pool = &mut self.pools[at];
        pool.model.last_attempt = Some(self.clocks.mono);
        pool.model.verified = None;
        let (node, is_retired) = (pool.node, pool.is_retired);
        if facts.expiry.is_expired(time) {
            self.broken(Law(8), node, "a verification with an expired lease");
        }
        if is_retired {
            self.broken(Law(14), node, "a verification began after the end");
        }
        self.checks.hazard("attempts", 1);
    }

    pub(super) fn pool_effects(&mut self, at: usize, effects: &[PoolEffect]) {
        let now = self.clocks.mono;
        for effect in effects {
            if let PoolEffect::Probe { generation } = effect {
                let pool = &mut self.pools[at];
                let node = pool.node;
                let entry = pool.model.probes.get(generation).copied();
                let is_early = entry.is_some_and(|(last, _)| now - last + MS < 10 * SEC);
                // The first suspicion of a generation leads to a probe at once.
                let was_early = entry.is_some_and(|(_, was)| was);
                pool.model.probes.clear();
                pool.model
                    .probes
                    .insert(*generation, (now, was_early || is_early));
                self.checks.hazard("probes", 1);
                if is_early && was_early {
                    self.broken(Law(6), node, "two probes within ten seconds");
                }
            }
        }
    }

    /// Opens the window of failed logins of this secret's user, if none is open.
    pub(super) fn open_window(&mut self, at: usize, secret: SecretId) -> Option<&mut Window> {
        let now = self.clocks.mono;
        let account = Arc::clone(&self.db.secrets.get(secret)?.account);
        let accounts = &mut self.pools[at].model.accounts;
        accounts.retain(|_, window| now < window.opened + window.length + 3_600 * SEC);
        let window = accounts.entry(account).or_insert_with(|| Window {
            opened: now,
            length: 30 * SEC,
            failed: 0,
            costs: BTreeMap::new(),
        });
        if now >= window.opened + window.length {
            (window.opened, window.length, window.failed) = (now, 60 * SEC, 0);
            window.costs.values_mut().for_each(|(cost, _)| *cost = 0);
        }
        Some(window)
    }

    /// Counts a failed login of this pool.
    pub(super) fn login_failed(&mut self, at: usize, secret: SecretId) {
        let pool = &mut self.pools[at];
        pool.model.last_failed_login = Some(self.clocks.mono);
        let (node, most) = (pool.node, pool.max + 3);
        let never_worked = pool.current.is_none_or(|current| current.secret != secret);
        let Some(window) = self.open_window(at, secret) else {
            return;
        };
        window.failed += 1;
        window.costs.entry(secret).or_insert((0, never_worked)).0 += 1;
        let failed = window.failed;
        self.checks.hazard("failed logins", 1);
        self.checks.hazard(
            "windows of failed logins that were used up",
            u64::from(failed == most),
        );
        if failed > most {
            let text = format!("{failed} failed logins in a window, {most} are allowed");
            self.broken(Law(11), node, text);
        }
    }

    pub(super) fn login_worked(&mut self, _at: usize, _secret: SecretId) {
        self.checks.hazard("logins that worked", 1);
    }

    /// What a rotation explains is refunded.
    fn refund(&mut self, at: usize, secret: SecretId, superseded: bool) {
        let now = self.clocks.mono;
        let account = &self.db.secrets[secret].account;
        let pool = &mut self.pools[at];
        let most = pool.max + 3;
        if let Some(window) = pool.model.accounts.get_mut(account) {
            let mut refund = 0;
            if let Some((cost, never_worked)) = window.costs.remove(&secret)
                && never_worked
            {
                refund += cost;
            }
            if superseded {
                let others = window.costs.values_mut();
                refund += others.map(|(cost, _)| std::mem::take(cost)).sum::<u32>();
            }
            window.failed = window.failed.saturating_sub(refund);
            if window.failed >= most {
                window.failed -= 1;
            }
            if window.costs.is_empty() && now >= window.opened + window.length {
                pool.model.accounts.remove(account);
            }
        }
    }

    pub(super) fn published(
        &mut self,
        at: usize,
        attempt: u64,
        secret: SecretId,
        old: Option<Current>,
    ) {
        let pool = &mut self.pools[at];
        let node = pool.node;
        let verified = pool.model.verified.take();
        self.checks.hazard("handovers", 1);
        if verified != Some((attempt, secret)) {
            self.broken(Law(2), node, "published without a verification");
        }
        if let Some(old) = old {
            if old.secret == secret && !old.is_rejected {
                self.broken(Law(4), node, "an equal revision was published again");
            }
            self.checks
                .hazard("handovers after a rejection", u64::from(old.is_rejected));
        }
        let waiting = self.pools[at].waiting.len() as u64;
        let busy = self.pools[at].calls.len() as u64 - waiting;
        self.checks
            .hazard("calls that waited during a handover", waiting);
        self.checks
            .hazard("connections in use during a handover", busy);
        self.refund(at, secret, old.is_some_and(|old| old.secret != secret));
    }

    pub(super) fn checked_again(&mut self, at: usize, secret: SecretId) {
        self.refund(at, secret, false);
    }

    pub(super) fn drain_starts(&mut self, at: usize, generation: u64, since: u64, deadline: u64) {
        let (now, truth) = (self.clocks.mono, self.clocks.truth());
        let pool = &self.pools[at];
        let node = pool.node;
        let Some(drain) = pool.drains.get(&generation) else {
            return;
        };
        let role = &self.db.secrets[drain.secret];
        let patience = PATIENCE.as_micros() as u64;
        let is_dynamic = self.backends[role.provider].kind == Kind::Dynamic;
        let is_late = if is_dynamic {
            deadline > since + 3 * SEC && truth + deadline.saturating_sub(now) > role.expires
        } else {
            deadline > since + patience + SEC
        };
        self.checks.hazard("drains", 1);
        if is_late {
            self.broken(
                Law(9),
                node,
                "a drain's deadline is after the lease's end, or beyond the settings",
            );
        }
    }

    pub(super) fn drain_overdue(&mut self, at: usize, generation: u64, effects: &[PoolEffect]) {
        let pool = &mut self.pools[at];
        let node = pool.node;
        let is_first = pool.model.abandoned.insert(generation);
        let is_reported = effects
            .iter()
            .any(|effect| matches!(effect, PoolEffect::ReportAbandoned { .. }));
        self.checks.hazard("drains past their deadline", 1);
        if is_first != is_reported {
            self.broken(
                Law(9),
                node,
                "a drain past its deadline is to be reported once",
            );
        }
    }

    pub(super) fn check_connections(&mut self, at: usize) {
        let pool = &self.pools[at];
        let (connections, most) = (pool.connections(), pool.max + pool.overlap);
        let (node, is_over) = (pool.node, connections > pool.max);
        self.checks
            .hazard("connections beyond the maximum", u64::from(is_over));
        if connections > most {
            self.broken(
                Law(10),
                node,
                format!("{connections} connections, {most} are allowed"),
            );
        }
    }

    /// Returns whether callers should get connections of the current generation, and could since
    /// `since`.
    pub(super) fn is_usable(&self, at: usize, since: u64) -> bool {
        let truth = self.clocks.truth();
        let since = truth - (self.clocks.mono - since);
        let pool = &self.pools[at];
        let Some(current) = pool.current else {
            return false;
        };
        let server = pool.provider.at;
        let accepted = self.db.accepted_since(current.secret, truth);
        let healthy = self.db.healthy_since(server, truth);
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
        let truth = self.clocks.truth();
        let pool = &self.pools[at];
        let ended = self
            .db
            .secrets
            .get(secret)
            .map_or(u64::MAX, |role| role.role_ends);
        if truth < ended {
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
            let (now, truth) = (self.clocks.mono, self.clocks.truth());
            let healthy = self.backends[at]
                .healthy_since(truth)
                .zip(self.db.healthy_since(at, truth));
            let Some((backend, server)) = healthy else {
                continue;
            };
            let quiet = backend.max(server).max(self.quiet[at]);
            if (quiet + 10 * MIN..quiet + 20 * MIN).contains(&truth) {
                // Nobody notices a credential that is not used: callers have to log in.
                self.end_connections(at);
                self.burst(at);
            }
            let provider = &self.providers[at];
            if truth < quiet + RECOVERED || provider.model.is_stopped {
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
                        && truth < role.expires
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
                let works = served.is_some_and(|served| self.db.accepts(served, truth));
                let lags = !works && one.since + RECOVERED < now;
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
