//! Carries out what the machine decides: rotations, fetches, releases, replies.
//!
//! Values, spans and channels are in side tables by id. What an effect needs of them is taken under
//! the lock; the [`Work`] itself runs without it, because whoever observes spans may be slow, or
//! request the status.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::oneshot;
use tracing::Span;

use super::machine::{Answer, Effect, FetchId, Input, LeaseId, Machine, RequestId, RotationId};
use super::slot::ProviderSlot;
use super::{FetchRequest, Fetched};
use crate::clock::{Clock, Timestamp};
use crate::error::{ProviderError, ProviderErrorKind};
use crate::lease::Lease;
use crate::report::{RotationReport, RotationTrigger};
use crate::rotation::Rotation;
use crate::telemetry::{self, Caller, InSpan, Origin};

/// Somebody requests a new credential.
#[derive(Debug)]
pub(crate) struct ManualRequest {
    /// Receives the rotation. It is dropped, which the receiver sees, if there will be none.
    pub(crate) reply: oneshot::Sender<Result<Arc<Rotation>, ProviderError>>,
    pub(crate) caller: Caller,
}

/// The machine, and by id what it does not know. It survives a crash of the actor.
pub(super) struct Driver<S> {
    pub(super) machine: Machine,
    leases: HashMap<LeaseId, Kept<S>>,
    rotations: HashMap<RotationId, Arc<Rotation>>,
    requests: HashMap<RequestId, ManualRequest>,
    next_request: u64,
    /// The last rotation that ended.
    pub(super) last_rotation: Option<RotationReport>,
}

/// A lease's value, and the rotation that brought it.
struct Kept<S> {
    lease: Lease<S>,
    origin: Origin,
}

/// What an input carries that the machine does not know.
pub(super) struct Brought<S> {
    pub(super) lease: Option<Lease<S>>,
    /// The pools that are to take a new lease.
    pub(super) pools: Vec<Arc<str>>,
}

impl<S> Brought<S> {
    pub(super) fn nothing() -> Self {
        Self {
            lease: None,
            pools: Vec::new(),
        }
    }
}

/// The part of an effect that is carried out without the lock.
pub(super) type Work<S> = Box<dyn FnOnce(&Arc<ProviderSlot<S>>) + Send>;

impl<S: Send + Sync + 'static> Driver<S> {
    pub(super) fn new(machine: Machine) -> Self {
        Self {
            machine,
            leases: HashMap::new(),
            rotations: HashMap::new(),
            requests: HashMap::new(),
            next_request: 0,
            last_rotation: None,
        }
    }

    /// Returns the current lease, its id and the rotation that brought it.
    pub(super) fn current(&self) -> Option<(LeaseId, &Lease<S>, &Origin)> {
        let (id, _) = self.machine.current()?;
        let kept = self.leases.get(&id)?;
        Some((id, &kept.lease, &kept.origin))
    }

    pub(super) fn rotation(&self, rotation: RotationId) -> Option<Arc<Rotation>> {
        self.rotations.get(&rotation).cloned()
    }

    /// Returns the id of an open rotation.
    pub(super) fn id_of(&self, rotation: &Arc<Rotation>) -> Option<RotationId> {
        let mut open = self.rotations.iter();
        open.find(|(_, one)| Arc::ptr_eq(one, rotation))
            .map(|(id, _)| *id)
    }

    pub(super) fn add_request(&mut self, request: ManualRequest) -> RequestId {
        self.next_request += 1;
        let id = RequestId(self.next_request);
        self.requests.insert(id, request);
        id
    }

    pub(super) fn handle(
        &mut self,
        (name, clock): (&Arc<str>, &Clock),
        input: Input,
        brought: Brought<S>,
    ) -> Vec<Work<S>> {
        let now = clock.now();
        let Brought { mut lease, pools } = brought;
        let effects = self.machine.handle(input, now);
        let mut work: Vec<Work<S>> = Vec::with_capacity(effects.len());
        for effect in effects {
            match effect {
                Effect::OpenRotation { rotation, trigger } => {
                    let opened = Rotation::new(name, trigger, now);
                    self.rotations.insert(rotation, Arc::clone(&opened));
                    work.push(Box::new(move |_| opened.open()));
                }
                Effect::StartFetch {
                    fetch,
                    trigger,
                    rotation,
                    requests,
                    rejected,
                } => {
                    let request = FetchRequest {
                        trigger,
                        started: now,
                        clock: clock.clone(),
                        held: self.current().map(|(_, current, _)| current.clone()),
                        rejected,
                    };
                    let rotation = self.rotation(rotation);
                    let callers: Vec<_> = requests
                        .iter()
                        .filter_map(|request| self.requests.get(request))
                        .map(|request| request.caller.clone())
                        .collect();
                    work.push(Box::new(move |slot| {
                        if let Some(rotation) = &rotation {
                            for caller in callers {
                                rotation.asked_for_by(&caller, now);
                            }
                        }
                        spawn_fetch(slot, fetch, trigger, request, rotation);
                    }));
                }
                Effect::Keep(id) => {
                    if let Some(lease) = lease.take() {
                        let origin = self.leases.remove(&id).map(|kept| kept.origin);
                        let origin = origin.unwrap_or_default();
                        self.leases.insert(id, Kept { lease, origin });
                    }
                }
                Effect::Extend(id, expiry) => {
                    if let Some(kept) = self.leases.get_mut(&id) {
                        kept.lease = kept.lease.clone().with_expiry(expiry);
                    }
                }
                Effect::HandOver {
                    rotation: id,
                    lease,
                } => {
                    let rotation = self.rotation(id);
                    if let Some((rotation, kept)) = rotation.zip(self.leases.get_mut(&lease)) {
                        rotation.adopted(kept.lease.revision(), pools.iter().cloned());
                        kept.origin = rotation.origin();
                        work.push(Box::new(move |slot| {
                            rotation.record_revision();
                            slot.pool_settled(&rotation);
                        }));
                    }
                }
                Effect::Release(id) => {
                    if let Some(kept) = self.leases.get(&id) {
                        let lease = kept.lease.clone();
                        work.push(Box::new(move |slot| spawn_release(slot, id, lease)));
                    }
                }
                Effect::Forget(id) => {
                    // A secret's own `Drop` runs without the lock.
                    let forgotten = self.leases.remove(&id);
                    work.push(Box::new(move |_| drop(forgotten)));
                }
                Effect::CloseRotation { rotation, outcome } => {
                    if let Some(rotation) = self.rotations.remove(&rotation) {
                        work.push(Box::new(move |slot| {
                            slot.close_rotation(&rotation, outcome);
                        }));
                    }
                }
                Effect::Reply { request, answer } => {
                    if let Some(request) = self.requests.remove(&request) {
                        work.push(self.reply(request, answer, now));
                    }
                }
                Effect::Report { outcome, rotation } => {
                    let trigger = rotation.and_then(|rotation| self.rotation(rotation));
                    let trigger = trigger.map(|rotation| rotation.trigger());
                    work.push(Box::new(move |slot| slot.report(&outcome, trigger)));
                }
                Effect::NotifyPools => work.push(Box::new(|slot| {
                    for pool in slot.subscribers() {
                        pool.wake();
                    }
                })),
            }
        }
        work
    }

    fn reply(&self, request: ManualRequest, answer: Answer, now: Timestamp) -> Work<S> {
        let ManualRequest { reply, caller } = request;
        let (rotation, joins) = match answer {
            Answer::Rotation(rotation) => (self.rotation(rotation), false),
            Answer::Earlier(rotation) => (self.rotation(rotation), true),
            Answer::Failed(error) => {
                return Box::new(move |_| drop(reply.send(Err(error))));
            }
            Answer::Abandoned => (None, false),
        };
        Box::new(move |_| {
            if let Some(rotation) = rotation {
                if joins {
                    rotation.asked_for_by(&caller, now);
                }
                let _ = reply.send(Ok(rotation));
            }
        })
    }
}

/// One fetch: the provider's code in a task of its own, under a deadline, its panic an error like
/// others.
fn spawn_fetch<S: Send + Sync + 'static>(
    slot: &Arc<ProviderSlot<S>>,
    fetch: FetchId,
    trigger: RotationTrigger,
    request: FetchRequest<S>,
    rotation: Option<Arc<Rotation>>,
) {
    let started = request.started;
    let parent = rotation
        .as_ref()
        .map_or_else(Span::none, |rotation| rotation.span_for_attempt(started));
    let span = telemetry::fetch(&parent, slot.name(), trigger);
    drop(parent);
    let provider = Arc::clone(slot.provider());
    let inside = InSpan::new(&span);
    let mut task = tokio::spawn(
        inside
            .clone()
            .run(async move { provider.fetch(request).await }),
    );
    let lost = OnLost::new(slot, Input::FetchLost(fetch));
    let work = {
        let slot = Arc::clone(slot);
        async move {
            let answer = slot
                .context()
                .answer(&mut task, slot.context().settings.fetch_deadline)
                .await;
            let hangs = answer.is_err();
            let result = match answer {
                Ok(Ok(result)) => result.and_then(|fetched| slot.check(fetched)),
                Ok(Err(_)) => Err(ProviderError::new(
                    ProviderErrorKind::Panicked,
                    "the provider panicked while fetching; see its own output",
                )),
                Err(silence) => Err(ProviderError::new(
                    ProviderErrorKind::TimedOut,
                    format!("the provider did not answer {silence}"),
                )),
            };
            let took = slot
                .clock()
                .mono()
                .saturating_duration_since(started.mono());
            let error = result.as_ref().err();
            if let Some(error) = error {
                telemetry::failed(&span, error.kind().as_str(), &error.to_string());
            }
            inside.let_go();
            telemetry::ended(span);
            slot.context().meters.fetched(
                slot.name(),
                trigger,
                took,
                error.map(|error| error.kind().as_str()),
            );
            if let Some(rotation) = rotation {
                rotation.fetched(took, error);
            }
            slot.fetch_ended(fetch, result, hangs);
            if hangs {
                let lease = match task.await {
                    Ok(Ok(Fetched::New(lease))) => Some(lease),
                    _ => None,
                };
                slot.fetch_late(fetch, lease);
            }
        }
    };
    let work = tokio::spawn(work);
    tokio::spawn(async move {
        // A panic of ours is one failed attempt, too: nothing may stay "in flight" for ever.
        match work.await {
            Err(error) if error.is_panic() => {
                let error =
                    ProviderError::new(ProviderErrorKind::Panicked, "a fetch of ours panicked");
                lost.slot.fetch_ended(fetch, Err(error), false);
            }
            _ => lost.has_ended(),
        }
    });
}

/// Releases a lease in a task of its own, under the fetch deadline.
fn spawn_release<S: Send + Sync + 'static>(
    slot: &Arc<ProviderSlot<S>>,
    id: LeaseId,
    lease: Lease<S>,
) {
    let lost = OnLost::new(slot, Input::ReleaseLost(id));
    tokio::spawn(async move {
        let slot = Arc::clone(&lost.slot);
        let revision = lease.revision().clone();
        let provider = Arc::clone(slot.provider());
        let mut task = tokio::spawn(async move { provider.release(lease).await });
        let deadline = slot.context().settings.fetch_deadline;
        let result = match tokio::time::timeout(deadline, &mut task).await {
            Ok(Ok(released)) => released,
            Ok(Err(_)) => Err(ProviderError::new(
                ProviderErrorKind::Panicked,
                "the provider panicked while releasing; see its own output",
            )),
            Err(_) => {
                // It is tried again: releases that hang would pile up.
                task.abort();
                Err(ProviderError::new(
                    ProviderErrorKind::TimedOut,
                    "the provider did not answer in time",
                ))
            }
        };
        slot.report_release(&revision, &result);
        slot.feed(Input::ReleaseDone { lease: id, result });
        lost.has_ended();
    });
}

/// Held by a task. Feeds the input if the task's runtime ends first.
struct OnLost<S: Send + Sync + 'static> {
    slot: Arc<ProviderSlot<S>>,
    input: Option<Input>,
}

impl<S: Send + Sync + 'static> OnLost<S> {
    fn new(slot: &Arc<ProviderSlot<S>>, input: Input) -> Self {
        Self {
            slot: Arc::clone(slot),
            input: Some(input),
        }
    }

    fn has_ended(mut self) {
        self.input = None;
    }
}

impl<S: Send + Sync + 'static> Drop for OnLost<S> {
    fn drop(&mut self) {
        if let Some(input) = self.input.take() {
            self.slot.feed(input);
        }
    }
}
