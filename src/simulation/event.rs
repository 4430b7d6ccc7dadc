//! What is yet to happen.

use super::database::SecretId;
use crate::provider::machine::{FetchId, LeaseId};

/// A provider or pool: its place, and which one of those that had this place it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NodeId {
    pub(super) at: usize,
    pub(super) incarnation: u32,
}

/// Events of tasks carry the number of task losses so far: a lost task does nothing.
#[derive(Debug)]
pub(super) enum SimulatedEvent {
    /// An actor reconciles; `alarm` is the number of its timer, or none if it was woken.
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
    Pump {
        node: NodeId,
    },
    /// A pool's next idle caller.
    Arrival {
        pool: usize,
    },
    /// A fault of this provider's backend or database, a change of its credential.
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
    /// While a backend's credentials stop working after a time, callers log in again and again.
    RepeatLogins {
        provider: usize,
    },
    /// The tasks of a provider, or of its pools, are lost.
    Lose {
        provider: usize,
        pools: bool,
    },
    ClockFault,
    /// Every actor's, in the time after a clock jump.
    Heartbeat,
    Operator,
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
    /// The backend has it.
    Backend(SecretId),
    /// The database accepts it, and not the one before.
    Database(SecretId),
    /// The database accepts what the backend has.
    Restore,
}
