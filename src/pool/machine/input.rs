//! Inputs and effects of the machine: plain values.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::Timestamp;
use crate::error::ConnectErrorKind;
use crate::expiry::Expiry;
use crate::lease::{OldConnections, Revision};
use crate::provider::schedule;
use crate::report::HandoverMode;

/// Facts about a lease that the machine needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeaseFacts {
    pub(crate) revision: Revision,
    /// Database user and server, as the factory returns them.
    pub(crate) account: Arc<str>,
    pub(crate) expiry: Expiry,
    pub(crate) old_connections: OldConnections,
    /// Time at which the server ends connections that do not authenticate again.
    pub(crate) connection_expiry: Expiry,
}

impl LeaseFacts {
    /// Returns the time until which open connections are handed out. Connections that authenticate
    /// again are not used in the last minute before their end, so that no command is interrupted.
    pub(crate) fn connections_until(&self, now: Timestamp) -> Expiry {
        let end = self.connection_expiry;
        match (self.old_connections, end.remaining(now)) {
            (OldConnections::EndWithLease, _) => end,
            (OldConnections::Reauthenticate, Some(left)) => {
                end.earlier_by(schedule::drain_margin(left))
            }
            _ => Expiry::never(),
        }
    }
}

/// Purpose of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Verifies the active lease, and publishes nothing.
    Check,
    /// Verifies a lease, and publishes a generation that serves it.
    HandOver,
}

/// Result of a probe of an idle connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProbeResult {
    /// The role exists.
    Passed,
    /// The role does not exist any more.
    Rejected,
    /// No connection was idle, and the login in the probe's place was rejected.
    LoginRejected,
    /// The probe failed otherwise, or there was no room for it.
    Unknown,
}

/// Event that the machine handles.
#[derive(Clone, Debug)]
pub(crate) enum PoolInput {
    /// The driver reconciles; `lease` is the provider's current one. Only this input starts
    /// attempts and probes.
    Wake { lease: Option<LeaseFacts> },
    /// The attempt's verification succeeded.
    Verified { attempt: u64 },
    /// The attempt's pool is open and warm; it is not needed unless `Publish` follows. `lifetime`
    /// is the lease's, from its fetch to its expiry.
    Opened {
        attempt: u64,
        mode: HandoverMode,
        lifetime: Option<Duration>,
    },
    /// The attempt's handover is in its rotation's report.
    Reported { attempt: u64 },
    /// Further logins of the attempt were rejected, beyond the one that [`Failed`](Self::Failed)
    /// counts.
    MoreRejected { attempt: u64, logins: u32 },
    /// The attempt failed, at whichever step.
    Failed {
        attempt: u64,
        kind: ConnectErrorKind,
    },
    /// The attempt has no task any more.
    Lost { attempt: u64 },
    /// The database rejected a caller of this generation, without a login.
    CallerRejected { generation: u64 },
    /// The database rejected a caller's login.
    LoginRejected { generation: u64 },
    /// A caller's login worked.
    LoginWorked { generation: u64 },
    /// A login outlasted its caller, or ended with an error that every login may get.
    LoginUnknown { generation: u64 },
    /// A login of another pool worked with this revision, as this account.
    VerifiedElsewhere {
        revision: Revision,
        account: Arc<str>,
    },
    /// The server ended a connection, or a statement failed as if its role were dropped.
    Unverified { generation: u64 },
    /// The probe of this generation ended.
    Probed {
        generation: u64,
        result: ProbeResult,
    },
    /// A rehearsal logs in with this lease. There is one at a time, and its logins are allowed.
    RehearsalBegins { lease: LeaseFacts },
    /// The rehearsal's logins have ended, perhaps with a rejection.
    RehearsalEnded { rejected: bool },
    /// An operator returns the pool to this lease, the previous one, until this time at most.
    RollBack { lease: LeaseFacts, until: Expiry },
    /// The rollback has taken too long. Ignored while its attempt runs.
    AbandonRollBack,
    /// The provider is in its hold with this number, or it is not held. Another hold than the one
    /// that began with the rollback ends it, and the pool follows the provider's current lease
    /// again.
    Hold(Option<u64>),
    /// Drains without a task are to be started.
    StartDrains,
    /// The drain deadline has passed, or a shutdown does not wait any longer.
    DrainOverdue { generation: u64, connections: u32 },
    /// The drain has no task any more.
    DrainLost { generation: u64 },
    /// The last connection of this generation has closed.
    Drained { generation: u64 },
    /// The pool is removed, or the supervisor shuts down.
    Close,
}

/// Action for the driver to carry out. Each is carried out in one or two of these places:
///
/// - `SlotState::handle`, under the lock: what must be visible together with the machine's state;
/// - `PoolSlot::carry_out`, after the lock is released;
/// - `PoolSlot::start_tasks`, which starts a task for it;
/// - the task that fed the input, because it has the values: an attempt or a drain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PoolEffect {
    /// Wakes the actor and all waiting tasks: something may be due. By `carry_out`.
    Wake,
    /// Verifies the provider's current lease in a task, if it still has this revision. By
    /// `start_tasks`.
    StartAttempt {
        attempt: u64,
        revision: Revision,
        purpose: Purpose,
    },
    /// Opens a pool for the attempt's verified lease, or updates the current one. By the attempt
    /// (`verify_and_hand_over`), which fed `Verified`.
    Open,
    /// Makes this generation the current one. By the attempt (`publish`), which fed `Opened`.
    Publish(Publication),
    /// Lets only this number of callers log in at a time, until then, because other logins may use
    /// up the login budget. By `handle`.
    LimitLogins { width: u32, until: Instant },
    /// Publishes the generation's later expiry. By `handle`; `carry_out` notifies the callers.
    Extend { generation: u64, expiry: Expiry },
    /// Prevents further logins to this generation. By `carry_out`; `handle` stores the error.
    Reject { generation: u64 },
    /// Logs that the lease was not verified. `is_early`: the database may not have the new password
    /// yet. By `carry_out`; `handle` stores the error.
    ReportFailure { revision: Revision, is_early: bool },
    /// Reports to the provider that the database rejects this revision. By `carry_out`.
    ReportRejected { revision: Revision },
    /// Notifies the provider's pools that a login with this revision worked, but not the provider's
    /// machine. By `carry_out`.
    NotifyPoolsOfLogin {
        revision: Revision,
        account: Arc<str>,
    },
    /// Reports that the pool serves the provider's current lease, so that its rotation no longer
    /// waits for the pool. By `carry_out`.
    ReportServing { revision: Revision },
    /// Probes an idle connection of this generation in a task. By `start_tasks`.
    Probe { generation: u64 },
    /// Probes connections of this generation before they are handed out. By `handle`.
    ProbeBeforeUse { generation: u64 },
    /// Reverts `ProbeBeforeUse`. By `handle`.
    StopProbing { generation: u64 },
    /// Drains this generation in a task, which reports its end or a passed deadline. By
    /// `start_tasks`.
    StartDrain {
        generation: u64,
        since: Instant,
        deadline: Instant,
    },
    /// Reports that connections outlive their drain deadline. By the drain (`report_overdue`),
    /// which fed `DrainOverdue`.
    ReportAbandoned { generation: u64, connections: u32 },
    /// Returns the lease that this generation was opened with. By `handle`.
    ReturnLease { generation: u64 },
    /// Ends a rollback whose lease was not published. By `handle`.
    RollBackFailed,
    /// Reports that the previous lease is rejected or expires soon, so that the pool follows the
    /// provider's current one again. By `carry_out`.
    ReportRollBackEnd,
}

impl PoolEffect {
    pub(super) fn report_rejected(lease: &LeaseFacts) -> Self {
        Self::ReportRejected {
            revision: lease.revision.clone(),
        }
    }

    pub(super) fn notify_pools_of_login(lease: &LeaseFacts) -> Self {
        Self::NotifyPoolsOfLogin {
            revision: lease.revision.clone(),
            account: Arc::clone(&lease.account),
        }
    }
}

/// A generation that is about to be the current one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Publication {
    pub(crate) generation: u64,
    /// Generation that drains because of it.
    pub(crate) replaced: Option<u64>,
    /// Whether the previous generation was rejected: the first login runs alone.
    pub(crate) after_rejection: bool,
    /// Number of callers that may log in at a time, and until when, if the account was rejected
    /// lately. [`LimitLogins`](PoolEffect::LimitLogins) may lower it.
    pub(crate) limited: Option<(u32, Instant)>,
}
