//! The laws of a provider: fetches and leases.

use super::{EXCLUDED, JUMP_SEEN};
use crate::expiry::Expiry;
use crate::lease::Revision;
use crate::provider::machine::{Facts, LeaseId, Offer, ProviderEffect, ProviderInput};
use crate::report::RotationTrigger;
use crate::simulation::backend::Kind;
use crate::simulation::clock::{MS, SEC};
use crate::simulation::database::{SecretId, secret_of};
use crate::simulation::models::FetchAllowance;
use crate::simulation::report::Law;
use crate::simulation::world::World;

impl World {
    pub(in crate::simulation) fn provider_input(&mut self, index: usize, input: &ProviderInput) {
        let now = self.clocks.mono;
        let rehearses = self.providers[index].is_rehearsal(input);
        let model = &mut self.providers[index].model;
        match input {
            ProviderInput::Rejected(revision) => {
                let secret = secret_of(revision);
                model.rejected.insert(secret, now);
                if let (Some((_, current, _)), Some(bucket)) = (model.current, &mut model.bucket)
                    && current == secret
                {
                    bucket.fill(now);
                    bucket.refill = None;
                }
            }
            ProviderInput::Verified(revision) => {
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
            ProviderInput::ReleaseDone {
                lease,
                result: Err(_),
            } => {
                model.releases_failed.insert(*lease);
            }
            ProviderInput::FetchLost(_) => model.lost |= !rehearses,
            ProviderInput::FetchLate {
                lease: Some(facts), ..
            } => self.unused(index, facts),
            ProviderInput::FetchDone {
                result: Ok(Offer::New(facts)),
                ..
            } if rehearses => self.unused(index, facts),
            ProviderInput::FetchHangs { .. } => model.last_succeeded &= rehearses,
            ProviderInput::Stop => model.is_stopped = true,
            _ => {}
        }
    }

    /// Notes a lease that was obtained and is not adopted.
    fn unused(&mut self, index: usize, facts: &Facts) {
        let now = self.clocks.mono;
        let model = &mut self.providers[index].model;
        let secret = secret_of(&facts.revision);
        let current = model.current;
        let is_known = current.is_some_and(|(_, current, _)| current == secret)
            || model.superseded.contains_key(&secret);
        if !is_known && self.backends[index].kind == Kind::Dynamic {
            model.unused.insert(secret, (now, facts.expiry));
        }
    }

    /// Checks a rehearsal that begins. One runs at a time, as seldom as manual requests.
    pub(in crate::simulation) fn check_rehearsal(&mut self, index: usize) {
        let now = self.clocks.mono;
        let provider = &mut self.providers[index];
        let node = provider.node;
        let mut fetches = provider.fetches.keys();
        let runs = fetches.any(|fetch| provider.rehearsals.contains(fetch));
        let last = provider.model.last_request.replace(now);
        if provider.model.is_stopped {
            self.broken(Law(14), node, "a rehearsal began after the stop");
        }
        if runs {
            self.broken(Law(7), node, "two rehearsals fetch at once");
        }
        if last.is_some_and(|last| now - last + MS < SEC) {
            self.broken(
                Law(16),
                node,
                "a rehearsal began within a second of another request",
            );
        }
    }

    pub(in crate::simulation) fn provider_effects(
        &mut self,
        index: usize,
        offered: Option<&Result<Offer, crate::error::ProviderError>>,
        effects: &[ProviderEffect],
        known_before: Option<Expiry>,
    ) {
        let (now, time) = (self.clocks.mono, self.clocks.now());
        let node = self.providers[index].node;
        let current = self.providers[index].model.current;
        let hands_over = effects
            .iter()
            .any(|effect| matches!(effect, ProviderEffect::HandOver { .. }));
        let is_valid = known_before.is_some_and(|expiry| !expiry.is_expired(time));
        match offered {
            Some(Err(_)) => {
                self.providers[index].model.last_succeeded = false;
                self.checks.hazard(
                    "failed fetches while the lease was valid",
                    u64::from(is_valid),
                );
                let touches = |effect: &ProviderEffect| match effect {
                    ProviderEffect::HandOver { .. }
                    | ProviderEffect::Store(_)
                    | ProviderEffect::Extend(..) => true,
                    ProviderEffect::Release(lease) | ProviderEffect::Forget(lease) => {
                        current.is_some_and(|(id, ..)| id == *lease)
                    }
                    _ => false,
                };
                let is_closed = self.providers[index].is_closed;
                let is_replaced = effects.iter().any(touches)
                    || self.machine_lease(index) != current.map(|(id, ..)| id);
                if is_replaced && !is_closed {
                    self.broken(Law(3), node, "a failed fetch replaced the current lease");
                }
            }
            Some(Ok(offer)) => {
                self.providers[index].model.last_succeeded = true;
                let secret = match offer {
                    Offer::New(facts) => Some((secret_of(&facts.revision), facts.expiry)),
                    Offer::Renewed(_) | Offer::Unchanged => None,
                };
                let current_secret = current.map(|(_, secret, _)| secret);
                if secret.is_none() || secret.map(|(secret, _)| secret) == current_secret {
                    self.checks.hazard("equal revisions", 1);
                    if hands_over {
                        self.broken(Law(4), node, "an equal revision was handed over");
                    }
                    let later = match offer {
                        Offer::Renewed(expiry) => Some(*expiry),
                        Offer::New(facts) => Some(facts.expiry),
                        Offer::Unchanged => None,
                    };
                    let known = self.providers[index]
                        .machine
                        .current()
                        .map(|(_, facts)| facts.expiry);
                    if later.is_some() && later != known && !self.providers[index].is_closed {
                        self.broken(Law(4), node, "a later expiry was not adopted");
                    }
                } else if let Some((secret, expiry)) = secret {
                    let model = &self.providers[index].model;
                    let superseded = model
                        .superseded
                        .get(&secret)
                        .is_some_and(|(when, _)| now - when < 3_600 * SEC);
                    let rejected = current_secret
                        .and_then(|current_secret| model.rejected.get(&current_secret).copied());
                    let verified = current_secret
                        .and_then(|current_secret| model.verified.get(&current_secret).copied());
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
                    // It is fetched again after a hold.
                    self.providers[index].model.requested |=
                        self.providers[index].machine.is_held();
                    if hands_over {
                        self.adopted(index, secret, expiry, known_before);
                    } else if !superseded && self.backends[index].kind == Kind::Dynamic {
                        self.providers[index]
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

    /// Checks that a held provider starts nothing but renewals, and keeps its lease.
    pub(in crate::simulation) fn check_held(&mut self, index: usize, effects: &[ProviderEffect]) {
        for effect in effects {
            match effect {
                ProviderEffect::StartFetch { renews: true, .. } => {
                    self.checks.hazard("renewals of held leases", 1);
                }
                ProviderEffect::StartFetch { .. } | ProviderEffect::HandOver { .. } => {
                    let node = self.providers[index].node;
                    self.broken(Law(3), node, "a held provider did not keep its lease");
                }
                _ => {}
            }
        }
    }

    pub(super) fn machine_lease(&self, index: usize) -> Option<LeaseId> {
        self.providers[index]
            .machine
            .current()
            .map(|(lease, _)| lease)
    }

    pub(super) fn adopted(
        &mut self,
        index: usize,
        secret: SecretId,
        expiry: Expiry,
        before: Option<Expiry>,
    ) {
        let (now, time) = (self.clocks.mono, self.clocks.now());
        let node = self.providers[index].node;
        if expiry.is_expired(time) {
            self.broken(Law(8), node, "an expired lease was adopted");
        }
        self.checks.trace.line("adopted", node, secret as u64, 0);
        self.checks.hazard("leases adopted", 1);
        let lease = self.machine_lease(index);
        let model = &mut self.providers[index].model;
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

    /// Checks a fetch that begins. Every failure path draws on the bucket.
    pub(in crate::simulation) fn check_fetch(
        &mut self,
        index: usize,
        trigger: RotationTrigger,
        is_requested: bool,
        excluded: &[Revision],
    ) {
        let now = self.clocks.mono;
        let node = self.providers[index].node;
        let model = &mut self.providers[index].model;
        let since_last = model.last_fetch.map(|last| now - last);
        let is_scheduled = model.last_succeeded
            && trigger != RotationTrigger::Rejected
            && since_last.is_some_and(|since| since + MS >= SEC);
        let is_free = since_last.is_none()
            || model.requested
            || is_requested
            || model.lost
            || model.jumped.is_some()
            || is_scheduled;
        let mut broken = Vec::new();
        if model.is_stopped {
            broken.push((Law(14), "a fetch began after the stop".to_owned()));
        }
        let bucket = model.bucket.get_or_insert(FetchAllowance {
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
            && (model.requested || is_requested)
        {
            // A retry may begin sooner, if the bucket allows it.
            let is_early = model.last_request.is_some_and(|last| now - last + MS < SEC);
            if is_early && !bucket.draw(now) {
                let text = "two fetches for hints or requests within a second";
                broken.push((Law(16), text.to_owned()));
            }
            model.last_request = Some(now);
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
                    "a fetch for a rejection of another lease than the current one".to_owned(),
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
        model.requested = false;
        model.lost = false;
        model.jumped = None;
        model.last_fetch = Some(now);
        for (law, text) in broken {
            self.broken(law, node, text);
        }
    }

    /// Checks that after the close every lease is released or being released.
    pub(in crate::simulation) fn check_closed(&mut self, index: usize) {
        let provider = &self.providers[index];
        let mut left = provider
            .leases
            .keys()
            .filter(|lease| !provider.releases.contains(lease));
        if left.next().is_some() {
            let node = provider.node;
            self.broken(Law(14), node, "a lease was not released at the close");
        }
    }

    pub(in crate::simulation) fn check_after_jump(&mut self, index: usize) {
        let now = self.clocks.mono;
        let provider = &self.providers[index];
        let is_busy =
            provider.running().any(|fetch| !fetch.hangs) || provider.running().count() >= 3;
        if provider
            .model
            .jumped
            .is_some_and(|jumped| now > jumped + JUMP_SEEN && provider.actor.crashed_until < jumped)
            && !is_busy
            && !provider.model.is_stopped
            && !provider.machine.is_held()
        {
            let node = provider.node;
            self.broken(Law(8), node, "no fetch followed a clock jump");
        }
    }
}
