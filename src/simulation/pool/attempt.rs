//! Attempts: verification, opening, publication.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::VERIFY_DEADLINE;
use super::state::{Current, Instance, Opening, SimulatedAttempt};
use crate::error::ConnectErrorKind;
use crate::lease::Revision;
use crate::pool::machine::{PoolEffect, PoolInput};
use crate::provider::machine::ProviderInput;
use crate::report::{HandoverMode, HandoverReport};
use crate::simulation::clock::{MS, SEC};
use crate::simulation::database::{SecretId, revision, secret_of};
use crate::simulation::event::SimulatedEvent;
use crate::simulation::node::NodeId;
use crate::simulation::world::World;

impl World {
    pub(super) fn start_attempt(&mut self, index: usize, number: u64, revision: &Revision) {
        let provider = self.pools[index].provider.index;
        let rolls_back = self.pools[index].machine.rolls_back_to(revision);
        let machine = &self.providers[provider].machine;
        let (lease, lifetime) = if rolls_back {
            machine.unreleased_with(revision).unzip()
        } else {
            let current = machine.current();
            let current = current.filter(|(_, facts)| facts.revision == *revision);
            (current.map(|(lease, _)| lease), Some(machine.lifetime()))
        };
        let facts = lease.and_then(|lease| self.providers[provider].leases.get(&lease));
        let facts = facts.and_then(|facts| self.lease_facts(facts));
        let (Some(facts), Some(lease), Some(lifetime)) = (facts, lease, lifetime) else {
            self.feed_pool(index, PoolInput::Lost { attempt: number });
            return;
        };
        let now = self.clocks.now();
        let taken = ProviderInput::LeaseTaken(lease);
        let _no_effects = self.providers[provider].machine.handle(taken, now);
        self.attempt_starts(index, &facts);
        let true_time = self.clocks.true_time();
        let (takes, _) = self.db.latency(provider, true_time, &mut self.rng);
        let rotation = self.open_rotation(provider).filter(|_| !rolls_back);
        let pool = &mut self.pools[index];
        let permit = pool.verification_permit();
        let waits = if permit.is_some() { 0 } else { SEC };
        let node = pool.node;
        self.checks
            .trace
            .line("attempt", node, number, secret_of(revision) as u64);
        let began = self.clocks.mono;
        pool.attempt = Some(SimulatedAttempt {
            number,
            lease,
            facts,
            lifetime,
            rotation,
            permit,
            began,
            opening: None,
        });
        if std::mem::take(&mut self.lose[provider].1) {
            let soon = began + self.rng.u64(..60 * MS);
            self.queue.add(
                soon,
                SimulatedEvent::Lose {
                    provider,
                    pools: true,
                },
            );
        }
        let pool = &mut self.pools[index];
        let hangs = takes > VERIFY_DEADLINE;
        let at = began + waits + takes.min(VERIFY_DEADLINE);
        let losses = pool.losses;
        let event = SimulatedEvent::Verified {
            node,
            losses,
            attempt: number,
            hangs,
        };
        self.queue.add(at, event);
        self.check_connections(node.index);
    }

    pub(in crate::simulation) fn verified(
        &mut self,
        node: NodeId,
        losses: u32,
        number: u64,
        hangs: bool,
    ) {
        let index = node.index;
        let Some(attempt) = self.pools[index].running_attempt(losses, number) else {
            return;
        };
        attempt.permit = None;
        let secret = secret_of(&attempt.facts.revision);
        if let Err(kind) = self.log_in(index, secret, hangs) {
            return self.attempt_failed(index, number, kind);
        }
        self.pools[index].model.verified = Some((number, secret));
        let effects = self.feed_pool(index, PoolInput::Verified { attempt: number });
        if !effects.contains(&PoolEffect::Open) {
            self.checked_again(index, secret);
            self.end_attempt(index);
            self.wake_pool(index);
            return;
        }
        self.open(index, number, secret);
    }

    /// Logs in for a verification, an opened connection or a probe.
    pub(in crate::simulation) fn log_in(
        &mut self,
        index: usize,
        secret: SecretId,
        hangs: bool,
    ) -> Result<(), ConnectErrorKind> {
        if hangs {
            return Err(ConnectErrorKind::Unreachable);
        }
        let true_time = self.clocks.true_time();
        let result = self.db.login(secret, true_time, &mut self.rng);
        match result {
            Err(ConnectErrorKind::Rejected) => self.login_failed(index, secret, false),
            Err(_) => self.checks.hazard("logins that failed otherwise", 1),
            Ok(()) => self.login_worked(),
        }
        result
    }

    pub(super) fn open(&mut self, index: usize, number: u64, secret: SecretId) {
        let true_time = self.clocks.true_time();
        let provider = self.pools[index].provider.index;
        let (takes, hangs) = self.db.latency(provider, true_time, &mut self.rng);
        let pool = &mut self.pools[index];
        let is_same = pool.current.is_some_and(|current| current.secret == secret);
        let tries_in_place = pool.machine.tries_in_place(&revision(secret), pool.policy);
        let in_place = pool.current.filter(|_| tries_in_place);
        let (instance, mode, ahead) = match in_place {
            Some(current) => (current.instance, HandoverMode::InPlace, 0),
            None => {
                pool.next_instance += 1;
                pool.instances
                    .insert(pool.next_instance, Instance::default());
                let has_old = pool.admission.has_old();
                let ahead = pool
                    .machine
                    .ahead_of_demand(has_old, pool.warm, pool.overlap);
                (pool.next_instance, HandoverMode::Replace, ahead)
            }
        };
        if let Some(opened) = pool.instances.get(&instance) {
            opened.count.fetch_add(ahead, Ordering::Relaxed);
        }
        let opening = Opening {
            instance,
            mode,
            ahead,
            verifies_as_pool: ahead == 0 && !is_same,
        };
        let has_logins = ahead > 0 || opening.verifies_as_pool;
        let (node, losses) = (pool.node, pool.losses);
        let permit = opening
            .verifies_as_pool
            .then(|| pool.verification_permit())
            .flatten();
        if let Some(attempt) = pool.attempt.as_mut() {
            (attempt.permit, attempt.opening) = (permit, Some(opening));
        }
        let takes = match has_logins {
            true if hangs || takes > VERIFY_DEADLINE => VERIFY_DEADLINE,
            true => takes,
            false => 0,
        };
        let opened = SimulatedEvent::Opened {
            node,
            losses,
            attempt: number,
        };
        self.queue.add(self.clocks.mono + takes, opened);
        self.check_connections(index);
    }

    pub(in crate::simulation) fn opened(&mut self, node: NodeId, losses: u32, number: u64) {
        let index = node.index;
        let Some(attempt) = self.pools[index].running_attempt(losses, number) else {
            return;
        };
        attempt.permit = None;
        let Some(Opening {
            instance,
            mode,
            ahead,
            verifies_as_pool,
        }) = attempt.opening.take()
        else {
            return;
        };
        let facts = attempt.facts.clone();
        let secret = secret_of(&facts.revision);
        let logins = ahead.max(u32::from(verifies_as_pool));
        for _ in 0..logins {
            if let Err(kind) = self.log_in(index, secret, false) {
                if mode == HandoverMode::Replace {
                    self.pools[index].instances.remove(&instance);
                }
                return self.attempt_failed(index, number, kind);
            }
        }
        let lifetime = self.pools[index]
            .attempt
            .as_ref()
            .and_then(|attempt| attempt.lifetime);
        let input = PoolInput::Opened {
            attempt: number,
            mode,
            lifetime,
        };
        let old = self.pools[index].current;
        let effects = self.feed_pool(index, input);
        let publication = effects.into_iter().find_map(|effect| match effect {
            PoolEffect::Publish(publication) => Some(publication),
            _ => None,
        });
        let Some(publication) = publication else {
            if mode == HandoverMode::Replace {
                self.pools[index].instances.remove(&instance);
            }
            self.end_attempt(index);
            return self.wake_pool(index);
        };
        let now = self.clocks.now();
        let pool = &mut self.pools[index];
        let Some(attempt) = pool.attempt.take() else {
            return;
        };
        let generation = publication.generation;
        pool.leases.insert(generation, (attempt.lease, secret));
        if publication.after_rejection {
            pool.admission.give_head_start(now.mono());
        }
        if let (Some(replaced), Some(old)) = (publication.replaced, old) {
            let count = pool
                .instances
                .get(&old.instance)
                .map(|instance| Arc::clone(&instance.count));
            pool.admission
                .begin_drain(replaced, count.unwrap_or_default());
            self.begin_drain(index, old);
        }
        let pool = &mut self.pools[index];
        pool.admission
            .set_current(generation, Arc::from(""), publication.limited);
        // The lease may have been extended since the attempt began.
        let expiry = pool
            .machine
            .current()
            .map_or(facts.expiry, |active| active.lease.expiry);
        pool.current = Some(Current {
            generation,
            instance,
            secret,
            expiry,
            old: facts.old_connections,
            connections_until: facts.connections_until(self.clocks.now()),
            is_rejected: false,
            is_unverified: false,
            since: self.clocks.mono,
        });
        if let Some(opened) = pool.instances.get_mut(&instance) {
            opened.idle.extend((0..ahead).map(|_| secret));
        }
        self.checks
            .trace
            .line("published", node, generation, secret as u64);
        self.published(index, number, secret, old);
        let effects = self.feed_pool(index, PoolInput::StartDrains);
        self.start_tasks(index, effects);
        self.wake_callers(index);
        let report = HandoverReport {
            pool: Arc::clone(&self.pools[index].name),
            generation,
            mode,
            verify: Duration::ZERO,
            open: Duration::ZERO,
            warm: Duration::ZERO,
            took: Duration::from_micros(self.clocks.mono - attempt.began),
        };
        if let Some(rotation) = &attempt.rotation {
            rotation.handed_over(report, &facts.revision.digest());
        }
        self.finish_roll_back(index);
        self.feed_pool(index, PoolInput::Reported { attempt: number });
        let provider = self.pools[index].provider.index;
        self.verified_upstream(provider, &facts.revision, &facts.account);
        if let Some(rotation) = &attempt.rotation {
            self.pool_done(provider, rotation);
        }
        self.wake_pool(index);
        self.check_connections(index);
    }

    pub(super) fn verified_upstream(
        &mut self,
        provider: usize,
        revision: &Revision,
        account: &Arc<str>,
    ) {
        self.notify_pools_of_login(provider, revision, account);
        self.feed_provider(provider, ProviderInput::Verified(revision.clone()));
    }

    pub(super) fn end_attempt(&mut self, index: usize) {
        if let Some(attempt) = self.pools[index].attempt.take() {
            self.return_lease(index, attempt.lease);
        }
    }

    pub(super) fn attempt_failed(&mut self, index: usize, attempt: u64, kind: ConnectErrorKind) {
        self.checks
            .trace
            .line(kind.as_str(), self.pools[index].node, attempt, 0);
        self.feed_pool(index, PoolInput::Failed { attempt, kind });
        self.end_attempt(index);
        self.wake_pool(index);
        self.wake_callers(index);
    }
}
