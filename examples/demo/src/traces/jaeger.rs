//! What Jaeger's API tells.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::Problem;

const TIMEOUT: Duration = Duration::from_secs(3);

/// A Jaeger that was built without its pages answers so wherever they would be.
const PLACEHOLDER: &str = "This is not the Jaeger UI";

/// A span, as far as it is drawn.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub(super) id: String,
    pub(super) name: String,
    parent: Option<String>,
    links: Vec<String>,
    tags: Value,
    pub(super) start: Duration,
    pub(super) took: Duration,
}

impl Span {
    fn of(span: &Value) -> Option<Self> {
        let references = span["references"].as_array()?;
        let of =
            |kind: &str| references.iter().filter(|one| one["refType"] == kind).filter_map(|one| text(&one["spanID"])).collect::<Vec<_>>();
        Some(Self {
            id: text(&span["spanID"])?,
            name: text(&span["operationName"])?,
            parent: of("CHILD_OF").pop(),
            links: of("FOLLOWS_FROM"),
            tags: span["tags"].clone(),
            start: Duration::from_micros(span["startTime"].as_u64()?),
            took: Duration::from_micros(span["duration"].as_u64()?),
        })
    }

    pub(super) fn tag(&self, name: &str) -> Option<String> {
        let tag = self.tags.as_array()?.iter().find(|tag| tag["key"] == name)?;
        Some(text(&tag["value"]).unwrap_or_else(|| tag["value"].to_string()))
    }

    pub(super) fn end(&self) -> Duration {
        self.start + self.took
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// A rotation's spans in the order in which they are drawn, each with its depth; then what is linked to them.
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

/// The last rotation that was adopted since then, if it tells one.
pub(super) async fn last_rotation(query: &str, service: &str, since: SystemTime) -> Result<Option<Rotation>, Problem> {
    let since = since.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    let answer = get(&format!("{query}/api/traces?service={service}&limit=2000&start={since}")).await?;
    let answer: Value = serde_json::from_str(&answer)?;
    Ok(rotation_in(&answer))
}

fn rotation_in(answer: &Value) -> Option<Rotation> {
    let traces: Vec<(String, Vec<Span>)> = answer["data"]
        .as_array()?
        .iter()
        .filter_map(|trace| Some((text(&trace["traceID"])?, trace["spans"].as_array()?.iter().filter_map(Span::of).collect())))
        .collect();
    let is_adopted = |span: &Span| span.name == "credential.rotation" && span.tag("outcome").as_deref() == Some("adopted");
    let handed_over = traces.iter().filter(|(_, spans)| spans.iter().any(|span| span.name == "pool.handover" && span.tag("how").is_some()));
    let roots = handed_over.filter_map(|(trace, spans)| Some((trace, spans, spans.iter().find(|span| is_adopted(span))?)));
    let (trace, spans, root) = roots.max_by_key(|(_, _, root)| root.start)?;
    let mut ordered = Vec::new();
    put_in_order(spans, root, 0, &mut ordered);
    let linked = traces
        .iter()
        .flat_map(|(_, spans)| spans)
        .filter(|span| span.links.iter().any(|link| spans.iter().any(|one| one.id == *link)))
        .cloned()
        .collect();
    Some(Rotation { trace: trace.clone(), spans: ordered, linked })
}

fn put_in_order(spans: &[Span], span: &Span, depth: usize, ordered: &mut Vec<(usize, Span)>) {
    ordered.push((depth, span.clone()));
    let mut children: Vec<_> = spans.iter().filter(|child| child.parent.as_deref() == Some(&span.id)).collect();
    children.sort_by_key(|child| child.start);
    for child in children {
        put_in_order(spans, child, depth + 1, ordered);
    }
}

/// Whether there is a page of Jaeger's at this address.
pub(super) async fn has_page(address: &str) -> bool {
    get(address).await.is_ok_and(|page| page.contains("<html") && !page.contains(PLACEHOLDER))
}

/// It does not wait for long.
pub(super) fn client() -> Result<reqwest::Client, Problem> {
    Ok(reqwest::Client::builder().timeout(TIMEOUT).build()?)
}

async fn get(address: &str) -> Result<String, Problem> {
    Ok(client()?.get(address).send().await?.error_for_status()?.text().await?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn span(id: &str, name: &str, start: u64, references: &Value, tags: &Value) -> Value {
        json!({"spanID": id, "operationName": name, "startTime": start, "duration": 10, "references": references, "tags": tags})
    }

    fn rotation(trace: &str, start: u64, outcome: &str) -> Value {
        let child = json!([{"refType": "CHILD_OF", "spanID": trace}]);
        json!({"traceID": trace, "spans": [
            span(&format!("{trace}-handover"), "pool.handover", start + 2, &child, &json!([{"key": "how", "value": "replace"}])),
            span(&format!("{trace}-fetch"), "credential.fetch", start + 1, &child, &json!([])),
            span(trace, "credential.rotation", start, &json!([]), &json!([{"key": "outcome", "value": outcome}])),
        ]})
    }

    #[test]
    fn the_last_adopted_one_is_found_with_what_is_linked_to_it() {
        let link = json!([{"refType": "FOLLOWS_FROM", "spanID": "b"}]);
        let drain = json!({"traceID": "d", "spans": [span("d", "pool.drain", 150, &link, &json!([]))]});
        let answer =
            json!({"data": [rotation("a", 50, "adopted"), rotation("b", 100, "adopted"), rotation("c", 200, "superseded"), drain]});
        let found = rotation_in(&answer);
        let found = found.as_ref();
        assert_eq!(found.map(|found| found.trace.as_str()), Some("b"));
        let drawn = found.map(|found| found.spans.iter().map(|(depth, span)| (*depth, span.name.as_str())).collect::<Vec<_>>());
        assert_eq!(drawn, Some(vec![(0, "credential.rotation"), (1, "credential.fetch"), (1, "pool.handover")]));
        assert!(found.is_some_and(Rotation::has_drain));
        assert!(rotation_in(&json!({"data": [rotation("c", 1, "unchanged")]})).is_none());
        assert!(rotation_in(&json!({"data": null})).is_none());
    }
}
