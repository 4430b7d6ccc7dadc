//! Traces as Jaeger's API tells them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use claviger_servers::Jaeger;
use serde_json::Value;
use tracing::span::Id;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

/// A span, as Jaeger keeps it.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) parent: Option<String>,
    /// The spans that it follows from.
    pub(crate) links: Vec<String>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) start: Duration,
    pub(crate) took: Duration,
}

impl Span {
    pub(crate) fn tag(&self, name: &str) -> Option<&str> {
        self.tags.get(name).map(String::as_str)
    }

    pub(crate) fn end(&self) -> Duration {
        self.start + self.took
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn micros(value: &Value) -> Duration {
    Duration::from_micros(value.as_u64().expect("a time in microseconds"))
}

/// All spans of an answer to `/api/traces`, in the order in which they began.
pub(crate) fn spans(answer: &str) -> Vec<Span> {
    let answer: Value = serde_json::from_str(answer).expect("it is JSON");
    let traces = answer["data"].as_array().into_iter().flatten();
    let mut spans: Vec<_> = traces.flat_map(|trace| trace["spans"].as_array().into_iter().flatten()).map(span).collect();
    spans.sort_by_key(|span| span.start);
    spans
}

fn span(span: &Value) -> Span {
    let references: Vec<_> = span["references"].as_array().into_iter().flatten().collect();
    let of = |kind: &str| references.iter().filter(move |one| one["refType"] == kind).map(|one| text(&one["spanID"])).collect::<Vec<_>>();
    Span {
        trace: text(&span["traceID"]),
        id: text(&span["spanID"]),
        name: text(&span["operationName"]),
        parent: of("CHILD_OF").pop(),
        links: of("FOLLOWS_FROM"),
        tags: span["tags"].as_array().into_iter().flatten().map(|tag| (text(&tag["key"]), text(&tag["value"]))).collect(),
        start: micros(&span["startTime"]),
        took: micros(&span["duration"]),
    }
}

/// What Jaeger adds of its own, or what differs from run to run.
const LEFT_OUT: [&str; 4] = ["internal.span.format", "otel.scope.name", "otel.scope.version", "revision"];

/// A trace, and the roots that are linked to one of its spans, as an indented text.
pub(crate) fn tree(spans: &[Span], root: &Span) -> String {
    let mut lines = String::new();
    show(spans, root, 0, &mut lines);
    let of_this_trace: Vec<_> = spans.iter().filter(|span| span.trace == root.trace).map(|span| span.id.as_str()).collect();
    for linked in spans.iter().filter(|span| span.links.iter().any(|link| of_this_trace.contains(&link.as_str()))) {
        show(spans, linked, 0, &mut lines);
    }
    lines
}

fn show(spans: &[Span], span: &Span, depth: usize, lines: &mut String) {
    let tags: Vec<_> =
        span.tags.iter().filter(|(name, _)| !LEFT_OUT.contains(&name.as_str())).map(|(name, value)| format!(" {name}={value}")).collect();
    let links: Vec<_> = span
        .links
        .iter()
        .map(|link| {
            spans.iter().find(|other| other.id == *link).map_or(" → what is not here".to_owned(), |other| format!(" → {}", other.name))
        })
        .collect();
    let _ = writeln!(lines, "{:indent$}{}{}{}", "", span.name, tags.concat(), links.concat(), indent = depth * 2);
    for child in spans.iter().filter(|child| child.parent.as_deref() == Some(&span.id)) {
        show(spans, child, depth + 1, lines);
    }
}

/// Children are of their parent's trace and lie within it, and the steps of a handover take no longer than the whole. Jaeger keeps microseconds.
/// Answers how many handovers there were.
pub(crate) fn handovers_add_up(all: &[Span]) -> usize {
    let rounding = Duration::from_micros(2);
    let mut handovers = 0;
    for span in all {
        let children: Vec<_> = all.iter().filter(|child| child.parent.as_deref() == Some(&span.id)).collect();
        for child in &children {
            assert_eq!(child.trace, span.trace);
            assert!(span.start <= child.start + rounding && child.end() <= span.end() + rounding, "{child:?} is not within {span:?}");
        }
        if span.name == "pool.handover" && span.tag("how").is_some() {
            handovers += 1;
            let steps: Vec<_> = children.iter().map(|child| child.name.as_str()).collect();
            assert!(steps.starts_with(&["pool.prove", "pool.open"]) && steps.ends_with(&["pool.publish"]), "{steps:?}");
            let sum: Duration = children.iter().map(|child| child.took).sum();
            assert!(sum <= span.took + rounding * 4, "{sum:?} of {:?}", span.took);
        }
    }
    handovers
}

/// Counts the spans of Claviger and of the test that are over. Jaeger takes what it is sent in no order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ended(Arc<AtomicUsize>);

impl<S: Subscriber + for<'span> LookupSpan<'span>> Layer<S> for Ended {
    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let target = context.metadata(&id).map_or("", Metadata::target);
        if target.starts_with("claviger") || target.starts_with("jaeger") {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What Jaeger has of the service `orders`, once it has all of that.
pub(crate) fn told_by(jaeger: &Jaeger, ended: &Ended) -> String {
    let expected = ended.0.load(Ordering::Relaxed);
    let ask = || jaeger.get("/api/traces?service=orders&limit=1000").expect("it answers");
    (0..250)
        .map(|_| ask())
        .find(|answer| {
            let all_there = spans(answer).len() == expected;
            if !all_there {
                std::thread::sleep(Duration::from_millis(20));
            }
            all_there
        })
        .expect("all was told within five seconds, and no more")
}
