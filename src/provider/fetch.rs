//! One fetch: the provider's code in a task of its own, under a deadline, its panic an error like
//! others.

use std::sync::Arc;

use super::decide::alive;
use super::slot::ProviderSlot;
use super::{FetchRequest, Fetched};
use crate::clock::Timestamp;
use crate::error::{ProviderError, ProviderErrorKind};
use crate::telemetry::{self, InSpan};
use crate::trigger::RotationTrigger;

/// Starts a fetch. The outcome lands in the slot; then the actor is poked.
pub(super) fn spawn<S: Send + Sync + 'static>(
    slot: &Arc<ProviderSlot<S>>,
    number: u64,
    trigger: RotationTrigger,
    started: Timestamp,
) {
    let slot = Arc::clone(slot);
    let (request, rotation) = {
        let state = slot.lock();
        let request = FetchRequest {
            trigger,
            started,
            held: state.held.clone(),
            rejected: state.exclusions.active(started.mono()),
            clock: slot.clock().clone(),
        };
        (request, state.fetching.clone())
    };
    let parent = rotation
        .as_ref()
        .map_or_else(tracing::Span::none, |rotation| {
            rotation.span_for_attempt(started)
        });
    let span = telemetry::fetch(&parent, slot.name(), trigger);
    drop(parent);
    let current = request.held.clone();
    let issuer = Arc::clone(slot.issuer());
    let inside = InSpan::new(&span);
    let mut task = tokio::spawn(
        inside
            .clone()
            .run(async move { issuer.fetch(request).await }),
    );
    let guard = LostGuard {
        slot: Arc::clone(&slot),
        number,
    };
    let work = tokio::spawn(async move {
        let answer = slot
            .context()
            .answer(&mut task, slot.context().settings.fetch_deadline)
            .await;
        let late = answer.is_err();
        let result = match answer {
            Ok(Ok(result)) => result
                .and_then(|fetched| fetched.into_lease(current))
                .and_then(|lease| alive(lease, slot.clock().now())),
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
        if late {
            slot.lock().hanging.push((number, started));
        }
        slot.settle_fetch(number, started, result);
        if late {
            let ended = task.await;
            let now = slot.clock().mono();
            {
                let mut state = slot.lock();
                state.no_longer_hangs(number);
                if let Ok(Ok(Fetched::New(lease))) = ended {
                    state.late(lease, now);
                }
            }
            slot.release_orphans();
            slot.settled();
        }
    });
    tokio::spawn(async move {
        // A panic of ours is one failed attempt, too: nothing may stay "in flight" for ever.
        if work.await.is_err_and(|error| error.is_panic()) {
            guard.slot.settle_fetch(
                number,
                started,
                Err(ProviderError::new(
                    ProviderErrorKind::Panicked,
                    "a fetch of ours panicked",
                )),
            );
        }
    });
}

/// Held by the task that waits for a fetch. If its runtime ends first, no fetch remains.
struct LostGuard<S: Send + Sync + 'static> {
    slot: Arc<ProviderSlot<S>>,
    number: u64,
}

impl<S: Send + Sync + 'static> Drop for LostGuard<S> {
    fn drop(&mut self) {
        // Nothing is left of one that has completed.
        let lost = self
            .slot
            .lock()
            .in_flight
            .take_if(|in_flight| in_flight.number == self.number);
        if lost.is_some() {
            self.slot.settled();
        }
    }
}
