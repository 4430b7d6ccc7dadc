//! One rotation, from its trigger to the last pool's handover, and the report of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tracing::Span;

use crate::clock::Moment;
use crate::error::{Fault, ProviderError};
use crate::lease::Revision;
use crate::telemetry::{self, Caller, Origin, Root};
use crate::trigger::Trigger;

/// How a rotation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// A new lease is held, and every pool serves it.
    Adopted,
    /// The issuer had nothing new; the lease's expiry may have moved.
    Unchanged,
    /// A newer lease came before every pool had taken this one.
    Superseded,
    /// Not every pool had taken it when the caller's patience ended, and the pools go on trying; or when its supervisor or provider ended.
    Unfinished,
}

impl Outcome {
    /// The word for telemetry.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Adopted => "adopted",
            Self::Unchanged => "unchanged",
            Self::Superseded => "superseded",
            Self::Unfinished => "unfinished",
        }
    }
}

/// How a pool went from one generation to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum How {
    /// A new pool; the old one is drained.
    Replace,
    /// The same pool with new options; its sessions stay.
    InPlace,
}

impl How {
    /// The word for telemetry.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replace => "replace",
            Self::InPlace => "in_place",
        }
    }
}

/// One pool's handover, with the time each step took.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct HandoverReport {
    /// The pool.
    pub pool: Arc<str>,
    /// The generation it serves now.
    pub generation: u64,
    /// Replaced or refitted.
    pub how: How,
    /// A bare log-in and the probe.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::wire::seconds", rename = "prove_seconds"))]
    pub prove: Duration,
    /// Making the pool, or refitting it.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::wire::seconds", rename = "open_seconds"))]
    pub open: Duration,
    /// Opening sessions ahead of demand, before publication.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::wire::seconds", rename = "warm_seconds"))]
    pub warm: Duration,
    /// From the first step to publication.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::wire::seconds", rename = "took_seconds"))]
    pub took: Duration,
}

/// What a rotation came to.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RotationReport {
    /// The provider.
    pub provider: Arc<str>,
    /// Why it began.
    pub trigger: Trigger,
    /// When it began, by the wall clock.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::wire::time"))]
    pub started: SystemTime,
    /// How it ended.
    pub outcome: Outcome,
    /// The digest of the revision that came, if a new one came.
    pub revision: Option<String>,
    /// How often the issuer was asked.
    pub attempts: u32,
    /// How long the last answer took.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::wire::seconds", rename = "fetch_seconds"))]
    pub fetch: Duration,
    /// The pools that took the new lease, in the order in which they did.
    pub handovers: Vec<HandoverReport>,
    /// The pools that had not when the report was made.
    pub waiting: Vec<Arc<str>>,
    /// From the trigger to the last handover.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::wire::seconds", rename = "took_seconds"))]
    pub took: Duration,
}

/// A rotation under way.
///
/// Nothing is done to a span under its lock: whoever observes spans may be slow, or ask how things stand.
#[derive(Debug)]
pub(crate) struct Rotation {
    provider: Arc<str>,
    trigger: Trigger,
    started: Moment,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Ends with the rotation, so that it is exported then.
    root: Root,
    revision: Option<String>,
    /// The revision, until it is in the span.
    unrecorded: Option<String>,
    attempts: u32,
    /// Why the last fetch failed; nothing after one that worked.
    not_fetched: Option<Failure>,
    /// Of each pool that could not take the lease: why the last attempt failed. That the issuer answers, or that another pool took it, does not help it.
    not_taken: BTreeMap<Arc<str>, Failure>,
    fetch: Duration,
    waiting: BTreeSet<Arc<str>>,
    handovers: Vec<HandoverReport>,
    /// It ends, and its span with it; then it is closed.
    ending: bool,
    closed: Option<RotationReport>,
}

#[derive(Clone, Debug)]
struct Failure {
    error_type: &'static str,
    message: String,
}

impl Inner {
    /// What keeps it from its end.
    fn failure(&self) -> Option<&Failure> {
        self.not_fetched.as_ref().or_else(|| self.not_taken.values().next())
    }
}

/// Marks the end of a root span. Attempts that were retried are marked themselves; what ends without success is marked by what keeps it.
fn mark_end(span: &Span, outcome: Outcome, failure: Option<&Failure>) {
    span.record("outcome", outcome.as_str());
    if let (Outcome::Unfinished, Some(failure)) = (outcome, failure) {
        telemetry::failed(span, failure.error_type, &failure.message);
    }
}

impl Rotation {
    /// A rotation whose span comes with [`open`](Self::open): this may be called under a lock.
    pub(crate) fn new(provider: &Arc<str>, trigger: Trigger, now: Moment) -> Arc<Self> {
        Arc::new(Self {
            provider: Arc::clone(provider),
            trigger,
            started: now,
            inner: Mutex::new(Inner {
                root: Root::to_come(now.mono()),
                revision: None,
                unrecorded: None,
                attempts: 0,
                not_fetched: None,
                not_taken: BTreeMap::new(),
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
        self.put_root(Root::begin(&self.provider, self.trigger, self.started.mono()));
    }

    /// Makes this its root, unless it ends; then this root ends as well.
    fn put_root(&self, root: Root) {
        let (old, failure) = {
            let mut inner = self.lock();
            let old = if inner.ending { root } else { std::mem::replace(&mut inner.root, root) };
            (old, inner.ending.then(|| inner.failure().cloned()).flatten())
        };
        if failure.is_some() {
            mark_end(old.span(), Outcome::Unfinished, failure.as_ref());
        }
    }

    pub(crate) fn trigger(&self) -> Trigger {
        self.trigger
    }

    /// The root span while the rotation is open.
    pub(crate) fn span(&self) -> Span {
        self.lock().root.span().clone()
    }

    /// The root span for an attempt that begins now.
    pub(crate) fn span_for_attempt(&self, now: Moment) -> Span {
        let (last, failure, revision) = {
            let mut inner = self.lock();
            if inner.ending || !inner.root.is_long(now.mono()) {
                return inner.root.span().clone();
            }
            (inner.root.clone(), inner.failure().cloned(), inner.revision.clone())
        };
        mark_end(last.span(), Outcome::Unfinished, failure.as_ref());
        let next = last.followed(&self.provider, self.trigger, now.mono());
        if let Some(digest) = revision {
            next.span().record("revision", digest);
        }
        let span = next.span().clone();
        self.put_root(next);
        span
    }

    /// Where it is in its trace, also when it is over.
    pub(crate) fn origin(&self) -> Origin {
        self.lock().root.origin().clone()
    }

    /// Somebody asked for it, and is answered by the attempt that begins now.
    pub(crate) fn asked_for_by(&self, caller: &Caller, now: Moment) {
        caller.asked_for(&self.span_for_attempt(now));
    }

    /// One fetch ended.
    pub(crate) fn fetched(&self, took: Duration, failure: Option<&ProviderError>) {
        let mut inner = self.lock();
        inner.attempts += 1;
        inner.not_fetched = failure.map(|error| Failure { error_type: error.kind().as_str(), message: error.to_string() });
        inner.fetch = took;
    }

    /// A pool could not take the lease, and will try again.
    pub(crate) fn not_handed_over(&self, pool: &Arc<str>, fault: &Fault) {
        let failure = Failure { error_type: fault.kind().as_str(), message: fault.to_string() };
        self.lock().not_taken.insert(Arc::clone(pool), failure);
    }

    /// A new revision is held, which these pools are to take. It is in the span after [`record_revision`](Self::record_revision): this may be
    /// called under a lock.
    pub(crate) fn adopted(&self, revision: &Revision, pools: impl IntoIterator<Item = Arc<str>>) {
        let mut inner = self.lock();
        let digest = revision.digest();
        inner.unrecorded = Some(digest.clone());
        inner.revision = Some(digest);
        inner.waiting = pools.into_iter().collect();
    }

    /// Records the revision that was adopted.
    pub(crate) fn record_revision(&self) {
        let (span, revision) = {
            let mut inner = self.lock();
            (inner.root.span().clone(), inner.unrecorded.take())
        };
        if let Some(digest) = revision {
            span.record("revision", digest);
        }
    }

    /// A pool took the lease with this digest; nothing happens when the rotation brought another.
    pub(crate) fn handed_over(&self, report: HandoverReport, revision: &str) {
        let mut inner = self.lock();
        if inner.revision.as_deref().is_some_and(|brought| brought != revision) {
            return;
        }
        let (span, generation) = (inner.root.span().clone(), report.generation);
        inner.not_taken.remove(&report.pool);
        inner.waiting.remove(&report.pool);
        inner.handovers.push(report);
        drop(inner);
        span.record("generation", generation);
    }

    /// A pool left, or keeps what it has for good.
    pub(crate) fn excuse(&self, pool: &str) {
        let mut inner = self.lock();
        inner.waiting.remove(pool);
        inner.not_taken.remove(pool);
    }

    /// Whether this pool has yet to take the lease with this digest.
    pub(crate) fn waits_for(&self, pool: &str, revision: &str) -> bool {
        let inner = self.lock();
        inner.revision.as_deref() == Some(revision) && inner.waiting.contains(pool)
    }

    /// Whether no pool is waited for.
    pub(crate) fn is_settled(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    /// Ends it, once; the span is recorded as it ends.
    pub(crate) fn close(&self, outcome: Outcome, now: Moment) -> Option<RotationReport> {
        self.record_revision();
        let (span, failure, report) = {
            let mut inner = self.lock();
            if std::mem::replace(&mut inner.ending, true) {
                return None;
            }
            (inner.root.take(), inner.failure().cloned(), self.report_of(&inner, outcome, now))
        };
        mark_end(&span, outcome, failure.as_ref());
        drop(span);
        self.lock().closed = Some(report.clone());
        Some(report)
    }

    /// The final report, or how things stand.
    pub(crate) fn report(&self, now: Moment) -> RotationReport {
        let inner = self.lock();
        inner.closed.clone().unwrap_or_else(|| self.report_of(&inner, Outcome::Unfinished, now))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed.is_some()
    }

    fn report_of(&self, inner: &Inner, outcome: Outcome, now: Moment) -> RotationReport {
        RotationReport {
            provider: Arc::clone(&self.provider),
            trigger: self.trigger,
            started: self.started.wall(),
            outcome,
            revision: inner.revision.clone(),
            attempts: inner.attempts,
            fetch: inner.fetch,
            handovers: inner.handovers.clone(),
            waiting: inner.waiting.iter().cloned().collect(),
            took: now.mono().saturating_duration_since(self.started.mono()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{FaultKind, ProviderErrorKind};

    #[test]
    fn what_keeps_a_rotation_is_forgotten_when_that_very_thing_works() {
        let rotation = Rotation::new(&Arc::from("login"), Trigger::Refused, Moment::now());
        let kept_by = || rotation.lock().failure().map(|failure| failure.error_type);
        let fetched = |failure: Option<&ProviderError>| rotation.fetched(Duration::ZERO, failure);
        let down = ProviderError::new(ProviderErrorKind::Unavailable, "down");
        let refused = Fault::new(FaultKind::Refused, "password authentication failed");
        assert_eq!(kept_by(), None);
        rotation.not_handed_over(&Arc::from("orders"), &refused);
        fetched(Some(&down));
        assert_eq!(kept_by(), Some("unavailable"));
        fetched(None);
        assert_eq!(kept_by(), Some("refused"), "that the issuer answers again does not help the pool");
        rotation.excuse("reports");
        assert_eq!(kept_by(), Some("refused"));
        rotation.excuse("orders");
        assert_eq!(kept_by(), None);
    }
}
