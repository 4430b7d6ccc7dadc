//! A trace as an indented text.

use std::fmt::Write;

use crate::Span;

/// Attributes that Jaeger adds, or that differ between runs.
const OMITTED: [&str; 4] = [
    "internal.span.format",
    "otel.scope.name",
    "otel.scope.version",
    "revision",
];

/// Returns a span and its descendants, each with its depth; children in the order of `spans`.
pub fn pre_order<'a>(spans: &'a [Span], root: &'a Span) -> Vec<(usize, &'a Span)> {
    let mut ordered = Vec::new();
    collect(spans, root, 0, &mut ordered);
    ordered
}

fn collect<'a>(
    spans: &'a [Span],
    span: &'a Span,
    depth: usize,
    ordered: &mut Vec<(usize, &'a Span)>,
) {
    ordered.push((depth, span));
    for child in spans
        .iter()
        .filter(|child| child.trace == span.trace && child.parent.as_deref() == Some(&span.id))
    {
        collect(spans, child, depth + 1, ordered);
    }
}

/// Returns the spans that are linked to a span of this trace.
pub fn linked_to<'a>(spans: &'a [Span], trace: &str) -> Vec<&'a Span> {
    let ids: Vec<_> = spans
        .iter()
        .filter(|span| span.trace == trace)
        .map(|span| span.id.as_str())
        .collect();
    spans
        .iter()
        .filter(|span| span.links.iter().any(|link| ids.contains(&link.as_str())))
        .collect()
}

/// Formats a trace, and the spans linked to it, as an indented text: names, attributes, links.
pub fn tree(spans: &[Span], root: &Span) -> String {
    let mut lines = String::new();
    let linked = linked_to(spans, &root.trace);
    for (depth, span) in std::iter::once(root)
        .chain(linked)
        .flat_map(|root| pre_order(spans, root))
    {
        let _ = writeln!(
            lines,
            "{:indent$}{}",
            "",
            line(spans, span),
            indent = depth * 2
        );
    }
    lines
}

fn line(spans: &[Span], span: &Span) -> String {
    let tags = span
        .tags
        .iter()
        .filter(|(name, _)| !OMITTED.contains(&name.as_str()))
        .map(|(name, value)| format!(" {name}={value}"));
    let links = span.links.iter().map(|link| {
        let linked = spans.iter().find(|other| other.id == *link);
        format!(" → {}", linked.map_or("unknown", |other| &other.name))
    });
    std::iter::once(span.name.clone())
        .chain(tags)
        .chain(links)
        .collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "a test fails by panicking")]

    use super::*;

    const RESPONSE: &str = r#"{"data": [
        {"traceID": "b", "spans": [
            {"traceID": "b", "spanID": "3", "operationName": "pool.drain",
             "startTime": 30, "duration": 1, "tags": [{"key": "abandoned", "value": true}],
             "references": [{"refType": "FOLLOWS_FROM", "spanID": "1"},
                            {"refType": "FOLLOWS_FROM", "spanID": "9"}]}]},
        {"traceID": "a", "spans": [
            {"traceID": "a", "spanID": "2", "operationName": "credential.fetch",
             "startTime": 20, "duration": 5, "tags": [],
             "references": [{"refType": "CHILD_OF", "spanID": "1"}]},
            {"traceID": "a", "spanID": "1", "operationName": "credential.rotation",
             "startTime": 10, "duration": 15, "references": [],
             "tags": [{"key": "trigger", "value": "start"},
                      {"key": "revision", "value": "6b86b273"}]},
            {"spanID": "a span without a trace"}]}
    ]}"#;

    #[test]
    fn a_tree_contains_children_and_linked_spans() {
        let spans = crate::spans(RESPONSE).expect("it is JSON");
        let root = spans
            .iter()
            .find(|span| span.name == "credential.rotation")
            .expect("it is there");
        assert_eq!(root.end().as_micros(), 25);
        assert_eq!(
            tree(&spans, root),
            "credential.rotation trigger=start\n  credential.fetch\n\
             pool.drain abandoned=true → credential.rotation → unknown\n"
        );
        assert!(
            crate::spans("<html>").is_err()
                && crate::spans(r#"{"data": null}"#)
                    .expect("it is JSON")
                    .is_empty()
        );
    }
}
