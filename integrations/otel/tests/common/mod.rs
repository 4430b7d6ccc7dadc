//! Exported spans as indented text: kind, status, attributes, events and links.

use std::collections::BTreeMap;
use std::fmt::Write;

use opentelemetry::trace::{SpanId, SpanKind, Status, TracerProvider};
use opentelemetry_sdk::trace::{
    InMemorySpanExporter, InMemorySpanExporterBuilder, SdkTracerProvider, SpanData,
};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer, SubscriberExt};

/// Records exported spans.
pub(crate) struct Recorder {
    exporter: InMemorySpanExporter,
    provider: SdkTracerProvider,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        let exporter = InMemorySpanExporterBuilder::new().build();
        let provider = SdkTracerProvider::builder()
            .with_simple_exporter(exporter.clone())
            .build();
        Self { exporter, provider }
    }

    pub(crate) fn subscriber(&self) -> impl tracing::Subscriber + Send + Sync + use<> {
        let filter = Targets::new()
            .with_default(LevelFilter::INFO)
            .with_target("ractor", LevelFilter::OFF);
        let layer = tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("test"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false);
        tracing_subscriber::registry().with(layer.with_filter(filter))
    }

    /// Returns all spans so far, ordered by start.
    pub(crate) fn spans(&self) -> Vec<SpanData> {
        let mut spans = self.exporter.get_finished_spans().expect("no panic");
        spans.sort_by_key(|span| span.start_time);
        spans
    }

    pub(crate) fn clear(&self) {
        self.exporter.reset();
    }

    /// Returns the trees of all exported spans.
    pub(crate) fn trees(&self) -> String {
        let spans = self.spans();
        let mut text = String::new();
        for root in spans
            .iter()
            .filter(|span| span.parent_span_id == SpanId::INVALID)
        {
            append_tree(&spans, root, 0, &mut text);
        }
        text
    }
}

fn append_tree(spans: &[SpanData], span: &SpanData, depth: usize, text: &mut String) {
    let mut line = span.name.to_string();
    if span.span_kind != SpanKind::Internal {
        let _ = write!(
            line,
            " ({})",
            format!("{:?}", span.span_kind).to_lowercase()
        );
    }
    let attributes: BTreeMap<_, _> = span
        .attributes
        .iter()
        .map(|attribute| (attribute.key.as_str(), attribute.value.to_string()))
        .collect();
    for (name, value) in attributes {
        let _ = write!(line, " {name}={value}");
    }
    if let Status::Error { description } = &span.status {
        let _ = write!(line, " ERROR {description:?}");
    }
    for link in span.links.iter() {
        let linked = spans
            .iter()
            .find(|other| other.span_context == link.span_context);
        let _ = write!(line, " → {}", linked.map_or("unknown", |span| &span.name));
    }
    let _ = writeln!(text, "{:indent$}{line}", "", indent = depth * 2);
    for event in span.events.iter() {
        let attributes: BTreeMap<_, _> = event
            .attributes
            .iter()
            .map(|attribute| (attribute.key.as_str(), attribute.value.to_string()))
            .collect();
        let names: Vec<_> = attributes.keys().copied().collect();
        let _ = writeln!(
            text,
            "{:indent$}! {} {{{}}}",
            "",
            event.name,
            names.join(", "),
            indent = depth * 2 + 2
        );
    }
    let id = span.span_context.span_id();
    for child in spans.iter().filter(|child| child.parent_span_id == id) {
        append_tree(spans, child, depth + 1, text);
    }
}
