//! Events of the simulation, and their queue.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::database::SecretId;
use super::node::NodeId;
use crate::provider::machine::{FetchId, LeaseId};

/// Event in the queue. Events of a task carry the number of task losses at its start. If it has
/// changed since, the task was lost.
#[derive(Debug)]
pub(super) enum SimulatedEvent {
    /// An actor reconciles. `alarm` is the number of its timer, or `None` if it was woken.
    ProviderWake {
        node: NodeId,
        alarm: Option<u64>,
    },
    PoolWake {
        node: NodeId,
        alarm: Option<u64>,
    },
    Fetched {
        node: NodeId,
        losses: u32,
        fetch: FetchId,
    },
    FetchDeadline {
        node: NodeId,
        losses: u32,
        fetch: FetchId,
    },
    Released {
        node: NodeId,
        losses: u32,
        lease: LeaseId,
        hangs: bool,
    },
    Verified {
        node: NodeId,
        losses: u32,
        attempt: u64,
        hangs: bool,
    },
    Opened {
        node: NodeId,
        losses: u32,
        attempt: u64,
    },
    Probed {
        node: NodeId,
        generation: u64,
    },
    /// The login of a rehearsal ends.
    Rehearsed {
        node: NodeId,
        hangs: bool,
    },
    DrainDeadline {
        node: NodeId,
        losses: u32,
        generation: u64,
    },
    Call {
        node: NodeId,
    },
    CallerLeaves {
        node: NodeId,
        call: u64,
        cancelled: bool,
    },
    LoggedIn {
        node: NodeId,
        login: u64,
    },
    Returned {
        node: NodeId,
        call: u64,
    },
    CallersPoll {
        node: NodeId,
    },
    /// A caller of a pool outside bursts.
    Arrival {
        pool: usize,
    },
    /// A fault of this provider, its backend or its database.
    Fault {
        provider: usize,
    },
    Rotate {
        provider: usize,
        step: RotateStep,
    },
    Hint {
        provider: usize,
    },
    /// Callers log in repeatedly while new credentials expire early.
    RepeatLogins {
        provider: usize,
    },
    /// The tasks of a provider, or of its pools, are lost.
    Lose {
        provider: usize,
        pools: bool,
    },
    /// The host is suspended, or its clock is set.
    ClockFault,
    /// Heartbeat of every actor after a clock jump.
    Heartbeat,
    Operator,
    /// A rotation of this provider is rehearsed.
    Rehearse {
        provider: usize,
    },
    /// A pool is returned to its previous lease.
    RollBack {
        node: NodeId,
    },
    /// A provider is held again at once when it was resumed.
    HoldAgain {
        provider: usize,
    },
    /// The hold of a provider ends.
    Resume {
        node: NodeId,
    },
    Close {
        node: NodeId,
    },
    Remove {
        pool: usize,
    },
    Restart,
    CheckRecovery,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum RotateStep {
    Begin,
    /// The backend returns it.
    Backend(SecretId),
    /// The database accepts it, and no other.
    Database(SecretId),
    /// The database accepts the backend's current credential.
    Restore,
}

#[derive(Debug)]
struct Entry {
    at: u64,
    number: u64,
    event: SimulatedEvent,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// Events by time. Events at the same time keep the order in which they were added.
#[derive(Debug, Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Entry>,
    numbers: u64,
}

impl Queue {
    pub(super) fn add(&mut self, at: u64, event: SimulatedEvent) {
        self.numbers += 1;
        let number = self.numbers;
        self.heap.push(Entry { at, number, event });
    }

    pub(super) fn next(&mut self) -> Option<(u64, SimulatedEvent)> {
        self.heap.pop().map(|entry| (entry.at, entry.event))
    }
}
