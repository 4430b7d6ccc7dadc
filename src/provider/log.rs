//! Log lines, events and metrics of fetches, releases and rotations.

use std::sync::Arc;
use std::time::Duration;

use super::machine::FetchOutcome;
use super::slot::ProviderSlot;
use crate::error::ProviderError;
use crate::events::Event;
use crate::expiry::Expiry;
use crate::lease::Revision;
use crate::report::{RotationOutcome, RotationReport, RotationTrigger};
use crate::rotation::Rotation;

impl<S: Send + Sync + 'static> ProviderSlot<S> {
    pub(super) fn report(&self, outcome: &FetchOutcome, trigger: Option<RotationTrigger>) {
        let trigger = trigger.map(RotationTrigger::as_str).unwrap_or_default();
        let trigger = tracing::field::display(trigger);
        if !matches!(outcome, FetchOutcome::Failed(_))
            && let Some(times) = self.fetch_failures.succeeded()
        {
            tracing::info!(provider = %self.name(), times, "the backend responds again");
        }
        match outcome {
            FetchOutcome::Failed(error) => {
                let kind = error.kind().as_str();
                if let Some(times) = self.fetch_failures.failed(self.clock().mono(), kind) {
                    let lease = match self.current_lease() {
                        Some(_) => "the current lease stays in use",
                        None => "there is no lease yet",
                    };
                    tracing::warn!(
                        provider = %self.name(), trigger, times, error = %error,
                        "fetch failed; {lease}"
                    );
                }
                self.context().events.send(Event::FetchFailed {
                    provider: Arc::clone(self.name()),
                    error: error.clone(),
                });
            }
            FetchOutcome::Stale { is_news: false } => {
                tracing::debug!(
                    provider = %self.name(), trigger,
                    "the superseded revision was returned again"
                );
            }
            FetchOutcome::Stale { is_news: true } => {
                tracing::info!(
                    provider = %self.name(), trigger,
                    "the backend returned a superseded revision; it is not adopted again"
                );
            }
            FetchOutcome::Unchanged => {
                tracing::debug!(provider = %self.name(), trigger, "unchanged");
            }
            FetchOutcome::Adopted => {
                tracing::debug!(provider = %self.name(), trigger, "new lease adopted");
            }
        }
    }

    pub(super) fn report_hold(&self, held: bool) {
        let provider = Arc::clone(self.name());
        if held {
            tracing::warn!(
                %provider, expires_in = %self.expires_in(),
                "provider held; its current lease stays until the provider is resumed"
            );
            self.context().events.send(Event::Held { provider });
        } else {
            tracing::info!(%provider, expires_in = %self.expires_in(), "provider resumed");
            self.context().events.send(Event::Resumed { provider });
        }
    }

    pub(super) fn report_not_renewed(&self) {
        tracing::warn!(
            provider = %self.name(), expires_in = %self.expires_in(),
            "the lease of the held provider cannot be renewed; it expires unless the provider is \
             resumed"
        );
    }

    /// Returns the remaining time to live of the current lease, for the log.
    fn expires_in(&self) -> String {
        let driver = self.lock();
        let current = driver.machine.current();
        self.left(current.map(|(_, current)| current.expiry))
    }

    fn left(&self, expiry: Option<Expiry>) -> String {
        let left = expiry.and_then(|expiry| expiry.remaining(self.clock().now()));
        left.map_or_else(|| "never".to_owned(), rounded)
    }

    pub(super) fn report_release(&self, revision: &Revision, result: &Result<(), ProviderError>) {
        let Err(error) = result else {
            if let Some(times) = self.release_failures.succeeded() {
                tracing::info!(provider = %self.name(), times, "leases are released again");
            }
            return;
        };
        let kind = error.kind().as_str();
        match self.release_failures.failed(self.clock().mono(), kind) {
            Some(times) if error.is_transient() => {
                tracing::warn!(
                    provider = %self.name(), %revision, times, error = %error,
                    "lease not released; the release is retried"
                );
            }
            Some(times) => {
                tracing::warn!(
                    provider = %self.name(), %revision, times, error = %error,
                    "lease not released; the backend denies releases, and leases stay valid until \
                     they expire"
                );
            }
            None => {
                tracing::debug!(
                    provider = %self.name(), %revision, error = %error,
                    "lease not released"
                );
            }
        }
    }

    /// Ends a rotation, and reports it.
    pub(crate) fn close_rotation(&self, rotation: &Arc<Rotation>, outcome: RotationOutcome) {
        if let Some(report) = rotation.close(outcome, self.clock().now()) {
            self.context().meters.refreshed(
                self.name(),
                report.trigger,
                outcome.as_str(),
                report.took,
            );
            // A fetch that returned nothing new is not an event.
            if outcome == RotationOutcome::Unchanged && report.handovers.is_empty() {
                return;
            }
            // A rollback that failed has changed nothing.
            if report.trigger != RotationTrigger::RollBack || outcome == RotationOutcome::Adopted {
                self.lock().last_rotation = Some(report.clone());
            }
            self.log_rotation(&report);
            self.context().events.send(Event::Rotated(report));
        }
    }

    /// Returns whether the credential was active in all pools before, as after a wrong one was
    /// corrected.
    fn is_active_again(&self, report: &RotationReport) -> bool {
        report.trigger != RotationTrigger::Start
            && report.handovers.is_empty()
            && report.waiting.is_empty()
            && !self.subscribers().is_empty()
    }

    /// Logs a rotation's one line: provider, trigger, duration, outcome.
    fn log_rotation(&self, report: &RotationReport) {
        let now = self.clock().mono();
        let (revision, expiry, next) = {
            let driver = self.lock();
            let machine = &driver.machine;
            // If nothing new was fetched, the current lease's revision.
            let current = machine.current().map(|(_, current)| current);
            let revision = report.revision.clone();
            let revision = revision.or_else(|| current.map(|one| one.revision.digest()));
            // A rollback's lease is not the current one.
            let expiry = revision.as_ref().and_then(|one| machine.expiry_of(one));
            let next = machine.next_planned_fetch();
            let next = next.map(|at| at.saturating_duration_since(now));
            (revision, expiry, next)
        };
        let is_roll_back = report.trigger == RotationTrigger::RollBack;
        let message = match report.outcome {
            RotationOutcome::Adopted if is_roll_back => "rolled back",
            RotationOutcome::Unfinished if is_roll_back => "not rolled back",
            RotationOutcome::Adopted if self.is_active_again(report) => {
                "the backend returned the active credential again"
            }
            RotationOutcome::Adopted if report.trigger == RotationTrigger::Start => {
                "first lease obtained"
            }
            RotationOutcome::Adopted => "rotated",
            RotationOutcome::Unchanged => "unchanged credentials verified again",
            RotationOutcome::Superseded => "superseded by a newer rotation",
            RotationOutcome::Unfinished => "ended before every pool had a new credential",
        };
        tracing::info!(
            provider = %self.name(),
            trigger = %report.trigger,
            revision = %revision.as_deref().unwrap_or("none"),
            took_ms = (report.took.as_secs_f64() * 10_000.0).round() / 10.0,
            pools = report.handovers.len(),
            waiting = report.waiting.len(),
            expires_in = self.left(expiry),
            next_fetch_in = next.map_or_else(|| "never".to_owned(), rounded),
            "{message}"
        );
    }
}

/// Returns the duration in whole seconds, for people.
fn rounded(duration: Duration) -> String {
    humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
}
