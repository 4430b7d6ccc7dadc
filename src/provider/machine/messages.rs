//! Inputs and effects of the machine.

use std::sync::Arc;
use std::time::Duration;

use crate::error::ProviderError;
use crate::expiry::Expiry;
use crate::lease::{Lease, OldConnections, Revision, connection_expiry};
use crate::provider::Fetched;
use crate::report::{RotationOutcome, RotationTrigger};

macro_rules! ids {
    ($($(#[$doc:meta])* $id:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) struct $id(pub(crate) u64);
    )*};
}
ids! {
    /// A fetch, counted from 1.
    FetchId,
    /// A lease: the number of the fetch that returned it.
    LeaseId,
    /// A rotation: the number of its first fetch.
    RotationId,
    /// A manual request, numbered by the driver.
    RequestId,
}

/// Event that the machine handles.
#[derive(Debug)]
pub(crate) enum ProviderInput {
    /// A timer may be due.
    Wake,
    /// A fetch ended by its deadline. `jitter` is between 0 and 1.
    FetchDone {
        fetch: FetchId,
        result: Result<Offer, ProviderError>,
        jitter: f64,
    },
    /// A fetch passed its deadline; it continues.
    FetchHangs {
        fetch: FetchId,
        error: ProviderError,
        jitter: f64,
    },
    /// A fetch ended after its deadline, perhaps with a lease.
    FetchLate {
        fetch: FetchId,
        lease: Option<Facts>,
    },
    /// The task of a fetch is gone with its runtime.
    FetchLost(FetchId),
    /// A login with this revision succeeded.
    Verified(Revision),
    /// The database rejected a login with this revision.
    Rejected(Revision),
    /// A pool leaves. Each remaining pool has an entry: the revision that it serves and does not
    /// verify again.
    PoolLeft(Vec<Option<Revision>>),
    /// The backend may have a new credential.
    Hint,
    /// A caller requests a new credential.
    Manual(RequestId),
    /// A caller rehearses a rotation.
    Rehearse(RequestId),
    /// An operator holds the provider: nothing but a renewal begins, and no other lease is adopted.
    Hold,
    /// The hold ends.
    Resume,
    /// A pool uses the lease until it is returned: the current one, or one that was superseded.
    LeaseTaken(LeaseId),
    /// A pool's attempt failed, or its generation has drained.
    LeaseReturned(LeaseId),
    /// A release succeeded or failed.
    ReleaseDone {
        lease: LeaseId,
        result: Result<(), ProviderError>,
    },
    /// The task of a release is gone with its runtime.
    ReleaseLost(LeaseId),
    /// Every pool of the rotation has taken its lease, or has left.
    PoolsDone(RotationId),
    /// No pool takes a lease any more.
    PoolsGone,
    /// No further fetch starts.
    Stop,
    /// All leases are released, even those in use.
    Close,
}

/// A lease without its secret.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Facts {
    pub(crate) revision: Revision,
    pub(crate) expiry: Expiry,
    pub(crate) old_connections: OldConnections,
    /// Time at which the server ends its connections, if the provider set one.
    pub(crate) connection_expiry: Option<Expiry>,
    pub(crate) refresh_after: Option<Duration>,
}

impl Facts {
    pub(crate) fn from_lease<S>(lease: &Lease<S>) -> Self {
        Self {
            revision: lease.revision().clone(),
            expiry: lease.expiry(),
            old_connections: lease.old_connections(),
            connection_expiry: lease.given_connection_expiry(),
            refresh_after: lease.refresh_after(),
        }
    }

    /// Returns whether its connections end at its expiry.
    pub(crate) fn ends_connections(&self) -> bool {
        let given = self.connection_expiry;
        connection_expiry(self.old_connections, given, self.expiry) == self.expiry
            && self.old_connections.expire()
    }
}

/// Result of a successful fetch.
#[derive(Clone, Debug)]
pub(crate) enum Offer {
    /// A lease; with the current revision it is a renewal.
    New(Facts),
    /// The current lease expires at another time.
    Renewed(Expiry),
    /// The current lease stays.
    Unchanged,
}

impl Offer {
    pub(crate) fn from_fetched<S>(fetched: &Fetched<S>) -> Self {
        match fetched {
            Fetched::New(lease) => Self::New(Facts::from_lease(lease)),
            Fetched::Renewed(expiry) => Self::Renewed(*expiry),
            Fetched::Unchanged => Self::Unchanged,
        }
    }
}

/// Action for the driver to carry out. `Driver::handle` does what concerns its tables, under the
/// lock. `ProviderSlot::carry_out` does the rest without it, and starts the tasks.
#[derive(Clone, Debug)]
pub(crate) enum ProviderEffect {
    /// Begins a rotation. By `handle`; `carry_out` opens its span.
    OpenRotation {
        rotation: RotationId,
        trigger: RotationTrigger,
    },
    /// Fetches in a task. `handle` collects the request's values, `carry_out` starts it.
    StartFetch {
        fetch: FetchId,
        trigger: RotationTrigger,
        rotation: RotationId,
        requests: Vec<RequestId>,
        /// Revisions that the database rejects.
        rejected: Arc<[Revision]>,
        /// Whether it only renews the current lease.
        renews: bool,
    },
    /// Fetches for a rehearsal in a task. As `StartFetch`.
    StartRehearsal {
        fetch: FetchId,
        rejected: Arc<[Revision]>,
    },
    /// Replies to the request of a rehearsal: with a lease in its use, with an error, or not at
    /// all. By `carry_out`.
    Rehearsed {
        request: RequestId,
        result: Result<LeaseId, Option<ProviderError>>,
    },
    /// Stores the fetched lease under this id. By `handle`.
    Store(LeaseId),
    /// Moves the lease's expiry. By `handle`.
    Extend(LeaseId, Expiry),
    /// Hands the lease over to pools. `handle` notes which pools the rotation waits for,
    /// `carry_out` ends the wait if there are none.
    HandOver {
        rotation: RotationId,
        lease: LeaseId,
    },
    /// Releases the lease in a task, which `carry_out` starts.
    Release(LeaseId),
    /// Removes the lease's value. By `handle`; `carry_out` drops it.
    Forget(LeaseId),
    /// Ends a rotation. By `handle`; `carry_out` ends its span, and reports it.
    CloseRotation {
        rotation: RotationId,
        outcome: RotationOutcome,
    },
    /// Replies to a manual request. By `carry_out`.
    Reply {
        request: RequestId,
        reply: ManualReply,
    },
    /// Reports the outcome of a fetch to the failure log, the log and the events. By `carry_out`.
    Report {
        outcome: FetchOutcome,
        rotation: Option<RotationId>,
    },
    /// Wakes all pools. By `carry_out`.
    NotifyPools,
    /// Reports that the provider is held, or that it is resumed. By `carry_out`.
    ReportHold { held: bool },
    /// Reports that the lease of a held provider cannot be renewed. By `carry_out`.
    ReportNotRenewed,
}

/// The reply to a manual request.
#[derive(Clone, Debug)]
pub(crate) enum ManualReply {
    /// The rotation that its fetch began or joined.
    Rotation(RotationId),
    /// An earlier rotation, whose lease not all pools have taken.
    Earlier(RotationId),
    Failed(ProviderError),
    /// The provider is held.
    Held,
    /// The request ends without a rotation.
    Abandoned,
}

/// Outcome of a fetch.
#[derive(Clone, Debug)]
pub(crate) enum FetchOutcome {
    /// A new lease is current.
    Adopted,
    /// The same revision is current; its expiry may have moved.
    Unchanged,
    /// A lease that was superseded earlier, and was not adopted. `is_news` is true the first time.
    Stale { is_news: bool },
    /// No usable lease was returned; the current one stays.
    Failed(ProviderError),
}
