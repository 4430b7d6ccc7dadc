//! One rotation under way, from its trigger to the last pool's handover.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tracing::Span;

use crate::clock::Timestamp;
use crate::error::{ConnectError, ProviderError};
use crate::id::Id;
use crate::lease::Revision;
use crate::lock::Mutex;
use crate::report::{HandoverReport, RotationOutcome, RotationReport, RotationTrigger};
use crate::telemetry::{self, Caller, Origin, Root};

/// A rotation under way.
///
/// No span is created, recorded or closed under its lock: a `tracing` layer may be slow, or request
/// the status.
#[derive(Debug)]
pub(crate) struct Rotation {
    id: Id,
    provider: Arc<str>,
    trigger: RotationTrigger,
    started: Timestamp,
    progress: Mutex<Progress>,
}

#[derive(Debug)]
struct Progress {
    /// Ends with the rotation, so that it is exported then.
    root: Root,
    revision: Option<String>,
    /// Revision that is still to be recorded in the span.
    unrecorded: Option<String>,
    attempts: u32,
    /// Error of the last fetch; `None` after one that succeeded.
    fetch_failure: Option<Failure>,
    /// Error of each pool's last handover. A later fetch, or another pool's handover, does not
    /// clear it.
    handover_failures: BTreeMap<Arc<str>, Failure>,
    fetch: Duration,
    waiting: BTreeSet<Arc<str>>,
    handovers: Vec<HandoverReport>,
    /// Whether its end has begun; `closed` follows.
    ending: bool,
    closed: Option<RotationReport>,
}

#[derive(Clone, Debug)]
struct Failure {
    error_type: &'static str,
    message: String,
}

impl Failure {
    fn new(error_type: &'static str, error: &impl ToString) -> Self {
        Self {
            error_type,
            message: error.to_string(),
        }
    }
}

impl Progress {
    /// Returns the error that keeps the rotation open.
    fn failure(&self) -> Option<&Failure> {
        self.fetch_failure
            .as_ref()
            .or_else(|| self.handover_failures.values().next())
    }
}

/// Records the outcome in a root span, and the error if it is unfinished. Attempts that were
/// retried have errors of their own.
fn mark_end(span: &Span, outcome: RotationOutcome, failure: Option<&Failure>) {
    span.record("outcome", outcome.as_str());
    if let (RotationOutcome::Unfinished, Some(failure)) = (outcome, failure) {
        telemetry::failed(span, failure.error_type, &failure.message);
    }
}

impl Rotation {
    pub(crate) fn id(&self) -> Id {
        self.id
    }

    /// Creates a rotation without a span, so that it may be called under a lock.
    /// [`open`](Self::open) begins the span.
    pub(crate) fn new(provider: &Arc<str>, trigger: RotationTrigger, now: Timestamp) -> Arc<Self> {
        Arc::new(Self {
            id: Id::next(),
            provider: Arc::clone(provider),
            trigger,
            started: now,
            progress: Mutex::new(Progress {
                root: Root::pending(now.mono()),
                revision: None,
                unrecorded: None,
                attempts: 0,
                fetch_failure: None,
                handover_failures: BTreeMap::new(),
                fetch: Duration::ZERO,
                waiting: BTreeSet::new(),
                handovers: Vec::new(),
                ending: false,
                closed: None,
            }),
        })
    }

    /// Begins its root span.
    pub(crate) fn open(&self) {
        self.put_root(Root::begin(
            &self.provider,
            self.trigger,
            self.started.mono(),
        ));
    }

    /// Replaces the root span. If the rotation is ending, ends the new one instead.
    fn put_root(&self, root: Root) {
        let mut progress = self.progress.lock();
        if !progress.ending {
            let old = std::mem::replace(&mut progress.root, root);
            drop(progress);
            drop(old);
            return;
        }
        let failure = progress.failure().cloned();
        drop(progress);
        if failure.is_some() {
            mark_end(root.span(), RotationOutcome::Unfinished, failure.as_ref());
        }
    }

    pub(crate) fn trigger(&self) -> RotationTrigger {
        self.trigger
    }

    /// Returns the root span while the rotation is open.
    pub(crate) fn span(&self) -> Span {
        self.progress.lock().root.span().clone()
    }

    /// Returns the root span for an attempt that begins now.
    pub(crate) fn span_for_attempt(&self, now: Timestamp) -> Span {
        let (last, failure, revision) = {
            let mut progress = self.progress.lock();
            if progress.ending || !progress.root.begins_next_part(now.mono()) {
                return progress.root.span().clone();
            }
            (
                progress.root.clone(),
                progress.failure().cloned(),
                progress.revision.clone(),
            )
        };
        mark_end(last.span(), RotationOutcome::Unfinished, failure.as_ref());
        let next = last.next_part(&self.provider, self.trigger, now.mono());
        if let Some(digest) = revision {
            next.span().record("revision", digest);
        }
        let span = next.span().clone();
        self.put_root(next);
        span
    }

    /// Returns the rotation's place in the trace, also after its end.
    pub(crate) fn origin(&self) -> Origin {
        self.progress.lock().root.origin().clone()
    }

    /// Links the attempt that begins now to a caller that requested the rotation.
    pub(crate) fn requested_by(&self, caller: &Caller, now: Timestamp) {
        caller.link_rotation(&self.span_for_attempt(now));
    }

    /// Notes the end of a fetch.
    pub(crate) fn fetched(&self, took: Duration, failure: Option<&ProviderError>) {
        let mut progress = self.progress.lock();
        progress.attempts += 1;
        progress.fetch_failure = failure.map(|error| Failure::new(error.kind().as_str(), error));
        progress.fetch = took;
    }

    /// Notes that a pool could not adopt the lease; it retries.
    pub(crate) fn handover_failed(&self, pool: &Arc<str>, error: &ConnectError) {
        let failure = Failure::new(error.kind().as_str(), error);
        let mut progress = self.progress.lock();
        progress.handover_failures.insert(Arc::clone(pool), failure);
    }

    /// Notes a new revision, which these pools are to adopt. May be called under a lock;
    /// [`record_revision`](Self::record_revision) writes it to the span.
    pub(crate) fn adopted(&self, revision: &Revision, pools: impl IntoIterator<Item = Arc<str>>) {
        let mut progress = self.progress.lock();
        let digest = revision.digest();
        progress.unrecorded = Some(digest.clone());
        progress.revision = Some(digest);
        progress.waiting = pools.into_iter().collect();
    }

    /// Records the revision that was adopted.
    pub(crate) fn record_revision(&self) {
        let (span, revision) = {
            let mut progress = self.progress.lock();
            (progress.root.span().clone(), progress.unrecorded.take())
        };
        if let Some(digest) = revision {
            span.record("revision", digest);
        }
    }

    /// Notes that a pool adopted the lease with this digest, unless the rotation obtained another.
    pub(crate) fn handed_over(&self, report: HandoverReport, revision: &str) {
        let mut progress = self.progress.lock();
        if progress
            .revision
            .as_deref()
            .is_some_and(|digest| digest != revision)
        {
            return;
        }
        let (span, generation) = (progress.root.span().clone(), report.generation);
        progress.handover_failures.remove(&report.pool);
        progress.waiting.remove(&report.pool);
        progress.handovers.push(report);
        drop(progress);
        span.record("generation", generation);
    }

    /// Stops waiting for a pool that was removed, or that keeps its lease.
    pub(crate) fn stop_waiting_for(&self, pool: &str) {
        let mut progress = self.progress.lock();
        progress.waiting.remove(pool);
        progress.handover_failures.remove(pool);
    }

    /// Returns whether this pool has yet to adopt the lease with this digest.
    pub(crate) fn waits_for(&self, pool: &str, revision: &str) -> bool {
        let progress = self.progress.lock();
        progress.revision.as_deref() == Some(revision) && progress.waiting.contains(pool)
    }

    /// Returns whether no pool has yet to adopt the lease.
    pub(crate) fn waits_for_no_pool(&self) -> bool {
        self.progress.lock().waiting.is_empty()
    }

    /// Ends the rotation and its span. Returns `None` if it has ended before.
    pub(crate) fn close(&self, outcome: RotationOutcome, now: Timestamp) -> Option<RotationReport> {
        self.record_revision();
        let (span, failure, report) = {
            let mut progress = self.progress.lock();
            if std::mem::replace(&mut progress.ending, true) {
                return None;
            }
            (
                progress.root.take(),
                progress.failure().cloned(),
                self.current_report(&progress, outcome, now),
            )
        };
        mark_end(&span, outcome, failure.as_ref());
        drop(span);
        self.progress.lock().closed = Some(report.clone());
        Some(report)
    }

    /// Returns the final report, or the present state.
    pub(crate) fn report(&self, now: Timestamp) -> RotationReport {
        let progress = self.progress.lock();
        progress
            .closed
            .clone()
            .unwrap_or_else(|| self.current_report(&progress, RotationOutcome::Unfinished, now))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.progress.lock().closed.is_some()
    }

    fn current_report(
        &self,
        progress: &Progress,
        outcome: RotationOutcome,
        now: Timestamp,
    ) -> RotationReport {
        RotationReport {
            provider: Arc::clone(&self.provider),
            trigger: self.trigger,
            started: self.started.wall(),
            outcome,
            revision: progress.revision.clone(),
            attempts: progress.attempts,
            fetch: progress.fetch,
            handovers: progress.handovers.clone(),
            waiting: progress.waiting.iter().cloned().collect(),
            took: now.mono().saturating_duration_since(self.started.mono()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ConnectErrorKind, ProviderErrorKind};

    #[test]
    fn an_error_is_cleared_by_the_success_of_the_same_step_alone() {
        let rotation = Rotation::new(
            &Arc::from("login"),
            RotationTrigger::Rejected,
            Timestamp::now(),
        );
        let failure = || {
            rotation
                .progress
                .lock()
                .failure()
                .map(|failure| failure.error_type)
        };
        let fetched = |failure: Option<&ProviderError>| rotation.fetched(Duration::ZERO, failure);
        let down = ProviderError::new(ProviderErrorKind::Unavailable, "down");
        let rejected =
            ConnectError::new(ConnectErrorKind::Rejected, "password authentication failed");
        assert_eq!(failure(), None);
        rotation.handover_failed(&Arc::from("orders"), &rejected);
        fetched(Some(&down));
        assert_eq!(failure(), Some("unavailable"));
        fetched(None);
        assert_eq!(
            failure(),
            Some("rejected"),
            "a fetch that works again does not clear the pool's error"
        );
        rotation.stop_waiting_for("reports");
        assert_eq!(failure(), Some("rejected"));
        rotation.stop_waiting_for("orders");
        assert_eq!(failure(), None);
    }
}
