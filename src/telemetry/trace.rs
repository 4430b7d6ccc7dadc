//! Features that `tracing` lacks: the status of a span, links to ended spans, and the event in the
//! span of a caller that waited.

use std::time::{Duration, Instant};

use opentelemetry::trace::{SpanContext, Status, TraceContextExt};
use opentelemetry::{Context, KeyValue};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

pub(crate) use super::meters::Meters;

/// Marks a span as failed; its message is that of an error.
pub(super) fn failed(span: &Span, message: &str) {
    span.set_status(Status::error(message.to_owned()));
}

/// Place of a rotation in its trace. It outlives the span: a generation keeps that of its rotation.
#[derive(Clone, Debug)]
pub(crate) struct Origin(SpanContext);

impl Default for Origin {
    fn default() -> Self {
        Self(SpanContext::NONE)
    }
}

impl Origin {
    pub(crate) fn from_span(span: &Span) -> Self {
        if span.is_disabled() {
            return Self::default();
        }
        Self(span.context().span().span_context().clone())
    }

    /// Links a span to it. Does nothing without an exporter.
    pub(crate) fn link(&self, span: &Span) {
        if self.0.is_valid() {
            span.add_link(self.0.clone());
        }
    }
}

/// Caller that requests a rotation, or waits for one: its current span.
#[derive(Clone, Debug)]
pub(crate) struct Caller(Context);

impl Caller {
    /// Returns the current span of `tracing`, or that of OpenTelemetry if none is exported.
    pub(crate) fn current() -> Self {
        let context = Span::current().context();
        if context.span().span_context().is_valid() {
            Self(context)
        } else {
            Self(Context::current())
        }
    }

    /// Links the rotation to the caller's span.
    pub(crate) fn link_rotation(&self, rotation: &Span) {
        let span = self.0.span();
        if span.span_context().is_valid() {
            rotation.add_link(span.span_context().clone());
        }
    }
}

/// Time for which a caller has waited for a credential, since its generation was rejected, expired
/// or superseded.
#[derive(Debug, Default)]
pub(crate) struct Wait(Option<Instant>);

impl Wait {
    /// Notes that the current generation has no connection for the caller, which continues to wait.
    pub(crate) fn keep_waiting(&mut self, now: impl FnOnce() -> Instant) {
        self.0.get_or_insert_with(now);
    }

    /// Notes that the caller has a connection: by a rotation, or shared with the rejected
    /// generation.
    pub(crate) fn got_connection(
        self,
        meters: &Meters,
        pool: &str,
        now: impl FnOnce() -> Instant,
        by: Option<&Origin>,
    ) {
        if let Some(since) = self.0 {
            let waited = now().saturating_duration_since(since);
            end(meters, pool, waited, None, by);
        }
    }

    /// Notes that the caller got an error instead.
    pub(crate) fn failed(
        self,
        meters: &Meters,
        pool: &str,
        now: impl FnOnce() -> Instant,
        error_type: impl FnOnce() -> &'static str,
    ) {
        if let Some(since) = self.0 {
            let waited = now().saturating_duration_since(since);
            end(meters, pool, waited, Some(error_type()), None);
        }
    }
}

/// Records the end of a wait, also as an event in the caller's own span.
#[cold]
fn end(
    meters: &Meters,
    pool: &str,
    waited: Duration,
    error_type: Option<&'static str>,
    by: Option<&Origin>,
) {
    let seconds = waited.as_secs_f64();
    meters.waited(pool, seconds, error_type);
    let Caller(context) = Caller::current();
    let span = context.span();
    if !span.is_recording() {
        return;
    }
    let mut attributes = vec![
        KeyValue::new("pool", pool.to_owned()),
        KeyValue::new("waited_s", seconds),
    ];
    attributes.extend(error_type.map(|error_type| KeyValue::new("error.type", error_type)));
    span.add_event("pool.rejected.wait", attributes);
    if let Some(Origin(rotation)) = by
        && rotation.is_valid()
    {
        span.add_link(rotation.clone(), Vec::new());
    }
}
