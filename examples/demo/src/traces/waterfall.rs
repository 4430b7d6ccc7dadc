//! A trace on the terminal: one line a span, its bar where it was in time.

use std::fmt::Write;
use std::time::Duration;

use claviger_traces::Span;

use super::jaeger::Rotation;

/// How many columns the whole rotation has.
const WIDTH: usize = 44;
const NAMES: usize = 24;

/// The picture. The scale goes from the trigger to the end of the last span.
pub(super) fn of(rotation: &Rotation) -> String {
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
        "{:<NAMES$}  {:<WIDTH$}  {:>8}  {:>8}\n",
        "", "", "at ms", "took ms"
    );
    for (depth, span) in &rotation.spans {
        let within = rotation
            .spans
            .iter()
            .map(|(_, other)| other)
            .find(|other| span.parent.as_ref() == Some(&other.id));
        let in_place = within.is_some_and(|handover| handover.tag("mode") == Some("in_place"));
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
        let line = format!("{name:<NAMES$}  {bar:<WIDTH$}  {at:>8}  {took:>8}  {notes}");
        let _ = writeln!(picture, "{}", line.trim_end());
    }

    /// From 0 to the width.
    fn column(&self, at: Duration) -> usize {
        let whole = self
            .end
            .saturating_sub(self.start)
            .as_secs_f64()
            .max(f64::EPSILON);
        let share = at.saturating_sub(self.start).as_secs_f64() / whole;
        ((share * WIDTH as f64).round() as usize).min(WIDTH)
    }
}

/// What a newcomer wants to know of a span: its attributes, and what is done there in plain words.
fn notes(span: &Span, in_place: bool) -> String {
    let told = [
        "trigger",
        "outcome",
        "pool",
        "mode",
        "generation",
        "connections",
        "abandoned",
        "error.type",
    ];
    let words = in_words(span, in_place);
    // The fetch has its rotation's trigger, the publication its handover's generation.
    let repeats = matches!(span.name.as_str(), "credential.fetch" | "pool.publish");
    let notes: Vec<_> = told
        .iter()
        .filter_map(|name| Some(format!("{name}={}", span.tag(name)?)))
        .collect();
    match (
        words,
        notes.is_empty() || (repeats && span.tag("error.type").is_none()),
    ) {
        (None, _) => notes.join(" "),
        (Some(words), true) => words.to_owned(),
        (Some(words), false) => format!("{words} ({})", notes.join(" ")),
    }
}

fn in_words(span: &Span, in_place: bool) -> Option<&'static str> {
    if span.tag("error.type").is_some() {
        return Some("failed, and is tried again");
    }
    Some(match span.name.as_str() {
        "credential.rotation" => "from the trigger to the last pool",
        "credential.fetch" => "the backend is asked for the credential",
        "pool.handover" => "one pool takes the new credential",
        "pool.verify" => "a login with it works",
        "pool.open" if in_place => "the pool gets it for the connections to come",
        "pool.open" => "the new pool is made",
        "pool.warm" => "connections are opened ahead of demand",
        "pool.publish" if in_place => "a new generation of the same pool",
        "pool.publish" => "from now on queries go to the new pool",
        "pool.drain" => "connections of the old pool end as they come back",
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
    fn each_bar_is_where_its_span_was_in_time_and_says_what_was_done() {
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
        let expected = [
            format!(
                "{:<NAMES$}  {}       0.0     100.0  from the trigger to the last pool (trigger=rejected outcome=adopted)",
                "credential.rotation",
                bar(0, 2 * quarter)
            ),
            format!(
                "{:<NAMES$}  {}       0.0      25.0  failed, and is tried again (trigger=rejected error.type=unavailable)",
                "  credential.fetch",
                bar(0, 6)
            ),
            format!(
                "{:<NAMES$}  {}      50.0      50.0  the backend is asked for the credential",
                "  credential.fetch",
                bar(quarter, 2 * quarter)
            ),
            format!(
                "{:<NAMES$}  {}     100.0     100.0  linked to the rotation; connections of the old pool end as they come back (generation=1)",
                "pool.drain",
                bar(2 * quarter, WIDTH)
            ),
        ];
        let picture = of(&rotation);
        assert_eq!(picture.lines().skip(1).collect::<Vec<_>>(), expected);
    }
}
