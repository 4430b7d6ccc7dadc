//! State of a simulated pool.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::super::database::{SecretId, secret_of};
use super::super::models::{MachineState, PoolModel};
use super::super::node::{ActorState, NodeId};
use crate::clock::Timestamp;
use crate::expiry::Expiry;
use crate::lease::OldConnections;
use crate::pool::HandoverPolicy;
use crate::pool::admission::{Admission, Permit, RehearsalPermit};
use crate::pool::machine::{LeaseFacts, PoolMachine};
use crate::provider::machine::LeaseId;
use crate::report::HandoverMode;
use crate::rotation::Rotation;

pub(in crate::simulation) const DRAIN_DEADLINE: Duration = Duration::from_secs(60);

/// Number of connections, which the admission control reads.
pub(in crate::simulation) type ConnectionCount = Arc<AtomicU32>;

/// Database pool of one or more generations.
#[derive(Debug, Default)]
pub(in crate::simulation) struct Instance {
    pub(in crate::simulation) count: ConnectionCount,
    /// Secret that each idle connection was opened with.
    pub(in crate::simulation) idle: Vec<SecretId>,
    pub(in crate::simulation) is_closing: bool,
}

/// The current generation.
#[derive(Clone, Copy, Debug)]
pub(in crate::simulation) struct Current {
    pub(in crate::simulation) generation: u64,
    pub(in crate::simulation) instance: u64,
    pub(in crate::simulation) secret: SecretId,
    pub(in crate::simulation) expiry: Expiry,
    pub(in crate::simulation) old: OldConnections,
    pub(in crate::simulation) connections_until: Expiry,
    pub(in crate::simulation) is_rejected: bool,
    pub(in crate::simulation) is_unverified: bool,
    /// When it was published.
    pub(in crate::simulation) since: u64,
}

#[derive(Debug)]
pub(in crate::simulation) struct SimulatedDrain {
    pub(in crate::simulation) instance: u64,
    pub(in crate::simulation) secret: SecretId,
    pub(in crate::simulation) deadline: Option<u64>,
    pub(super) is_overdue: bool,
}

/// An attempt whose task runs.
pub(super) struct SimulatedAttempt {
    pub(super) number: u64,
    pub(super) lease: LeaseId,
    pub(super) facts: LeaseFacts,
    pub(super) lifetime: Option<Duration>,
    pub(super) rotation: Option<Arc<Rotation>>,
    pub(super) permit: Option<Permit<ConnectionCount>>,
    pub(super) began: u64,
    pub(super) opening: Option<Opening>,
}

/// The login of a rehearsal.
pub(in crate::simulation) struct SimulatedRehearsal {
    pub(in crate::simulation) lease: LeaseId,
    pub(in crate::simulation) secret: SecretId,
    /// Held until its login ends.
    pub(in crate::simulation) _permit: RehearsalPermit<ConnectionCount>,
    /// When its login ends.
    pub(in crate::simulation) ends: u64,
}

pub(super) struct Opening {
    pub(super) instance: u64,
    pub(super) mode: HandoverMode,
    /// Connections to open before publication. If there are none, one login may try the lease out.
    pub(super) ahead: u32,
    pub(super) verifies_as_pool: bool,
}

/// A caller that waits for a connection, or uses one.
#[derive(Debug)]
pub(in crate::simulation) struct SimulatedCall {
    pub(in crate::simulation) start: u64,
    pub(in crate::simulation) deadline: u64,
    pub(in crate::simulation) login: Option<u64>,
    /// Its connection: instance, generation and secret.
    pub(in crate::simulation) holds: Option<(u64, u64, SecretId)>,
    /// Whether a generation was usable when the call began.
    pub(in crate::simulation) was_usable: bool,
}

/// A login of a caller, which may outlast the call.
pub(in crate::simulation) struct Login {
    pub(in crate::simulation) generation: u64,
    pub(in crate::simulation) instance: u64,
    pub(in crate::simulation) secret: SecretId,
    pub(in crate::simulation) began: u64,
    pub(in crate::simulation) call: u64,
    pub(in crate::simulation) call_left: Option<u64>,
    pub(in crate::simulation) permit: Option<Permit<ConnectionCount>>,
}

pub(in crate::simulation) struct SimulatedPool {
    pub(in crate::simulation) node: NodeId,
    pub(in crate::simulation) name: Arc<str>,
    pub(in crate::simulation) provider: NodeId,
    pub(in crate::simulation) machine: PoolMachine,
    pub(in crate::simulation) admission: Arc<Admission<ConnectionCount>>,
    pub(in crate::simulation) max: u32,
    pub(in crate::simulation) overlap: u32,
    pub(super) warm: u32,
    pub(super) policy: HandoverPolicy,
    pub(in crate::simulation) leases: BTreeMap<u64, (LeaseId, SecretId)>,
    pub(in crate::simulation) instances: BTreeMap<u64, Instance>,
    pub(super) next_instance: u64,
    pub(in crate::simulation) current: Option<Current>,
    pub(in crate::simulation) drains: BTreeMap<u64, SimulatedDrain>,
    pub(super) attempt: Option<SimulatedAttempt>,
    pub(in crate::simulation) rehearsal: Option<SimulatedRehearsal>,
    /// Lease of a rollback that is not published.
    pub(in crate::simulation) rolling_back: Option<LeaseId>,
    pub(in crate::simulation) calls: BTreeMap<u64, SimulatedCall>,
    pub(in crate::simulation) waiting: VecDeque<u64>,
    pub(in crate::simulation) logins: BTreeMap<u64, Login>,
    pub(in crate::simulation) numbers: u64,
    pub(in crate::simulation) next_poll: Option<u64>,
    pub(in crate::simulation) pace: u64,
    pub(in crate::simulation) last_login_worked: Option<u64>,
    pub(super) losses: u32,
    pub(in crate::simulation) actor: ActorState,
    pub(in crate::simulation) is_closed: bool,
    pub(in crate::simulation) has_subscribed: bool,
    /// When it was added.
    pub(in crate::simulation) since: u64,
    /// When it was removed.
    pub(in crate::simulation) closed_at: u64,
    pub(in crate::simulation) model: PoolModel,
}

impl SimulatedPool {
    pub(in crate::simulation) fn new(
        node: NodeId,
        provider: NodeId,
        (now, since): (Timestamp, u64),
        rng: &mut fastrand::Rng,
    ) -> Self {
        let max = rng.u32(2..13);
        let overlap = (max / 4).max(1);
        let count = |count: &ConnectionCount| count.load(Ordering::Relaxed);
        Self {
            node,
            name: format!("pool-{}", node.index).into(),
            provider,
            machine: PoolMachine::new(max, DRAIN_DEADLINE, rng.u64(..), now),
            admission: Admission::new(max, overlap, Arc::new(count)),
            max,
            overlap,
            warm: rng.u32(0..=max),
            policy: match rng.u8(..4) {
                0 => HandoverPolicy::AlwaysReplace,
                _ => HandoverPolicy::AsLeased,
            },
            leases: BTreeMap::new(),
            instances: BTreeMap::new(),
            next_instance: 0,
            current: None,
            drains: BTreeMap::new(),
            attempt: None,
            rehearsal: None,
            rolling_back: None,
            calls: BTreeMap::new(),
            waiting: VecDeque::new(),
            logins: BTreeMap::new(),
            numbers: 0,
            next_poll: None,
            pace: 0,
            last_login_worked: None,
            losses: 0,
            actor: ActorState::default(),
            is_closed: false,
            has_subscribed: true,
            since,
            closed_at: u64::MAX / 2,
            model: PoolModel::default(),
        }
    }

    /// Returns what a crash of the actor must not change.
    pub(in crate::simulation) fn machine_state(&self) -> MachineState {
        let active = self.machine.current();
        let lease = active.map(|active| (active.generation, &active.lease));
        MachineState {
            lease: lease.map(|(number, lease)| (number, lease.revision.clone(), lease.expiry)),
            is_busy: self.machine.has_attempt(),
            deadline: self.machine.next_deadline(),
        }
    }

    pub(in crate::simulation) fn has_attempt(&self) -> bool {
        self.attempt.is_some()
    }

    pub(in crate::simulation) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(in crate::simulation) fn count(&self, instance: u64) -> u32 {
        self.instances
            .get(&instance)
            .map_or(0, |instance| instance.count.load(Ordering::Relaxed))
    }

    /// Returns the number of connections, including that of a verification with a permit.
    pub(in crate::simulation) fn connections(&self) -> u32 {
        let pooled: u32 = self
            .instances
            .keys()
            .map(|instance| self.count(*instance))
            .sum();
        let verification = self
            .attempt
            .as_ref()
            .is_some_and(|attempt| attempt.permit.is_some());
        pooled + u32::from(verification) + u32::from(self.rehearsal.is_some())
    }

    pub(super) fn running_attempt(
        &mut self,
        losses: u32,
        number: u64,
    ) -> Option<&mut SimulatedAttempt> {
        self.attempt
            .as_mut()
            .filter(|attempt| self.losses == losses && attempt.number == number)
    }

    /// Returns a permit for a verification, if there is room.
    pub(in crate::simulation) fn verification_permit(&self) -> Option<Permit<ConnectionCount>> {
        self.admission.enter_verification(&self.current_count())
    }

    /// Returns a permit for the login of a rehearsal, if there is room.
    pub(in crate::simulation) fn rehearsal_permit(
        &self,
    ) -> Option<RehearsalPermit<ConnectionCount>> {
        self.admission.enter_rehearsal(&self.current_count())
    }

    fn current_count(&self) -> ConnectionCount {
        let current = self.current;
        let instance = current.and_then(|current| self.instances.get(&current.instance));
        let count = instance.map(|instance| Arc::clone(&instance.count));
        count.unwrap_or_default()
    }

    /// Returns the secret of the running attempt's lease.
    pub(in crate::simulation) fn attempted(&self) -> Option<SecretId> {
        self.attempt
            .as_ref()
            .map(|attempt| secret_of(&attempt.facts.revision))
    }
}
