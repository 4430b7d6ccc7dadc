//! Converts the machine's effects into [`Work`] with rotations, leases and requests.
//!
//! Values, spans and channels are in side tables by id, which are read under the lock. The work
//! itself runs without it, because a `tracing` layer may be slow or request the status.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::machine::{
    FetchId, FetchOutcome, LeaseId, ManualReply, ProviderEffect, ProviderInput, ProviderMachine,
    RequestId, RotationId,
};
use super::plugin::FetchRequest;
use super::rehearse::RehearsalReply;
use crate::clock::{Clock, Timestamp};
use crate::error::ProviderError;
use crate::lease::{Lease, Revision};
use crate::report::{RotationOutcome, RotationReport, RotationTrigger};
use crate::rotation::Rotation;
use crate::telemetry::{Caller, Origin};

/// Request for a new credential.
#[derive(Debug)]
pub(crate) struct ManualRequest {
    /// Receives the rotation. Dropped without a reply if there will be none.
    pub(crate) reply: oneshot::Sender<Result<Arc<Rotation>, NotRotated>>,
    pub(crate) caller: Caller,
}

/// Reason why a manual request caused no rotation.
#[derive(Debug)]
pub(crate) enum NotRotated {
    /// The fetch failed.
    Failed(ProviderError),
    /// The provider is held.
    Held,
}

/// The machine, and side tables by id. Survives a crash of the actor.
pub(super) struct Driver<S: Send + Sync + 'static> {
    pub(super) machine: ProviderMachine,
    leases: HashMap<LeaseId, StoredLease<S>>,
    rotations: HashMap<RotationId, Arc<Rotation>>,
    requests: HashMap<RequestId, ManualRequest>,
    rehearsals: HashMap<RequestId, RehearsalReply<S>>,
    next_request: u64,
    /// The last rotation that ended.
    pub(super) last_rotation: Option<RotationReport>,
}

/// A lease's value, and the rotation that obtained it.
struct StoredLease<S> {
    lease: Lease<S>,
    origin: Origin,
}

/// Values of an input that the machine does not need.
pub(super) struct InputValues<S> {
    pub(super) lease: Option<Lease<S>>,
    /// Pools that a new lease is handed over to.
    pub(super) pools: Vec<Arc<str>>,
}

impl<S> InputValues<S> {
    pub(super) fn none() -> Self {
        Self {
            lease: None,
            pools: Vec::new(),
        }
    }
}

/// Part of an effect that is carried out without the lock.
pub(super) enum Work<S: Send + Sync + 'static> {
    OpenRotation(Arc<Rotation>),
    Fetch(Box<Fetch<S>>),
    HandOver(Arc<Rotation>),
    Release(LeaseId, Lease<S>),
    /// Drops a lease. Its secret may have a `Drop` of its own, which runs without the lock.
    Forget(Lease<S>),
    /// Drops an error. Its cause may have a `Drop` of its own, too.
    ForgetError(ProviderError),
    CloseRotation(Arc<Rotation>, RotationOutcome),
    Reply(Reply),
    /// The reply is dropped if there is no lease and no error.
    Rehearsed(RehearsalReply<S>, Result<LeaseId, Option<ProviderError>>),
    Report(FetchOutcome, Option<RotationTrigger>),
    NotifyPools,
    ReportHold(bool),
    ReportNotRenewed,
}

/// The provider's method that a fetch calls.
#[derive(Clone, Copy, Debug)]
pub(super) enum FetchKind {
    Fetch,
    Renewal,
    Rehearsal,
}

/// A fetch to start.
pub(super) struct Fetch<S> {
    pub(super) id: FetchId,
    pub(super) request: FetchRequest<S>,
    pub(super) rotation: Option<Arc<Rotation>>,
    /// Callers whose manual requests caused it.
    pub(super) callers: Vec<Caller>,
    pub(super) kind: FetchKind,
}

/// The reply to a manual request.
pub(super) struct Reply {
    pub(super) request: ManualRequest,
    /// `None` drops the request without a reply.
    pub(super) result: Option<Result<Arc<Rotation>, NotRotated>>,
    /// Whether the rotation began before the request.
    pub(super) began_before_request: bool,
}

impl<S: Send + Sync + 'static> Driver<S> {
    pub(super) fn new(machine: ProviderMachine) -> Self {
        Self {
            machine,
            leases: HashMap::new(),
            rotations: HashMap::new(),
            requests: HashMap::new(),
            rehearsals: HashMap::new(),
            next_request: 0,
            last_rotation: None,
        }
    }

    /// Returns the current lease, its id and the rotation that obtained it.
    pub(super) fn current(&self) -> Option<(LeaseId, &Lease<S>, &Origin)> {
        let (id, _) = self.machine.current()?;
        let (lease, origin) = self.stored(id)?;
        Some((id, lease, origin))
    }

    /// Returns a stored lease, and the rotation that obtained it.
    pub(super) fn stored(&self, lease: LeaseId) -> Option<(&Lease<S>, &Origin)> {
        let stored = self.leases.get(&lease)?;
        Some((&stored.lease, &stored.origin))
    }

    pub(super) fn rotation(&self, rotation: RotationId) -> Option<Arc<Rotation>> {
        self.rotations.get(&rotation).cloned()
    }

    /// Returns the id of an open rotation.
    pub(super) fn id_of(&self, rotation: &Arc<Rotation>) -> Option<RotationId> {
        let mut open = self.rotations.iter();
        open.find(|(_, one)| one.id() == rotation.id())
            .map(|(id, _)| *id)
    }

    pub(super) fn add_request(&mut self, request: ManualRequest) -> RequestId {
        self.next_request += 1;
        let id = RequestId(self.next_request);
        self.requests.insert(id, request);
        id
    }

    pub(super) fn add_rehearsal(&mut self, reply: RehearsalReply<S>) -> RequestId {
        self.next_request += 1;
        let id = RequestId(self.next_request);
        self.rehearsals.insert(id, reply);
        id
    }

    pub(super) fn handle(
        &mut self,
        (name, clock): (&Arc<str>, &Clock),
        input: ProviderInput,
        values: InputValues<S>,
    ) -> Vec<Work<S>> {
        let now = clock.now();
        let InputValues { mut lease, pools } = values;
        // The machine may replace this error, which is then dropped without the lock.
        let last_error = self.machine.last_error().cloned();
        let effects = self.machine.handle(input, now);
        let mut work: Vec<Work<S>> = Vec::with_capacity(effects.len());
        for effect in effects {
            work.extend(match effect {
                ProviderEffect::OpenRotation { rotation, trigger } => {
                    let opened = Rotation::new(name, trigger, now);
                    self.rotations.insert(rotation, Arc::clone(&opened));
                    Some(Work::OpenRotation(opened))
                }
                ProviderEffect::StartFetch {
                    fetch,
                    trigger,
                    rotation,
                    requests,
                    rejected,
                    renews,
                } => {
                    let callers = requests
                        .iter()
                        .filter_map(|request| self.requests.get(request))
                        .map(|request| request.caller.clone())
                        .collect();
                    let request = self.fetch_request(trigger, rejected, now, clock);
                    Some(Work::Fetch(Box::new(Fetch {
                        id: fetch,
                        request,
                        rotation: self.rotation(rotation),
                        callers,
                        kind: if renews {
                            FetchKind::Renewal
                        } else {
                            FetchKind::Fetch
                        },
                    })))
                }
                ProviderEffect::StartRehearsal { fetch, rejected } => {
                    let trigger = RotationTrigger::Rehearsal;
                    Some(Work::Fetch(Box::new(Fetch {
                        id: fetch,
                        request: self.fetch_request(trigger, rejected, now, clock),
                        rotation: None,
                        callers: Vec::new(),
                        kind: FetchKind::Rehearsal,
                    })))
                }
                ProviderEffect::Rehearsed { request, result } => {
                    let reply = self.rehearsals.remove(&request);
                    reply.map(|reply| Work::Rehearsed(reply, result))
                }
                ProviderEffect::Store(id) => lease.take().and_then(|lease| {
                    let (origin, replaced) = match self.leases.remove(&id) {
                        Some(StoredLease { lease, origin }) => (origin, Some(lease)),
                        None => (Origin::default(), None),
                    };
                    self.leases.insert(id, StoredLease { lease, origin });
                    replaced.map(Work::Forget)
                }),
                ProviderEffect::Extend(id, expiry) => {
                    if let Some(stored) = self.leases.get_mut(&id) {
                        stored.lease = stored.lease.clone().with_expiry(expiry);
                    }
                    None
                }
                ProviderEffect::HandOver {
                    rotation: id,
                    lease,
                } => {
                    let rotation = self.rotation(id);
                    let adopted = rotation.zip(self.leases.get_mut(&lease));
                    adopted.map(|(rotation, stored)| {
                        rotation.adopted(stored.lease.revision(), pools.iter().cloned());
                        stored.origin = rotation.origin();
                        Work::HandOver(rotation)
                    })
                }
                ProviderEffect::Release(id) => {
                    let stored = self.leases.get(&id);
                    stored.map(|stored| Work::Release(id, stored.lease.clone()))
                }
                ProviderEffect::Forget(id) => {
                    let forgotten = self.leases.remove(&id);
                    forgotten.map(|stored| Work::Forget(stored.lease))
                }
                ProviderEffect::CloseRotation { rotation, outcome } => {
                    let rotation = self.rotations.remove(&rotation);
                    rotation.map(|rotation| Work::CloseRotation(rotation, outcome))
                }
                ProviderEffect::Reply { request, reply } => {
                    let request = self.requests.remove(&request);
                    request.map(|request| self.reply(request, reply))
                }
                ProviderEffect::Report { outcome, rotation } => {
                    let rotation = rotation.and_then(|rotation| self.rotation(rotation));
                    let trigger = rotation.map(|rotation| rotation.trigger());
                    Some(Work::Report(outcome, trigger))
                }
                ProviderEffect::NotifyPools => Some(Work::NotifyPools),
                ProviderEffect::ReportHold { held } => Some(Work::ReportHold(held)),
                ProviderEffect::ReportNotRenewed => Some(Work::ReportNotRenewed),
            });
        }
        work.extend(lease.map(Work::Forget));
        work.extend(last_error.map(Work::ForgetError));
        work
    }

    fn fetch_request(
        &self,
        trigger: RotationTrigger,
        rejected: Arc<[Revision]>,
        now: Timestamp,
        clock: &Clock,
    ) -> FetchRequest<S> {
        FetchRequest {
            trigger,
            started: now,
            clock: clock.clone(),
            current: self.current().map(|(_, current, _)| current.clone()),
            rejected,
        }
    }

    fn reply(&self, request: ManualRequest, reply: ManualReply) -> Work<S> {
        let began_before_request = matches!(reply, ManualReply::Earlier(_));
        let result = match reply {
            ManualReply::Rotation(rotation) | ManualReply::Earlier(rotation) => {
                self.rotation(rotation).map(Ok)
            }
            ManualReply::Failed(error) => Some(Err(NotRotated::Failed(error))),
            ManualReply::Held => Some(Err(NotRotated::Held)),
            ManualReply::Abandoned => None,
        };
        Work::Reply(Reply {
            request,
            result,
            began_before_request,
        })
    }
}
