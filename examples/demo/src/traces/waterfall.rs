//! Draws a trace on the terminal: for each span a line with a bar at its time, and an explanation
//! below.

use std::fmt::Write;
use std::time::Duration;

use claviger_traces::Span;
use serde_json::{Value, json};

use super::jaeger::Rotation;
use crate::screen::{WIDTH as LINE, wrapped};

/// Width of the bars, in columns.
const WIDTH: usize = 36;
/// Width of the names, in columns.
const NAMES: usize = 22;

/// Attributes that are shown.
const ATTRIBUTES: [&str; 8] = [
    "trigger",
    "outcome",
    "pool",
    "mode",
    "generation",
    "connections",
    "abandoned",
    "error.type",
];

/// Returns the spans of a rotation as fields of JSON, in drawing order. Times are in milliseconds
/// since the trigger.
pub(super) fn fields(rotation: &Rotation) -> Vec<Value> {
    let start = rotation.root().map_or(Duration::ZERO, |root| root.start);
    let ms = |duration: Duration| duration.as_micros() as f64 / 1_000.0;
    let spans = rotation.spans.iter().map(|(depth, span)| (*depth, span));
    let linked = rotation.linked.iter().map(|span| (0, span));
    let spans = spans.map(|span| (span, false));
    spans
        .chain(linked.map(|span| (span, true)))
        .map(|((depth, span), linked)| {
            let attributes: serde_json::Map<_, _> = ATTRIBUTES
                .iter()
                .filter_map(|name| Some(((*name).to_owned(), span.tag(name)?.into())))
                .collect();
            json!({
                "trace": rotation.trace,
                "name": span.name,
                "depth": depth,
                "linked": linked,
                "start_ms": ms(span.start.saturating_sub(start)),
                "took_ms": ms(span.took),
                "attributes": attributes,
            })
        })
        .collect()
}

/// Draws a rotation. The scale is from the trigger to the end of the last span.
pub(super) fn draw(rotation: &Rotation) -> String {
    let Some(root) = rotation.root() else {
        return String::new();
    };
    let all = || {
        rotation
            .spans
            .iter()
            .map(|(_, span)| span)
            .chain(&rotation.linked)
    };
    let scale = Scale {
        start: root.start,
        end: all().map(Span::end).max().unwrap_or(root.end()),
    };
    let mut picture = format!(
        "{:<NAMES$}  {:<WIDTH$} {:>8} {:>8}\n",
        "", "", "at ms", "took ms"
    );
    for (depth, span) in &rotation.spans {
        let parent = rotation
            .spans
            .iter()
            .map(|(_, other)| other)
            .find(|other| span.parent.as_ref() == Some(&other.id));
        let in_place = parent.is_some_and(|handover| handover.tag("mode") == Some("in_place"));
        scale.draw(&mut picture, *depth, span, &notes(span, in_place));
    }
    for span in &rotation.linked {
        scale.draw(
            &mut picture,
            0,
            span,
            &format!("linked to the rotation; {}", notes(span, false)),
        );
    }
    picture
}

struct Scale {
    start: Duration,
    end: Duration,
}

impl Scale {
    fn draw(&self, picture: &mut String, depth: usize, span: &Span, notes: &str) {
        let name = format!("{:indent$}{}", "", span.name, indent = depth * 2);
        let from = self.column(span.start).min(WIDTH - 1);
        let to = self.column(span.end()).max(from + 1);
        let bar = format!("{:from$}{}", "", "█".repeat(to - from));
        let (at, took) = (ms(span.start.saturating_sub(self.start)), ms(span.took));
        let _ = writeln!(picture, "{name:<NAMES$}  {bar:<WIDTH$} {at:>8} {took:>8}");
        let notes = format!("{:indent$}{notes}", "", indent = depth * 2 + 4);
        for line in wrapped(&notes, LINE) {
            let _ = writeln!(picture, "{line}");
        }
    }

    /// Returns the column of a time, from 0 to the width.
    fn column(&self, at: Duration) -> usize {
        let total = self
            .end
            .saturating_sub(self.start)
            .as_secs_f64()
            .max(f64::EPSILON);
        let share = at.saturating_sub(self.start).as_secs_f64() / total;
        ((share * WIDTH as f64).round() as usize).min(WIDTH)
    }
}

/// Returns the attributes of a span and a short explanation.
fn notes(span: &Span, in_place: bool) -> String {
    let text = explanation(span, in_place);
    // The fetch repeats its rotation's trigger, the publication its handover's generation.
    let repeats = matches!(span.name.as_str(), "credential.fetch" | "pool.publish");
    let notes: Vec<_> = ATTRIBUTES
        .iter()
        .filter_map(|name| Some(format!("{name}={}", span.tag(name)?)))
        .collect();
    match (
        text,
        notes.is_empty() || (repeats && span.tag("error.type").is_none()),
    ) {
        (None, _) => notes.join(" "),
        (Some(text), true) => text.to_owned(),
        (Some(text), false) => format!("{text} ({})", notes.join(" ")),
    }
}

fn explanation(span: &Span, in_place: bool) -> Option<&'static str> {
    if span.tag("error.type").is_some() {
        return Some("failed and is retried");
    }
    Some(match span.name.as_str() {
        "credential.rotation" => "from the trigger to the last pool",
        "credential.fetch" => "the provider fetches the credential",
        "pool.handover" => "one pool takes the new credential",
        "pool.verify" => "a login with it succeeds",
        "pool.open" if in_place => "the pool uses it for new connections",
        "pool.open" => "the new pool is created",
        "pool.warm" => "connections are opened ahead of demand",
        "pool.publish" if in_place => "a new generation of the same pool",
        "pool.publish" => "queries use the new pool from now on",
        "pool.drain" => "connections of the old pool close when they are returned",
        _ => return None,
    })
}

fn ms(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64() * 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(name: &str, start: u64, took: u64, tags: &[(&str, &str)]) -> Span {
        Span {
            trace: "a".to_owned(),
            id: name.to_owned(),
            name: name.to_owned(),
            parent: None,
            links: Vec::new(),
            tags: tags
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            start: Duration::from_millis(start),
            took: Duration::from_millis(took),
        }
    }

    #[test]
    fn each_bar_is_at_its_spans_time_and_has_an_explanation() {
        let rotation = Rotation {
            trace: "a".to_owned(),
            spans: vec![
                (
                    0,
                    span(
                        "credential.rotation",
                        1_000,
                        100,
                        &[("trigger", "rejected"), ("outcome", "adopted")],
                    ),
                ),
                (
                    1,
                    span(
                        "credential.fetch",
                        1_000,
                        25,
                        &[("trigger", "rejected"), ("error.type", "unavailable")],
                    ),
                ),
                (
                    1,
                    span("credential.fetch", 1_050, 50, &[("trigger", "rejected")]),
                ),
            ],
            linked: vec![span("pool.drain", 1_100, 100, &[("generation", "1")])],
        };
        let quarter = WIDTH / 4;
        let bar = |from: usize, to: usize| {
            format!(
                "{}{}{}",
                " ".repeat(from),
                "█".repeat(to - from),
                " ".repeat(WIDTH - to)
            )
        };
        let line = |name: &str, bar: &str, at: &str, took: &str| {
            format!("{name:<NAMES$}  {bar} {at:>8} {took:>8}")
        };
        let expected = [
            line("credential.rotation", &bar(0, 2 * quarter), "0.0", "100.0"),
            "    from the trigger to the last pool (trigger=rejected outcome=adopted)".to_owned(),
            line("  credential.fetch", &bar(0, 5), "0.0", "25.0"),
            "      failed and is retried (trigger=rejected error.type=unavailable)".to_owned(),
            line(
                "  credential.fetch",
                &bar(quarter, 2 * quarter),
                "50.0",
                "50.0",
            ),
            "      the provider fetches the credential".to_owned(),
            line("pool.drain", &bar(2 * quarter, WIDTH), "100.0", "100.0"),
            "    linked to the rotation; connections of the old pool close when they are"
                .to_owned(),
            "      returned (generation=1)".to_owned(),
        ];
        let picture = draw(&rotation);
        assert_eq!(picture.lines().skip(1).collect::<Vec<_>>(), expected);
        assert!(picture.lines().all(|line| line.chars().count() <= LINE));
    }
}
