//! The demo's output on a terminal or in a pipe: one fact per line.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the demo prints to its user"
)]

use std::future::Future;
use std::io::IsTerminal;
use std::time::Duration;

use claviger::events::Event;
use claviger::report::{HandoverMode, RotationOutcome};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::timeline::Calls;

/// Width of a line. Longer texts are wrapped.
const WIDTH: usize = 80;
/// Width of the time before a line.
const TIME: usize = 10;
/// Time between two lines while work takes long.
const NOTICE_INTERVAL: Duration = Duration::from_millis(1_500);

pub(crate) struct Screen {
    began: Instant,
    colours: bool,
    result_line: Mutex<Option<String>>,
}

/// State of the demo, which is printed once a second.
pub(crate) struct Progress {
    /// Name of what a call executes, in the plural.
    pub(crate) calls: &'static str,
    pub(crate) generations: String,
    /// Number of calls in the last second.
    pub(crate) rate: u64,
    pub(crate) connections: u32,
    pub(crate) failed: u64,
    /// Calls in the last second and failures until now, on the plain pool.
    pub(crate) plain: Option<Calls>,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self {
            began: Instant::now(),
            colours,
            result_line: Mutex::default(),
        }
    }

    pub(crate) fn line(&self, text: &str) {
        println!("{}", wrapped(text, WIDTH).join("\n"));
    }

    /// Prints a diagram, without wrapping its lines.
    #[cfg(feature = "traces")]
    pub(crate) fn picture(&self, picture: &str) {
        println!("{picture}");
    }

    /// Awaits `work`, and prints `what` once in 1.5 s until it ends.
    pub(crate) async fn while_waiting<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                result = &mut work => return result,
                () = sleep(NOTICE_INTERVAL) => self.line(&format!("{what} …")),
            }
        }
    }

    /// Sets the last line, which is machine-readable.
    pub(crate) fn set_result_line(&self, line: String) {
        *self.result_line.lock() = Some(line);
    }

    pub(crate) fn print_result_line(&self) {
        if let Some(line) = self.result_line.lock().take() {
            self.line(&line);
        }
    }

    pub(crate) fn problem(&self, text: &str) {
        eprintln!("error: {text}");
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

    /// Prints an announcement, such as a change of a credential.
    pub(crate) fn change(&self, what: &str) {
        self.line_with_time("1", what);
    }

    /// Prints the effect of a change.
    pub(crate) fn effect(&self, what: &str) {
        self.line_with_time("32", what);
    }

    /// Prints a failure that the demo expects.
    pub(crate) fn failure(&self, what: &str) {
        self.line_with_time("31", what);
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
        let text = match plain {
            Some(plain) => format!(
                "{rate} {calls}/s, {failed} failed, {} | plain: {}/s, {} failed",
                counted(*connections, "connection"),
                plain.succeeded,
                plain.failed
            ),
            None => format!(
                "generation {generations}: {rate} {calls}/s, {failed} failed, {}",
                counted(*connections, "connection"),
            ),
        };
        self.line_with_time("0", &text);
    }

    pub(crate) fn event(&self, event: &Event) {
        match event {
            Event::Rejected {
                pool,
                generation,
                error: connect_error,
            } => {
                self.line_with_time(
                    "33",
                    &format!(
                        "  {pool}: generation {generation} is rejected: {}",
                        connect_error.message()
                    ),
                );
            }
            Event::VerificationFailed {
                pool,
                error: connect_error,
            } => {
                self.line_with_time(
                    "33",
                    &format!(
                        "  {pool}: not verified: {} (the current generation stays in use)",
                        connect_error.message()
                    ),
                );
            }
            Event::FetchFailed { provider, error } => {
                self.line_with_time("33", &format!("  {provider}: not fetched: {error}"))
            }
            Event::HandedOver(report) => {
                let mode = if report.mode == HandoverMode::InPlace {
                    "in place"
                } else {
                    "replaced"
                };
                let text = format!(
                    "  {}: generation {} is current, {mode} in {} ms (verify {})",
                    report.pool,
                    report.generation,
                    ms(report.took),
                    ms(report.verify),
                );
                self.line_with_time("32", &text);
            }
            Event::Rotated(report) if report.outcome == RotationOutcome::Adopted => {
                let text = format!(
                    "  {}: rotation ({}), {}, adopted after {} ms",
                    report.provider,
                    report.trigger,
                    counted(report.attempts, "fetch"),
                    ms(report.took),
                );
                self.line_with_time("32", &text);
            }
            Event::Drained {
                pool,
                generation,
                took,
            } => {
                self.line_with_time(
                    "2",
                    &format!(
                        "  {pool}: generation {generation} has drained after {} ms",
                        ms(*took)
                    ),
                );
            }
            Event::DrainAbandoned {
                pool,
                generation,
                connections,
            } => {
                let text = format!(
                    "  {pool}: generation {generation} still has {connections} connections; \
                     they stay open"
                );
                self.line_with_time("33", &text);
            }
            Event::Restarted { actor } => {
                self.line_with_time("31", &format!("  the actor of {actor} was restarted"))
            }
            Event::Missed(missed) => {
                self.line_with_time("31", &format!("  {missed} events were missed"))
            }
            _ => {}
        }
    }
}

fn ms(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1_000.0;
    if ms < 100.0 {
        format!("{ms:.1}")
    } else {
        format!("{ms:.0}")
    }
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
fn wrapped(text: &str, width: usize) -> Vec<String> {
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
