//! State of a simulated provider.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::super::database::{SecretId, secret_of};
use super::super::models::{MachineState, ProviderModel};
use super::super::node::{ActorState, NodeId};
use crate::clock::Timestamp;
use crate::lease::Revision;
use crate::provider::machine::{
    Facts, FetchId, LeaseId, ProviderInput, ProviderMachine, RequestId, RotationId,
};
use crate::rotation::Rotation;

const POLL: Duration = Duration::from_secs(300);
/// Time for which every other incarnation keeps superseded leases.
const KEPT: Duration = Duration::from_secs(600);

/// A fetch whose task runs.
#[derive(Debug)]
pub(in crate::simulation) struct SimulatedFetch {
    pub(super) started: Timestamp,
    pub(super) rejected: Arc<[Revision]>,
    /// Whether it only renews the current lease.
    pub(super) renews: bool,
    pub(in crate::simulation) hangs: bool,
}

#[derive(Debug)]
pub(in crate::simulation) struct SimulatedProvider {
    pub(in crate::simulation) node: NodeId,
    pub(super) name: Arc<str>,
    pub(in crate::simulation) machine: ProviderMachine,
    /// Values of the leases.
    pub(in crate::simulation) leases: BTreeMap<LeaseId, Facts>,
    pub(in crate::simulation) rotations: BTreeMap<RotationId, Arc<Rotation>>,
    pub(in crate::simulation) requests: BTreeSet<RequestId>,
    pub(in crate::simulation) next_request: u64,
    pub(in crate::simulation) fetches: BTreeMap<FetchId, SimulatedFetch>,
    /// Fetches whose leases are rehearsed, also those that have ended.
    pub(in crate::simulation) rehearsals: BTreeSet<FetchId>,
    pub(in crate::simulation) releases: BTreeSet<LeaseId>,
    pub(in crate::simulation) losses: u32,
    pub(in crate::simulation) actor: ActorState,
    pub(in crate::simulation) is_closed: bool,
    pub(in crate::simulation) model: ProviderModel,
}

impl SimulatedProvider {
    pub(in crate::simulation) fn new(node: NodeId, now: Timestamp) -> Self {
        let keeps = node.incarnation.is_multiple_of(2);
        let kept_for = if keeps { KEPT } else { Duration::ZERO };
        Self {
            node,
            name: format!("provider-{}", node.index).into(),
            machine: ProviderMachine::new(POLL, now).with_previous_lease_kept_for(kept_for),
            leases: BTreeMap::new(),
            rotations: BTreeMap::new(),
            requests: BTreeSet::new(),
            next_request: 0,
            fetches: BTreeMap::new(),
            rehearsals: BTreeSet::new(),
            releases: BTreeSet::new(),
            losses: 0,
            actor: ActorState::default(),
            is_closed: false,
            model: ProviderModel::default(),
        }
    }

    /// Returns the current lease.
    pub(in crate::simulation) fn current(&self) -> Option<(LeaseId, &Facts)> {
        let (id, _) = self.machine.current()?;
        Some((id, self.leases.get(&id)?))
    }

    /// Returns what a crash of the actor must not change.
    pub(in crate::simulation) fn machine_state(&self) -> MachineState {
        let lease = self.machine.current();
        MachineState {
            lease: lease.map(|(id, facts)| (id.0, facts.revision.clone(), facts.expiry)),
            is_busy: self.machine.is_fetching(),
            deadline: self.machine.next_deadline(),
        }
    }

    /// Returns whether the input is about the fetch of a rehearsal.
    pub(in crate::simulation) fn is_rehearsal(&self, input: &ProviderInput) -> bool {
        match input {
            ProviderInput::FetchDone { fetch, .. }
            | ProviderInput::FetchHangs { fetch, .. }
            | ProviderInput::FetchLate { fetch, .. }
            | ProviderInput::FetchLost(fetch) => self.rehearsals.contains(fetch),
            _ => false,
        }
    }

    /// Returns the fetches that run, except that of a rehearsal.
    pub(in crate::simulation) fn running(&self) -> impl Iterator<Item = &SimulatedFetch> {
        let fetches = self.fetches.iter();
        let fetches = fetches.filter(|(fetch, _)| !self.rehearsals.contains(fetch));
        fetches.map(|(_, running)| running)
    }

    pub(in crate::simulation) fn secret(&self) -> Option<SecretId> {
        self.current().map(|(_, facts)| secret_of(&facts.revision))
    }
}
