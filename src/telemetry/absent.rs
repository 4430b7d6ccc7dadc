//! Stand-ins for the feature `otel`: no field, no call, no cost.

use std::time::{Duration, Instant};

use tracing::Span;

use crate::report::RotationTrigger;

/// Defines methods that do nothing.
macro_rules! no_op_methods {
    ($($name:ident($($argument:ty),*);)*) => {$(
        #[inline]
        pub(crate) fn $name(&self $(, _: $argument)*) {}
    )*};
}

/// Marks a span as failed.
#[inline]
pub(super) fn failed(_span: &Span, _message: &str) {}

/// Place of a rotation in its trace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin(());

impl Origin {
    #[inline]
    pub(crate) fn from_span(_span: &Span) -> Self {
        Self(())
    }

    no_op_methods! {
        link(&Span);
    }
}

/// Caller that requests a rotation.
#[derive(Clone, Debug)]
pub(crate) struct Caller;

impl Caller {
    #[inline]
    pub(crate) fn current() -> Self {
        Self
    }

    no_op_methods! {
        link_rotation(&Span);
    }
}

/// Time for which a caller has waited for a credential.
#[derive(Debug, Default)]
pub(crate) struct Wait(());

impl Wait {
    #[inline]
    pub(crate) fn keep_waiting(&mut self, _now: impl FnOnce() -> Instant) {}

    no_op_methods! {
        got_connection(&Meters, &str, impl FnOnce() -> Instant, Option<&Origin>);
        failed(&Meters, &str, impl FnOnce() -> Instant, impl FnOnce() -> &'static str);
    }
}

/// The instruments.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meters(());

impl Meters {
    no_op_methods! {
        provider_registered(&str);
        pool_registered(&str);
        fetched(&str, RotationTrigger, Duration, Option<&'static str>);
        refreshed(&str, RotationTrigger, &'static str, Duration);
        handed_over(&str, &'static str, Duration);
        handover_failed(&str, &'static str, Duration);
        timed_out(&str);
        drained(&str, Duration);
        drain_abandoned(&str);
        restarted(&str);
    }
}
