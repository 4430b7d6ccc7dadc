//! The demo's output on a terminal or in a pipe: one fact per line, or one JSON object per line.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the demo prints to its user"
)]

mod event;
mod json;

use std::future::Future;
use std::io::IsTerminal;
use std::time::Duration;

use claviger::events::Event;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::timeline::Calls;

/// Width of a line. Longer texts are wrapped.
pub(crate) const WIDTH: usize = 80;
/// Width of the time before a line.
const TIME: usize = 10;
/// Time between two lines while work takes long.
const NOTICE_INTERVAL: Duration = Duration::from_millis(1_500);

pub(crate) struct Screen {
    began: Instant,
    colours: bool,
    /// Whether events are written as JSON, and no texts.
    json: bool,
    result: Mutex<Option<Outcome>>,
}

/// State of the demo, which is printed once a second.
pub(crate) struct Progress {
    /// Name of what a call executes, in the plural.
    pub(crate) calls: &'static str,
    pub(crate) generations: Vec<u64>,
    /// Number of calls in the last second.
    pub(crate) rate: u64,
    pub(crate) connections: Connections,
    pub(crate) failed: u64,
    /// Calls in the last second and failures until now, on the plain pool.
    pub(crate) plain: Calls,
}

/// Connections of the current generations.
pub(crate) enum Connections {
    /// Number of open connections: the most in the last second.
    Open(u32),
    /// All callers share one connection.
    Shared,
}

/// Numbers of the whole demo.
pub(crate) struct Outcome {
    /// Name of what a call executes, in the plural.
    pub(crate) calls: &'static str,
    pub(crate) supervised: Calls,
    pub(crate) plain: Calls,
    /// Number of adopted rotations.
    pub(crate) rotations: u32,
    /// Duration of the longest supervised call.
    pub(crate) longest: Duration,
    /// Number of calls that were repeated after a lost connection, on each pool.
    pub(crate) repeated: u64,
    pub(crate) plain_repeated: u64,
}

impl Screen {
    pub(crate) fn new(json: bool) -> Self {
        let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self {
            began: Instant::now(),
            colours,
            json,
            result: Mutex::default(),
        }
    }

    /// Writes an event as JSON, if that was requested. Returns whether it was.
    fn wrote_json(&self, event: &str, fields: &Value) -> bool {
        if self.json {
            let seconds = self.began.elapsed().as_secs_f64();
            println!("{}", json::object(seconds, event, fields));
        }
        self.json
    }

    /// Prints what the demo shows.
    pub(crate) fn start(&self, purpose: &str) {
        if !self.wrote_json("start", &json!({ "purpose": purpose })) {
            print_wrapped(purpose);
        }
    }

    pub(crate) fn line(&self, text: &str) {
        if !self.wrote_json("note", &json!({ "text": text.trim() })) {
            print_wrapped(text);
        }
    }

    /// Prints a diagram or a table, without wrapping its lines. JSON has its numbers elsewhere.
    pub(crate) fn picture(&self, picture: &str) {
        if !self.json {
            println!("{picture}");
        }
    }

    /// Awaits `work`, and prints `what` once in 1.5 s until it ends.
    pub(crate) async fn while_waiting<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                result = &mut work => return result,
                () = sleep(NOTICE_INTERVAL) => self.waiting(what),
            }
        }
    }

    /// Prints what is being waited for.
    pub(crate) fn waiting(&self, what: &str) {
        if !self.wrote_json("waiting", &json!({ "what": what })) {
            print_wrapped(&format!("{what} …"));
        }
    }

    /// Sets the numbers of the last line.
    pub(crate) fn set_result(&self, outcome: Outcome) {
        *self.result.lock() = Some(outcome);
    }

    /// Prints the last line, which is machine-readable.
    pub(crate) fn print_result(&self, succeeded: bool) {
        let Some(outcome) = self.result.lock().take() else {
            return;
        };
        let Outcome {
            calls,
            supervised,
            plain,
            rotations,
            longest,
            repeated,
            plain_repeated,
        } = outcome;
        let fields = json!({
            "succeeded": succeeded,
            "calls": calls,
            "supervised": count_fields(supervised),
            "plain": count_fields(plain),
            "rotations": rotations,
            "longest_call_seconds": longest.as_secs_f64(),
            "repeated_calls": repeated,
            "plain_repeated_calls": plain_repeated,
        });
        if !self.wrote_json("result", &fields) {
            print_wrapped(&format!(
                "demo: {} {calls}, {rotations} rotations, {} failed; the plain pool: {} failed",
                supervised.succeeded, supervised.failed, plain.failed
            ));
        }
    }

    /// Prints an error, on stderr as text, too.
    pub(crate) fn problem(&self, text: &str) {
        eprintln!("error: {text}");
        self.wrote_json("problem", &json!({ "text": text }));
    }

    fn line_with_time(&self, colour: &str, text: &str) {
        let at = self.began.elapsed().as_secs_f64();
        for (number, line) in wrapped(text, WIDTH - TIME).iter().enumerate() {
            let time = if number == 0 {
                format!("{at:6.2} s")
            } else {
                " ".repeat(TIME - 2)
            };
            if self.colours {
                println!("\x1b[2m{time}\x1b[0m  \x1b[{colour}m{line}\x1b[0m");
            } else {
                println!("{time}  {line}");
            }
        }
    }

    /// Announces a step.
    pub(crate) fn step(&self, number: u64, what: &str) {
        if !self.wrote_json("step", &json!({ "number": number, "what": what })) {
            self.line_with_time("1", &format!("step {number}, {what}"));
        }
    }

    /// Prints another change, such as a restart of the plain service.
    pub(crate) fn change(&self, what: &str) {
        if !self.wrote_json("change", &json!({ "what": what })) {
            self.line_with_time("1", what);
        }
    }

    /// Prints how many callers waited for the fetches that a rejection caused.
    pub(crate) fn callers_waited(&self, callers: u64, fetches: u64) {
        let fields = json!({ "callers": callers, "fetches": fetches });
        if !self.wrote_json("callers_waited", &fields) {
            self.line_with_time(
                "32",
                &format!(
                    "  {} wait; the rejection has caused {}; the file is rewritten",
                    counted(callers, "caller"),
                    counted(fetches, "fetch")
                ),
            );
        }
    }

    /// Prints the first failure of the plain pool after a change, which the demo expects.
    pub(crate) fn plain_pool_failed(&self, error: &str) {
        if !self.wrote_json("plain_pool_failed", &json!({ "error": error })) {
            self.line_with_time("31", &format!("  plain pool fails: {error}"));
        }
    }

    pub(crate) fn progress(&self, now: &Progress) {
        let Progress {
            calls,
            generations,
            rate,
            connections,
            failed,
            plain,
        } = now;
        let connections = match connections {
            Connections::Open(count) => *count,
            Connections::Shared => 1,
        };
        let fields = json!({
            "calls": calls,
            "generations": generations,
            "per_second": rate,
            "failed": failed,
            "connections": connections,
            "plain_per_second": plain.succeeded,
            "plain_failed": plain.failed,
        });
        if !self.wrote_json("progress", &fields) {
            let text = format!(
                "{rate} {calls}/s, {failed} failed, {} | plain: {}/s, {} failed",
                counted(connections, "connection"),
                plain.succeeded,
                plain.failed
            );
            self.line_with_time("0", &text);
        }
    }

    /// Prints an event of the supervisor.
    pub(crate) fn event(&self, event: &Event) {
        if let Some(line) = event::line(event)
            && !self.wrote_json(line.event, &line.fields)
        {
            self.line_with_time(line.colour, &format!("  {}", line.text));
        }
    }

    /// Writes an event that the text form shows as a picture.
    pub(crate) fn data(&self, event: &str, fields: &Value) {
        self.wrote_json(event, fields);
    }
}

/// Returns the fields of a number of calls.
pub(crate) fn count_fields(calls: Calls) -> Value {
    json!({ "succeeded": calls.succeeded, "failed": calls.failed })
}

fn print_wrapped(text: &str) {
    println!("{}", wrapped(text, WIDTH).join("\n"));
}

/// Returns `1 connection`, `2 connections`, `2 fetches`.
pub(crate) fn counted(count: impl Into<u64>, noun: &str) -> String {
    match count.into() {
        1 => format!("1 {noun}"),
        count if noun.ends_with("ch") => format!("{count} {noun}es"),
        count => format!("{count} {noun}s"),
    }
}

/// Breaks a text between words into lines of at most `width` columns. The following lines are
/// indented by two columns more than the first.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    if text.chars().count() <= width {
        return vec![text.to_owned()];
    }
    let indent = text.len() - text.trim_start().len();
    let mut lines = Vec::new();
    let mut line = " ".repeat(indent);
    for word in text.split_whitespace() {
        let is_empty = line.trim().is_empty();
        if !is_empty && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(std::mem::replace(&mut line, " ".repeat(indent + 2)));
        } else if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_continued_below_with_an_indent() {
        assert_eq!(
            wrapped("  orders: generation 2 is rejected", 20),
            ["  orders: generation", "    2 is rejected"]
        );
        assert_eq!(wrapped("  as  it is", 20), ["  as  it is"]);
        assert_eq!(
            wrapped("one incomprehensible", 10),
            ["one", "  incomprehensible"]
        );
    }

    #[test]
    fn a_count_of_one_has_a_singular_noun() {
        assert_eq!(counted(1_u32, "connection"), "1 connection");
        assert_eq!(counted(0_u32, "connection"), "0 connections");
        assert_eq!(counted(2_u64, "fetch"), "2 fetches");
    }
}
