//! A span, as Jaeger keeps it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

/// A span. Its times are in microseconds, the start since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The trace that it is in.
    pub trace: String,
    /// Its own.
    pub id: String,
    /// What was done.
    pub name: String,
    /// The span that it is a part of.
    pub parent: Option<String>,
    /// The spans that it follows from.
    pub links: Vec<String>,
    /// Its attributes, kind and status among them.
    pub tags: BTreeMap<String, String>,
    /// When it began.
    pub start: Duration,
    /// How long it took.
    pub took: Duration,
}

impl Span {
    /// An attribute.
    pub fn tag(&self, name: &str) -> Option<&str> {
        self.tags.get(name).map(String::as_str)
    }

    /// When it was over.
    pub fn end(&self) -> Duration {
        self.start + self.took
    }

    fn of(span: &Value) -> Option<Self> {
        let references: Vec<_> = span["references"]
            .as_array()
            .into_iter()
            .flatten()
            .collect();
        let of = |kind: &str| {
            references
                .iter()
                .filter(|one| one["refType"] == kind)
                .map(|one| text(&one["spanID"]))
                .collect::<Vec<_>>()
        };
        let name = |field: &str| span[field].as_str().map(str::to_owned);
        let micros = |field: &str| span[field].as_u64().map(Duration::from_micros);
        Some(Self {
            trace: name("traceID")?,
            id: name("spanID")?,
            name: name("operationName")?,
            parent: of("CHILD_OF").pop(),
            links: of("FOLLOWS_FROM"),
            tags: span["tags"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|tag| (text(&tag["key"]), text(&tag["value"])))
                .collect(),
            start: micros("startTime")?,
            took: micros("duration")?,
        })
    }
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// All spans of an answer to `/api/traces`, in the order in which they began.
///
/// # Errors
/// When it is no JSON.
pub fn spans(answer: &str) -> serde_json::Result<Vec<Span>> {
    let answer: Value = serde_json::from_str(answer)?;
    let traces = answer["data"].as_array().into_iter().flatten();
    let mut spans: Vec<_> = traces
        .flat_map(|trace| trace["spans"].as_array().into_iter().flatten())
        .filter_map(Span::of)
        .collect();
    spans.sort_by_key(|span| span.start);
    Ok(spans)
}
