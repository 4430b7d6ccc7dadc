//! Stand-ins for the feature `otel`: no field, no call, no cost.

use std::time::{Duration, Instant};

use tracing::Span;

use crate::report::RotationTrigger;

/// Place of a rotation in its trace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin(());

impl Origin {
    #[inline]
    pub(crate) fn from_span(_span: &Span) -> Self {
        Self(())
    }

    #[inline]
    pub(crate) fn link(&self, _span: &Span) {}
}

/// Caller that requests a rotation.
#[derive(Clone, Debug)]
pub(crate) struct Caller;

impl Caller {
    #[inline]
    pub(crate) fn current() -> Self {
        Self
    }

    #[inline]
    pub(crate) fn link_rotation(&self, _rotation: &Span) {}
}

/// Time for which a caller has waited for a credential.
#[derive(Debug, Default)]
pub(crate) struct Wait(());

impl Wait {
    #[inline]
    pub(crate) fn keep_waiting(&mut self, _now: impl FnOnce() -> Instant) {}

    #[inline]
    pub(crate) fn got_connection(
        self,
        _meters: &Meters,
        _pool: &str,
        _now: impl FnOnce() -> Instant,
        _by: Option<&Origin>,
    ) {
    }

    #[inline]
    pub(crate) fn failed(
        self,
        _meters: &Meters,
        _pool: &str,
        _now: impl FnOnce() -> Instant,
        _error_type: impl FnOnce() -> &'static str,
    ) {
    }
}

/// The instruments.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meters(());

impl Meters {
    #[inline]
    pub(crate) fn provider_registered(&self, _provider: &str) {}

    #[inline]
    pub(crate) fn pool_registered(&self, _pool: &str) {}

    #[inline]
    pub(crate) fn fetched(
        &self,
        _provider: &str,
        _trigger: RotationTrigger,
        _took: Duration,
        _error_type: Option<&'static str>,
    ) {
    }

    #[inline]
    pub(crate) fn refreshed(
        &self,
        _provider: &str,
        _trigger: RotationTrigger,
        _outcome: &'static str,
        _took: Duration,
    ) {
    }

    #[inline]
    pub(crate) fn handed_over(&self, _pool: &str, _mode: &'static str, _took: Duration) {}

    #[inline]
    pub(crate) fn handover_failed(&self, _pool: &str, _error_type: &'static str, _took: Duration) {}

    #[inline]
    pub(crate) fn timed_out(&self, _pool: &str) {}

    #[inline]
    pub(crate) fn drained(&self, _pool: &str, _took: Duration) {}

    #[inline]
    pub(crate) fn drain_abandoned(&self, _pool: &str) {}

    #[inline]
    pub(crate) fn restarted(&self, _actor: &str) {}
}
