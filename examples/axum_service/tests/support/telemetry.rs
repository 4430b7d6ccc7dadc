//! Exported spans. Checks whether they agree with each other and with the events.

use std::collections::HashMap;

use claviger::error::{ConnectErrorKind, ProviderErrorKind};
use claviger::events::Event;
use opentelemetry::trace::{SpanId, Status, TracerProvider};
use opentelemetry_sdk::trace::{
    InMemorySpanExporter, InMemorySpanExporterBuilder, SdkTracerProvider, SpanData,
};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Every value that `error.type` may have on a span.
const ERROR_TYPES: [&str; 16] = [
    ProviderErrorKind::Unavailable.as_str(),
    ProviderErrorKind::TimedOut.as_str(),
    ProviderErrorKind::Throttled.as_str(),
    ProviderErrorKind::Denied.as_str(),
    ProviderErrorKind::NotFound.as_str(),
    ProviderErrorKind::Malformed.as_str(),
    ProviderErrorKind::Misconfigured.as_str(),
    ProviderErrorKind::ExpiredLease.as_str(),
    ProviderErrorKind::Panicked.as_str(),
    ProviderErrorKind::Other.as_str(),
    ConnectErrorKind::Rejected.as_str(),
    ConnectErrorKind::Overloaded.as_str(),
    ConnectErrorKind::Unreachable.as_str(),
    ConnectErrorKind::Misconfigured.as_str(),
    ConnectErrorKind::Other.as_str(),
    "drain_abandoned",
];

/// Collects the spans of this process from now on, and writes its log lines to `log`.
pub(crate) fn collect<W>(log: W) -> (InMemorySpanExporter, SdkTracerProvider)
where
    W: for<'w> tracing_subscriber::fmt::MakeWriter<'w> + Send + Sync + 'static,
{
    let exporter = InMemorySpanExporterBuilder::new().build();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(exporter.clone())
        .build();
    let filter = || {
        Targets::new()
            .with_default(LevelFilter::INFO)
            .with_target("ractor", LevelFilter::OFF)
    };
    let spans = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("test"))
        .with_filter(filter());
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(log)
        .with_filter(filter());
    tracing_subscriber::registry()
        .with(spans)
        .with(lines)
        .init();
    (exporter, provider)
}

pub(crate) fn attribute(span: &SpanData, name: &str) -> Option<String> {
    span.attributes
        .iter()
        .find(|attribute| attribute.key.as_str() == name)
        .map(|attribute| attribute.value.to_string())
}

fn has_failed(span: &SpanData) -> bool {
    matches!(span.status, Status::Error { .. })
}

/// Returns every inconsistency within the spans.
pub(crate) fn inconsistencies(spans: &[SpanData]) -> Vec<String> {
    let by_id: HashMap<SpanId, &SpanData> = spans
        .iter()
        .map(|span| (span.span_context.span_id(), span))
        .collect();
    let mut inconsistencies = Vec::new();
    let mut check = |is_inconsistent: bool, problem: &str, span: &SpanData| {
        if is_inconsistent {
            inconsistencies.push(format!("{problem}: {span:?}"));
        }
    };
    for span in spans {
        let context = &span.span_context;
        check(
            by_id[&context.span_id()].start_time != span.start_time || by_id.len() != spans.len(),
            "possibly exported twice",
            span,
        );
        if span.parent_span_id != SpanId::INVALID {
            let parent = by_id.get(&span.parent_span_id);
            check(parent.is_none(), "its parent was not exported", span);
            let is_within = |parent: &&SpanData| {
                parent.start_time <= span.start_time && span.end_time <= parent.end_time
            };
            check(!parent.is_none_or(is_within), "not within its parent", span);
            check(
                !parent.is_none_or(|parent| parent.span_context.trace_id() == context.trace_id()),
                "another trace than its parent",
                span,
            );
        }
        for link in span.links.iter() {
            check(
                by_id
                    .get(&link.span_context.span_id())
                    .is_none_or(|linked| linked.span_context != link.span_context),
                "a link to an unknown span",
                span,
            );
        }
        let error_type = attribute(span, "error.type");
        check(
            error_type
                .as_ref()
                .is_some_and(|error_type| !ERROR_TYPES.contains(&error_type.as_str())),
            "no such error.type",
            span,
        );
        check(
            error_type.is_some() != has_failed(span),
            "error.type and the status do not agree",
            span,
        );
        check(
            span.name == "credential.rotation" && attribute(span, "outcome").is_none(),
            "without an outcome",
            span,
        );
        let ended = has_failed(span) || attribute(span, "generation").is_some();
        check(
            span.name == "pool.handover" && !ended,
            "neither failed nor published",
            span,
        );
    }
    inconsistencies
}

/// Returns counts by the spans and by the events.
pub(crate) fn counts(spans: &[SpanData], events: &[Event]) -> [(&'static str, usize, usize); 6] {
    let named = |name: &str, failed: &[bool]| {
        spans
            .iter()
            .filter(|span| span.name == name && failed.contains(&has_failed(span)))
            .count()
    };
    let event_count = |is: fn(&Event) -> bool| events.iter().filter(|event| is(event)).count();
    [
        (
            "fetches that failed",
            named("credential.fetch", &[true]),
            event_count(|event| matches!(event, Event::FetchFailed { .. })),
        ),
        (
            "attempts that failed",
            named("pool.handover", &[true]),
            event_count(|event| matches!(event, Event::VerificationFailed { .. })),
        ),
        (
            "handovers",
            named("pool.handover", &[false]),
            event_count(|event| matches!(event, Event::HandedOver(_))),
        ),
        (
            "drains",
            named("pool.drain", &[false, true]),
            event_count(|event| matches!(event, Event::Drained { .. })),
        ),
        (
            "drains abandoned",
            named("pool.drain", &[true]),
            event_count(|event| matches!(event, Event::DrainAbandoned { .. })),
        ),
        (
            "events missed",
            0,
            event_count(|event| matches!(event, Event::Missed(_))),
        ),
    ]
}
