//! What operators do: hold a provider, rehearse a rotation, and return a pool to its previous
//! lease.

use super::clock::{MIN, SEC};
use super::database::secret_of;
use super::event::SimulatedEvent;
use super::node::{NodeId, POOLS, PROVIDERS};
use super::pool::VERIFY_DEADLINE;
use super::pool::state::SimulatedRehearsal;
use super::world::World;
use crate::error::ConnectErrorKind;
use crate::pool::machine::PoolInput;
use crate::provider::machine::{LeaseId, ProviderInput, RequestId};
use crate::provider::schedule;

/// Margins before a lease's expiry at which a pool that was returned to it leaves it.
const MARGINS: u32 = 2;

impl World {
    /// Holds a provider for this time.
    pub(super) fn hold(&mut self, index: usize, held: u64) {
        let node = self.providers[index].node;
        self.feed_provider(index, ProviderInput::Hold);
        let resumes = self.clocks.mono + held;
        self.queue.add(resumes, SimulatedEvent::Resume { node });
        self.disturb(index, held);
        self.burst(index);
        self.checks.hazard("providers held", 1);
    }

    /// Plans some rehearsals of a provider.
    pub(super) fn plan_rehearsals(&mut self, index: usize) {
        for _ in 0..self.rng.u32(1..6) {
            let at = self.clocks.mono + self.rng.u64(..20 * SEC);
            let event = SimulatedEvent::Rehearse { provider: index };
            self.queue.add(at, event);
        }
    }

    pub(super) fn rehearse(&mut self, index: usize) {
        let provider = &mut self.providers[index];
        provider.next_request += 1;
        let request = RequestId(provider.next_request);
        provider.requests.insert(request);
        self.feed_provider(index, ProviderInput::Rehearse(request));
        self.checks.hazard("rehearsals requested", 1);
    }

    /// Lets one of the provider's pools log in with a rehearsed lease, or returns it.
    pub(super) fn rehearsed(&mut self, index: usize, lease: LeaseId) {
        let pool = index + PROVIDERS * self.rng.usize(..POOLS / PROVIDERS);
        let facts = self.providers[index].leases.get(&lease).cloned();
        let facts = facts.and_then(|facts| self.lease_facts(&facts));
        let now = self.clocks.now().mono();
        let one = &self.pools[pool];
        let is_member = one.provider == self.providers[index].node && !one.is_closed;
        let Some(facts) = facts.filter(|facts| {
            is_member
                && one.rehearsal.is_none()
                && one.machine.rehearsal_allowed_at(facts, now) <= now
        }) else {
            self.checks.hazard("rehearsals without a login", 1);
            return self.feed_provider(index, ProviderInput::LeaseReturned(lease));
        };
        let Some(permit) = one.rehearsal_permit() else {
            self.checks.hazard("rehearsals without room", 1);
            return self.feed_provider(index, ProviderInput::LeaseReturned(lease));
        };
        let node = one.node;
        let (takes, _) = self
            .db
            .latency(index, self.clocks.true_time(), &mut self.rng);
        let secret = secret_of(&facts.revision);
        let ends = self.clocks.mono + takes.min(VERIFY_DEADLINE);
        self.pools[pool].rehearsal = Some(SimulatedRehearsal {
            lease,
            secret,
            _permit: permit,
            ends,
        });
        self.feed_pool(pool, PoolInput::RehearsalBegins { lease: facts });
        self.checks
            .trace
            .line("rehearses", node, lease.0, secret as u64);
        let hangs = takes > VERIFY_DEADLINE;
        self.queue
            .add(ends, SimulatedEvent::Rehearsed { node, hangs });
        self.check_connections(pool);
    }

    /// Ends the login of a rehearsal.
    pub(super) fn rehearsal_logged_in(&mut self, node: NodeId, hangs: bool) {
        let index = node.index;
        let rehearsal = self.pools[index].rehearsal.as_ref();
        let Some(rehearsal) = rehearsal.filter(|one| one.ends == self.clocks.mono) else {
            return;
        };
        let secret = rehearsal.secret;
        let result = self.log_in(index, secret, hangs);
        let rejected = result == Err(ConnectErrorKind::Rejected);
        self.checks.hazard("rehearsals", 1);
        self.checks
            .hazard("rehearsals rejected", u64::from(rejected));
        self.end_rehearsal(index, rejected);
        self.leave(index);
    }

    /// Ends a rehearsal's use of its lease.
    pub(super) fn end_rehearsal(&mut self, index: usize, rejected: bool) {
        if let Some(rehearsal) = self.pools[index].rehearsal.take() {
            self.feed_pool(index, PoolInput::RehearsalEnded { rejected });
            self.return_lease(index, rehearsal.lease);
        }
    }

    /// Plans the return of the provider's pools to their previous leases.
    pub(super) fn plan_roll_backs(&mut self, index: usize) {
        for pool in self.subscribers(index) {
            let at = self.clocks.mono + self.rng.u64(SEC..5 * MIN);
            let node = self.pools[pool].node;
            self.queue.add(at, SimulatedEvent::RollBack { node });
        }
    }

    /// Returns a pool to its previous lease, if that is possible.
    pub(super) fn roll_back(&mut self, index: usize) {
        let (pool, provider) = (&self.pools[index], self.pools[index].provider.index);
        let upstream = &self.providers[provider];
        let current = upstream.current().map(|(_, facts)| &facts.revision);
        let lease = pool.machine.previous_lease(current).ok().cloned();
        let unreleased = lease.as_ref().filter(|_| upstream.node == pool.provider);
        let unreleased = unreleased.and_then(|one| upstream.machine.unreleased_with(&one.revision));
        let (Some(lease), Some((id, lifetime))) = (lease, unreleased) else {
            return self.checks.hazard("rollbacks without a lease", 1);
        };
        let margin = lifetime.map(schedule::drain_margin).unwrap_or_default();
        let until = lease.expiry.earlier_by(MARGINS * margin);
        let now = self.clocks.now();
        if until.is_expired(now) {
            return self.checks.hazard("rollbacks to a lease that expires", 1);
        }
        let taken = ProviderInput::LeaseTaken(id);
        let _no_effects = self.providers[provider].machine.handle(taken, now);
        self.pools[index].rolling_back = Some(id);
        self.feed_pool(index, PoolInput::RollBack { lease, until });
        self.wake_pool(index);
    }

    /// Holds the provider for a while, once the pool's previous lease is published.
    pub(super) fn finish_roll_back(&mut self, index: usize) {
        if !self.pools[index].machine.is_rolled_back() {
            return;
        }
        let Some(lease) = self.pools[index].rolling_back.take() else {
            return;
        };
        let provider = self.pools[index].provider.index;
        let held = self.rng.u64(SEC..30 * MIN);
        self.hold(provider, held);
        let hold = self.providers[provider].machine.hold_number();
        self.feed_pool(index, PoolInput::Hold(hold));
        self.leave_rotation(index);
        self.return_lease(index, lease);
        self.checks.hazard("pools rolled back", 1);
        if self.rng.bool() {
            // Without a wake of the pool in between.
            self.queue.add(
                self.clocks.mono + held,
                SimulatedEvent::HoldAgain { provider },
            );
        }
    }

    /// Ends a rollback whose provider is no longer in the hold that began with it.
    pub(super) fn reconcile_roll_back(&mut self, index: usize) {
        let pool = &self.pools[index];
        if pool.machine.is_rolled_back() && !pool.machine.is_reporting() {
            let hold = self.providers[pool.provider.index].machine.hold_number();
            self.feed_pool(index, PoolInput::Hold(hold));
            let ends = !self.pools[index].machine.is_rolled_back();
            self.checks
                .hazard("rollbacks that a resume ended", u64::from(ends));
        }
    }

    /// Returns the lease of a rollback that was not published.
    pub(super) fn end_roll_back(&mut self, index: usize) {
        if !self.pools[index].machine.has_rollback()
            && let Some(lease) = self.pools[index].rolling_back.take()
        {
            self.checks.hazard("rollbacks that failed", 1);
            self.return_lease(index, lease);
        }
    }
}
