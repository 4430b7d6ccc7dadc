//! A trace on the terminal: one line a span, its bar where it was in time.

use std::fmt::Write;
use std::time::Duration;

use super::jaeger::{Rotation, Span};

/// How many columns the whole rotation has.
const WIDTH: usize = 44;
const NAMES: usize = 24;

/// The picture. The scale goes from the trigger to the end of the last span.
pub(super) fn of(rotation: &Rotation) -> String {
    let Some(root) = rotation.root() else { return String::new() };
    let all = || rotation.spans.iter().map(|(_, span)| span).chain(&rotation.linked);
    let scale = Scale { start: root.start, end: all().map(Span::end).max().unwrap_or(root.end()) };
    let mut picture = format!("{:<NAMES$}  {:<WIDTH$}  {:>8}  {:>8}\n", "", "", "at ms", "took ms");
    for (depth, span) in &rotation.spans {
        scale.draw(&mut picture, *depth, span, "");
    }
    for span in &rotation.linked {
        scale.draw(&mut picture, 0, span, "linked to the rotation; ");
    }
    picture
}

struct Scale {
    start: Duration,
    end: Duration,
}

impl Scale {
    fn draw(&self, picture: &mut String, depth: usize, span: &Span, how: &str) {
        let name = format!("{:indent$}{}", "", span.name, indent = depth * 2);
        let from = self.column(span.start).min(WIDTH - 1);
        let to = self.column(span.end()).max(from + 1);
        let bar = format!("{:from$}{}", "", "█".repeat(to - from));
        let (at, took) = (ms(span.start.saturating_sub(self.start)), ms(span.took));
        let line = format!("{name:<NAMES$}  {bar:<WIDTH$}  {at:>8}  {took:>8}  {how}{}", notes(span));
        let _ = writeln!(picture, "{}", line.trim_end());
    }

    /// From 0 to the width.
    fn column(&self, at: Duration) -> usize {
        let whole = self.end.saturating_sub(self.start).as_secs_f64().max(f64::EPSILON);
        let share = at.saturating_sub(self.start).as_secs_f64() / whole;
        ((share * WIDTH as f64).round() as usize).min(WIDTH)
    }
}

/// What a newcomer wants to know of a span.
fn notes(span: &Span) -> String {
    let told = ["trigger", "outcome", "pool", "how", "generation", "sessions", "abandoned", "error.type"];
    let of_a_part = span.name == "credential.fetch" || span.name == "pool.publish";
    let notes: Vec<_> = told
        .iter()
        .filter(|name| !(of_a_part && **name == "generation"))
        .filter_map(|name| Some(format!("{name}={}", span.tag(name)?)))
        .collect();
    notes.join(" ")
}

fn ms(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64() * 1_000.0)
}
