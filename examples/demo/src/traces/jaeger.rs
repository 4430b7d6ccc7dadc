//! Reads rotations from Jaeger's API.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use claviger_traces::{Span, linked_to, pre_order};

use crate::Problem;

const TIMEOUT: Duration = Duration::from_secs(3);

/// Text of a Jaeger that was built without its pages.
const PLACEHOLDER: &str = "This is not the Jaeger UI";

/// Spans of a rotation in drawing order, each with its depth, and the spans that are linked to
/// them.
#[derive(Debug)]
pub(super) struct Rotation {
    pub(super) trace: String,
    pub(super) spans: Vec<(usize, Span)>,
    pub(super) linked: Vec<Span>,
}

impl Rotation {
    pub(super) fn has_drain(&self) -> bool {
        self.linked.iter().any(|span| span.name == "pool.drain")
    }

    pub(super) fn root(&self) -> Option<&Span> {
        self.spans.first().map(|(_, span)| span)
    }
}

/// Returns the last rotation that was adopted after `since`, if any.
pub(super) async fn last_rotation(
    query: &str,
    service: &str,
    since: SystemTime,
) -> Result<Option<Rotation>, Problem> {
    let since = since
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_micros();
    let response = get(&format!(
        "{query}/api/traces?service={service}&limit=2000&start={since}"
    ))
    .await?;
    Ok(rotation_in(&claviger_traces::spans(&response)?))
}

fn rotation_in(spans: &[Span]) -> Option<Rotation> {
    let was_handed_over = |root: &Span| {
        spans.iter().any(|span| {
            span.trace == root.trace && span.name == "pool.handover" && span.tag("mode").is_some()
        })
    };
    let adopted = spans.iter().filter(|span| {
        span.name == "credential.rotation" && span.tag("outcome") == Some("adopted")
    });
    let root = adopted
        .filter(|root| was_handed_over(root))
        .max_by_key(|root| root.start)?;
    Some(Rotation {
        trace: root.trace.clone(),
        spans: pre_order(spans, root)
            .into_iter()
            .map(|(depth, span)| (depth, span.clone()))
            .collect(),
        linked: linked_to(spans, &root.trace).into_iter().cloned().collect(),
    })
}

/// Returns whether there is a Jaeger page at this address.
pub(super) async fn has_page(address: &str) -> bool {
    get(address)
        .await
        .is_ok_and(|page| page.contains("<html") && !page.contains(PLACEHOLDER))
}

/// Returns a client with a short timeout.
pub(super) fn client() -> Result<reqwest::Client, Problem> {
    Ok(reqwest::Client::builder().timeout(TIMEOUT).build()?)
}

async fn get(address: &str) -> Result<String, Problem> {
    Ok(client()?
        .get(address)
        .send()
        .await?
        .error_for_status()?
        .text()
        .await?)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn span(
        trace: &str,
        id: &str,
        name: &str,
        start: u64,
        references: &Value,
        tags: &Value,
    ) -> Value {
        json!({
            "traceID": trace,
            "spanID": id,
            "operationName": name,
            "startTime": start,
            "duration": 10,
            "references": references,
            "tags": tags,
        })
    }

    fn rotation(trace: &str, start: u64, outcome: &str) -> Value {
        let child = json!([{"refType": "CHILD_OF", "spanID": trace}]);
        let tags = |key: &str, value: &str| json!([{"key": key, "value": value}]);
        let (handover, fetch) = (format!("{trace}-handover"), format!("{trace}-fetch"));
        let mode = tags("mode", "replace");
        json!({"spans": [
            span(trace, &handover, "pool.handover", start + 2, &child, &mode),
            span(trace, &fetch, "credential.fetch", start + 1, &child, &json!([])),
            span(trace, trace, "credential.rotation", start, &json!([]), &tags("outcome", outcome)),
        ]})
    }

    fn found_in(response: &Value) -> Option<Rotation> {
        rotation_in(&claviger_traces::spans(&response.to_string()).ok()?)
    }

    #[test]
    fn the_last_adopted_rotation_is_found_with_its_linked_spans() {
        let link = json!([{"refType": "FOLLOWS_FROM", "spanID": "b"}]);
        let drain = json!({"spans": [span("d", "d", "pool.drain", 150, &link, &json!([]))]});
        let found = found_in(&json!({"data": [
            rotation("a", 50, "adopted"),
            rotation("b", 100, "adopted"),
            rotation("c", 200, "superseded"),
            drain,
        ]}));
        let found = found.as_ref();
        assert_eq!(found.map(|found| found.trace.as_str()), Some("b"));
        let drawn = found.map(|found| {
            found
                .spans
                .iter()
                .map(|(depth, span)| (*depth, span.name.as_str()))
                .collect::<Vec<_>>()
        });
        assert_eq!(
            drawn,
            Some(vec![
                (0, "credential.rotation"),
                (1, "credential.fetch"),
                (1, "pool.handover")
            ])
        );
        assert!(found.is_some_and(Rotation::has_drain));
        assert!(found_in(&json!({"data": [rotation("c", 1, "unchanged")]})).is_none());
        assert!(found_in(&json!({"data": null})).is_none());
    }
}
