//! A span as Jaeger stores it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

/// A span. Its times have a resolution of microseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Trace id.
    pub trace: String,
    /// Span id.
    pub id: String,
    /// Name of the operation.
    pub name: String,
    /// Id of the parent span.
    pub parent: Option<String>,
    /// Ids of the linked spans.
    pub links: Vec<String>,
    /// Attributes, with kind and status.
    pub tags: BTreeMap<String, String>,
    /// Start, since 1970.
    pub start: Duration,
    /// Duration.
    pub took: Duration,
}

impl Span {
    /// Returns the value of an attribute.
    pub fn tag(&self, name: &str) -> Option<&str> {
        self.tags.get(name).map(String::as_str)
    }

    /// Returns the end, since 1970.
    pub fn end(&self) -> Duration {
        self.start + self.took
    }

    fn parse(span: &Value) -> Option<Self> {
        let references: Vec<_> = span["references"]
            .as_array()
            .into_iter()
            .flatten()
            .collect();
        let referenced = |kind: &str| {
            references
                .iter()
                .filter(|reference| reference["refType"] == kind)
                .map(|reference| text(&reference["spanID"]))
                .collect::<Vec<_>>()
        };
        let string = |field: &str| span[field].as_str().map(str::to_owned);
        let micros = |field: &str| span[field].as_u64().map(Duration::from_micros);
        Some(Self {
            trace: string("traceID")?,
            id: string("spanID")?,
            name: string("operationName")?,
            parent: referenced("CHILD_OF").pop(),
            links: referenced("FOLLOWS_FROM"),
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

/// Parses all spans of a response to `/api/traces`, ordered by start.
///
/// # Errors
/// Invalid JSON.
pub fn spans(response: &str) -> serde_json::Result<Vec<Span>> {
    let response: Value = serde_json::from_str(response)?;
    let traces = response["data"].as_array().into_iter().flatten();
    let mut spans: Vec<_> = traces
        .flat_map(|trace| trace["spans"].as_array().into_iter().flatten())
        .filter_map(Span::parse)
        .collect();
    spans.sort_by_key(|span| span.start);
    Ok(spans)
}
