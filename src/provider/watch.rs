//! Runs the provider's own background work.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::hints::Hints;
use super::machine::ProviderInput;
use super::schedule;
use super::slot::ProviderSlot;
use crate::failure_log::FailureLog;

/// Longest pause before a watch is restarted.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Runs the provider's watch until aborted, and restarts it with backoff: 1 s, doubling to 60 s.
/// The backoff begins anew once the watch has run for a minute.
pub(crate) fn spawn<S: Send + Sync + 'static>(slot: &Arc<ProviderSlot<S>>) -> JoinHandle<()> {
    let weak: Weak<ProviderSlot<S>> = Arc::downgrade(slot);
    let hints = Hints::new({
        let weak = weak.clone();
        move || {
            if let Some(slot) = weak.upgrade() {
                slot.feed(ProviderInput::Hint);
            }
        }
    })
    .with_clock(slot.clock().clone());
    tokio::spawn(async move {
        let mut failures = 0;
        let failure_log = FailureLog::default();
        loop {
            let Some(slot) = weak.upgrade() else { return };
            let (provider, hints) = (Arc::clone(&slot.provider), hints.clone());
            let (name, clock) = (Arc::clone(slot.name()), slot.clock().clone());
            drop(slot);
            let began = clock.mono();
            let mut task = AbortOnDrop(tokio::spawn(async move { provider.watch(hints).await }));
            let ended = (&mut task.0).await;
            let ran = clock.mono().saturating_duration_since(began);
            failures = if ran >= MAX_PAUSE { 1 } else { failures + 1 };
            let pause = schedule::back_off(schedule::MIN_INTERVAL, MAX_PAUSE, failures);
            let outcome = if ended.is_err() { "panicked" } else { "ended" };
            if ran >= MAX_PAUSE {
                // It ran for long enough, so this is a new failure.
                failure_log.succeeded();
            }
            if let Some(times) = failure_log.failed(clock.mono(), outcome) {
                tracing::warn!(
                    provider = %name, outcome, pause = ?pause, times,
                    "the provider's watch stopped; starting it again after a pause"
                );
            }
            tokio::time::sleep(pause).await;
        }
    })
}

/// Aborts the task when dropped, so that the watch does not outlive its loop.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
