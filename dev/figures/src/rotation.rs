//! One rotation on a time axis, from the spans of a run of the demo.

use serde_json::Value;

use crate::Problem;
use crate::svg::{Anchor, Svg, tick};

const WIDTH: f64 = 840.0;
/// Left and right end of the time axis.
const AXIS: (f64, f64) = (350.0, 760.0);
/// Top of the first row.
const TOP: f64 = 92.0;
const ROW: f64 = 40.0;

/// A span. Times are in milliseconds since the trigger.
#[derive(Debug, PartialEq)]
pub(crate) struct Span {
    name: String,
    depth: f64,
    linked: bool,
    start: f64,
    took: f64,
    failed: bool,
    attributes: Vec<(String, String)>,
}

impl Span {
    fn attribute(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    fn class(&self) -> &'static str {
        match self.name.as_str() {
            _ if self.failed => "red",
            "credential.fetch" => "amber",
            "pool.verify" => "blue",
            "pool.open" | "pool.warm" | "pool.publish" => "green",
            _ => "neutral",
        }
    }

    fn explanation(&self) -> &'static str {
        match self.name.as_str() {
            "credential.fetch" => match self.attribute("trigger") {
                Some("rejected") => "the provider fetches after the rejection",
                Some("changed") => "the provider fetches the rewritten file",
                _ => "the provider fetches the credential",
            },
            "pool.handover" if self.failed => "nothing changes for callers; retried soon",
            "pool.verify" if self.failed => "the database rejects it: not yet changed there",
            "credential.rotation" => "from the trigger to the last pool",
            "pool.handover" => "one pool takes the new credential",
            "pool.verify" => "a real login with it succeeds",
            "pool.open" => "the new pool is created",
            "pool.warm" => "connections are opened ahead of demand",
            "pool.publish" => "queries use the new pool from now on",
            "pool.drain" => "old connections close when they are returned",
            _ => "",
        }
    }
}

/// Parses the events `span` that the demo writes as JSON. Other events are left out.
///
/// # Errors
/// A line is not JSON, a field is missing, or there is no span.
pub(crate) fn parse(lines: &str) -> Result<Vec<Span>, Problem> {
    let mut spans = Vec::new();
    for line in lines.lines().filter(|line| !line.is_empty()) {
        let event: Value = serde_json::from_str(line)?;
        if event["event"] == "span" {
            spans.push(span(&event).ok_or_else(|| format!("not a span: {line}"))?);
        }
    }
    if spans.is_empty() {
        return Err("there is no span of a rotation".into());
    }
    Ok(spans)
}

fn span(event: &Value) -> Option<Span> {
    let attributes: Vec<_> = event["attributes"]
        .as_object()?
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect();
    Some(Span {
        name: event["name"].as_str()?.to_owned(),
        depth: event["depth"].as_f64()?,
        linked: event["linked"].as_bool()?,
        start: event["start_ms"].as_f64()?,
        took: event["took_ms"].as_f64()?,
        failed: attributes.iter().any(|(name, _)| name == "error.type"),
        attributes,
    })
}

/// Draws the spans in their order, each in a row of its own.
pub(crate) fn draw(spans: &[Span]) -> String {
    let end = spans.iter().map(|span| span.start + span.took);
    let end = end.fold(1.0, f64::max);
    let at = |ms: f64| AXIS.0 + (AXIS.1 - AXIS.0) * ms / end;
    let bottom = TOP + ROW * spans.len() as f64;
    let mut picture = Svg::new(
        WIDTH,
        "One rotation of a credential, as a trace",
        &description(spans),
    );
    let trigger = spans.iter().find_map(|span| span.attribute("trigger"));
    picture.text("small", 20.0, 52.0, Anchor::Start, trigger_text(trigger));

    let step = tick(end);
    let mut mark = 0.0;
    while mark <= end {
        picture.vertical("grid", at(mark), TOP - 8.0, bottom);
        let text = number(mark);
        picture.text("small", at(mark), TOP - 14.0, Anchor::Middle, &text);
        mark += step;
    }
    picture.text("small", AXIS.1 + 22.0, TOP - 14.0, Anchor::Start, "ms");

    for (row, span) in spans.iter().enumerate() {
        let y = TOP + ROW * row as f64;
        let x = 20.0 + span.depth * 18.0;
        picture.text("code", x, y + 14.0, Anchor::Start, &span.name);
        let mut text = span.explanation().to_owned();
        if span.linked {
            text.push_str(" (linked)");
        }
        picture.text("small", x, y + 29.0, Anchor::Start, &text);
        let (from, to) = (at(span.start), at(span.start + span.took));
        picture.bar(span.class(), from, y + 5.0, to - from, 16.0);
        let text = format!("{} ms", duration(span.took));
        // At the right of the bar, unless there is no room.
        if to + 70.0 < WIDTH {
            picture.text(
                "small",
                to.max(from + 2.0) + 6.0,
                y + 17.0,
                Anchor::Start,
                &text,
            );
        } else {
            picture.text("small", from - 6.0, y + 17.0, Anchor::End, &text);
        }
    }
    let note = "From a real run of the demo on PostgreSQL: cargo xtask figures. Bars are at least \
                2 px wide.";
    picture.text("small", 20.0, bottom + 22.0, Anchor::Start, note);
    picture.finish(bottom + 38.0)
}

fn trigger_text(trigger: Option<&str>) -> &'static str {
    match trigger {
        Some("changed") => "Trigger: the file with the password was rewritten.",
        Some("rejected") => "Trigger: the database rejected the current password.",
        _ => "",
    }
}

fn description(spans: &[Span]) -> String {
    let rows: Vec<_> = spans
        .iter()
        .map(|span| {
            let failed = if span.failed { ", failed" } else { "" };
            format!(
                "{} from {} ms, {} ms{failed}",
                span.name,
                duration(span.start),
                duration(span.took)
            )
        })
        .collect();
    format!(
        "A time axis in milliseconds with these spans: {}.",
        rows.join("; ")
    )
}

fn duration(ms: f64) -> String {
    if ms < 100.0 {
        format!("{ms:.1}")
    } else {
        format!("{ms:.0}")
    }
}

fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::svg::check;

    const SPANS: &str = r#"{"event":"progress"}
{"event":"span","name":"credential.rotation","depth":0,"linked":false,"start_ms":0,"took_ms":100,"attributes":{"trigger":"changed"}}
{"event":"span","name":"pool.verify","depth":2,"linked":false,"start_ms":10,"took_ms":20,"attributes":{"error.type":"rejected"}}
{"event":"span","name":"pool.drain","depth":0,"linked":true,"start_ms":150,"took_ms":50,"attributes":{}}
"#;

    #[test]
    fn bars_are_at_the_times_of_their_spans() {
        let spans = parse(SPANS).expect("they are spans");
        let svg = draw(&spans);
        check::picture(&svg);
        let middle = (AXIS.0 + AXIS.1) / 2.0;
        let bar = |class: &str, x: f64, width: f64| {
            svg.contains(&format!("class=\"{class}\" x=\"{x:.1}\""))
                && svg.contains(&format!("width=\"{width:.1}\""))
        };
        assert!(bar("neutral", AXIS.0, middle - AXIS.0), "{svg}");
        assert!(
            bar(
                "red",
                AXIS.0 + (AXIS.1 - AXIS.0) * 0.05,
                (AXIS.1 - AXIS.0) * 0.1
            ),
            "{svg}"
        );
        assert!(
            svg.contains("(linked)") && svg.contains("the file with the password was rewritten")
        );
    }

    #[test]
    fn a_file_without_spans_is_an_error() {
        assert!(parse("").is_err() && parse("{\"event\":\"progress\"}").is_err());
        assert!(
            parse("{\"event\":\"span\"}")
                .is_err_and(|error| error.to_string().contains("not a span"))
        );
        assert!(parse("text").is_err());
    }
}
