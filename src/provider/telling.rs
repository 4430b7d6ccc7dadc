//! What the log, the events and the meters are told of fetches and rotations.

use std::sync::Arc;
use std::time::Duration;

use super::decide::Settled;
use super::slot::ProviderSlot;
use crate::rotation::{Rotation, RotationOutcome, RotationReport};
use crate::supervisor::Event;

impl<S: Send + Sync + 'static> ProviderSlot<S> {
    pub(super) fn report(&self, settled: &Settled, rotation: Option<&Arc<Rotation>>) {
        let trigger = tracing::field::display(
            rotation
                .map(|rotation| rotation.trigger().as_str())
                .unwrap_or_default(),
        );
        match settled {
            Settled::Failed(error) => {
                if let Some(times) = self
                    .trouble()
                    .met(self.clock().mono(), error.kind().as_str())
                {
                    if self.lock().held.is_some() {
                        tracing::warn!(provider = %self.name(), trigger, times, error = %error, "fetch failed; what is held goes on serving");
                    } else {
                        tracing::warn!(provider = %self.name(), trigger, times, error = %error, "fetch failed; nothing is held yet");
                    }
                }
                self.context().events.send(Event::FetchFailed {
                    provider: Arc::clone(self.name()),
                    error: error.clone(),
                });
            }
            Settled::Stale { is_news: false } => {
                self.recovered();
                tracing::debug!(provider = %self.name(), trigger, "the superseded revision was returned again");
            }
            Settled::Stale { is_news: true } => {
                self.recovered();
                tracing::info!(provider = %self.name(), trigger, "the backend answered a revision retired a while ago; it is not taken back");
            }
            Settled::Unchanged => {
                self.recovered();
                tracing::debug!(provider = %self.name(), trigger, "unchanged");
            }
            Settled::Adopted => {
                self.recovered();
                tracing::debug!(provider = %self.name(), trigger, "a new lease is held");
            }
        }
    }

    fn recovered(&self) {
        if let Some(times) = self.trouble().over() {
            tracing::info!(provider = %self.name(), times, "the backend answers again");
        }
    }

    pub(super) fn close_rotation(&self, rotation: &Arc<Rotation>, outcome: RotationOutcome) {
        if let Some(report) = rotation.close(outcome, self.clock().now()) {
            self.context().meters.refreshed(
                self.name(),
                report.trigger,
                outcome.as_str(),
                report.took,
            );
            // Looking and finding nothing new is no event, however often it happens.
            if outcome == RotationOutcome::Unchanged && report.handovers.is_empty() {
                return;
            }
            self.lock().last_rotation = Some(report.clone());
            self.tell(&report);
            self.context().events.send(Event::Rotated(report));
        }
    }

    /// The one line of a rotation: who, why, how long, and what now.
    fn tell(&self, report: &RotationReport) {
        let now = self.clock().now();
        let (held, left, next) = {
            let state = self.lock();
            let left = state
                .held
                .as_ref()
                .and_then(|held| held.expiry().remaining(now));
            let held = state.held.as_ref().map(|held| held.revision().digest());
            (
                held,
                left,
                state
                    .next_look_at(now.mono())
                    .map(|at| at.saturating_duration_since(now.mono())),
            )
        };
        let rounded = |duration: Duration| {
            humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
        };
        let message = match report.outcome {
            RotationOutcome::Adopted => "rotated",
            RotationOutcome::Unchanged => "looked again: nothing new, and pools took it anew",
            RotationOutcome::Superseded => "overtaken by a newer rotation",
            RotationOutcome::Unfinished => "ended before every pool had a new credential",
        };
        tracing::info!(
            provider = %self.name(),
            trigger = %report.trigger,
            // Where nothing new came, what is held.
            revision = %report.revision.as_ref().or(held.as_ref()).map_or("none", String::as_str),
            took_ms = (report.took.as_secs_f64() * 10_000.0).round() / 10.0,
            pools = report.handovers.len(),
            waiting = report.waiting.len(),
            expires_in = left.map_or_else(|| "never".to_owned(), rounded),
            next_look_in = next.map_or_else(|| "never".to_owned(), rounded),
            "{message}"
        );
    }
}
