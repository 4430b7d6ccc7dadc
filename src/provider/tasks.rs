//! Carries out the machine's effects: spans, replies, and tasks for fetches and releases.

use std::sync::Arc;

use tracing::Span;

use super::driver::{Fetch, FetchKind, ManualRequest, Reply, Work};
use super::fetched::Fetched;
use super::machine::{LeaseId, ProviderInput};
use super::slot::ProviderSlot;
use crate::clock::Timestamp;
use crate::error::{ProviderError, ProviderErrorKind};
use crate::lease::Lease;
use crate::telemetry::{self, InSpan};

impl<S: Send + Sync + 'static> ProviderSlot<S> {
    /// Carries out the work of an input. Never called under a lock.
    pub(super) fn carry_out(self: &Arc<Self>, work: Vec<Work<S>>) {
        for one in work {
            match one {
                Work::OpenRotation(rotation) => rotation.open(),
                Work::Fetch(fetch) => spawn_fetch(self, *fetch),
                Work::HandOver(rotation) => {
                    rotation.record_revision();
                    self.pool_done(&rotation);
                }
                Work::Release(id, lease) => spawn_release(self, id, lease),
                Work::Forget(lease) => drop(lease),
                Work::ForgetError(error) => drop(error),
                Work::CloseRotation(rotation, outcome) => self.close_rotation(&rotation, outcome),
                Work::Reply(reply) => send(reply, self.clock().now()),
                Work::Rehearsed(reply, Ok(lease)) => {
                    if let Some(lease_guard) = self.guard_taken(lease) {
                        // Without a receiver, the guard returns the lease.
                        let _ = reply.send(Ok(lease_guard));
                    }
                }
                Work::Rehearsed(reply, Err(Some(error))) => drop(reply.send(Err(error))),
                Work::Rehearsed(reply, Err(None)) => drop(reply),
                Work::Report(outcome, trigger) => self.report(&outcome, trigger),
                Work::ReportHold(held) => self.report_hold(held),
                Work::ReportNotRenewed => self.report_not_renewed(),
                Work::NotifyPools => self.subscribers().iter().for_each(|pool| pool.wake()),
            }
        }
    }
}

fn send(reply: Reply, now: Timestamp) {
    let Reply {
        request: ManualRequest { reply, caller },
        result,
        began_before_request,
    } = reply;
    let Some(result) = result else { return };
    if let Ok(rotation) = &result
        && began_before_request
    {
        rotation.requested_by(&caller, now);
    }
    let _ = reply.send(result);
}

/// Runs a fetch in a task of its own, with a deadline. A panic of the provider counts as an error.
fn spawn_fetch<S: Send + Sync + 'static>(slot: &Arc<ProviderSlot<S>>, fetch: Fetch<S>) {
    let Fetch {
        id: fetch,
        request,
        rotation,
        callers,
        kind,
    } = fetch;
    let (started, trigger) = (request.started, request.trigger);
    if let Some(rotation) = &rotation {
        for caller in &callers {
            rotation.requested_by(caller, started);
        }
    }
    let parent = rotation
        .as_ref()
        .map_or_else(Span::none, |rotation| rotation.span_for_attempt(started));
    let span = telemetry::fetch(&parent, slot.name(), trigger);
    drop(parent);
    let provider = Arc::clone(&slot.provider);
    let inside = InSpan::new(&span);
    let mut task = tokio::spawn(inside.clone().run(async move {
        match kind {
            FetchKind::Fetch => provider.fetch(request).await,
            FetchKind::Rehearsal => provider.rehearse(request).await,
            FetchKind::Renewal => {
                let expiry = provider.renew(request).await?;
                Ok(expiry.map_or(Fetched::Unchanged, Fetched::Renewed))
            }
        }
    }));
    let guard = LostTaskGuard::new(slot, ProviderInput::FetchLost(fetch));
    let work = {
        let slot = Arc::clone(slot);
        async move {
            let response = slot
                .context()
                .wait_for(&mut task, slot.context().settings.fetch_deadline)
                .await;
            let hangs = response.is_err();
            let result = match response {
                Ok(Ok(result)) => result.and_then(|fetched| slot.reject_expired(fetched)),
                Ok(Err(_)) => Err(ProviderError::new(
                    ProviderErrorKind::Panicked,
                    "the provider panicked while fetching; see the panic message",
                )),
                Err(silence) => Err(ProviderError::new(
                    ProviderErrorKind::TimedOut,
                    format!("the provider did not respond {silence}"),
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
            inside.exit_span();
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
        // A panic of this task also counts as a failed attempt, so that no fetch stays in flight.
        match work.await {
            Err(error) if error.is_panic() => {
                let error = ProviderError::new(
                    ProviderErrorKind::Panicked,
                    "the fetch panicked; see the panic message",
                );
                guard.slot.fetch_ended(fetch, Err(error), false);
            }
            _ => guard.disarm(),
        }
    });
}

/// Releases a lease in a task of its own, with the fetch deadline.
fn spawn_release<S: Send + Sync + 'static>(
    slot: &Arc<ProviderSlot<S>>,
    id: LeaseId,
    lease: Lease<S>,
) {
    let guard = LostTaskGuard::new(slot, ProviderInput::ReleaseLost(id));
    tokio::spawn(async move {
        let slot = Arc::clone(&guard.slot);
        let revision = lease.revision().clone();
        let provider = Arc::clone(&slot.provider);
        let mut task = tokio::spawn(async move { provider.release(lease).await });
        let deadline = slot.context().settings.fetch_deadline;
        let released = tokio::time::timeout(deadline, &mut task).await;
        let hangs = released.is_err();
        let mut result = match released {
            Ok(Ok(released)) => released,
            Ok(Err(_)) => Err(ProviderError::new(
                ProviderErrorKind::Panicked,
                "the provider panicked while releasing; see the panic message",
            )),
            Err(_) => Err(ProviderError::new(
                ProviderErrorKind::TimedOut,
                "the provider did not respond in time",
            )),
        };
        slot.report_release(&revision, &result);
        if hangs {
            // A release that blocks its thread continues and may succeed. The next attempt waits
            // for it, so that releases do not pile up.
            task.abort();
            if let Ok(late) = task.await {
                result = late;
            }
        }
        let input = ProviderInput::ReleaseDone {
            lease: id,
            result: result.clone(),
        };
        slot.feed(input);
        guard.disarm();
        // Not in the machine, which is locked: the cause of an error may have a `Drop` of its own.
        drop(result);
    });
}

/// Guard of a task. Feeds the input if the task is dropped before it ends.
struct LostTaskGuard<S: Send + Sync + 'static> {
    slot: Arc<ProviderSlot<S>>,
    input: Option<ProviderInput>,
}

impl<S: Send + Sync + 'static> LostTaskGuard<S> {
    fn new(slot: &Arc<ProviderSlot<S>>, input: ProviderInput) -> Self {
        Self {
            slot: Arc::clone(slot),
            input: Some(input),
        }
    }

    fn disarm(mut self) {
        self.input = None;
    }
}

impl<S: Send + Sync + 'static> Drop for LostTaskGuard<S> {
    fn drop(&mut self) {
        if let Some(input) = self.input.take() {
            self.slot.feed(input);
        }
    }
}
