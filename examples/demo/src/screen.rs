//! The demo's output on a terminal or in a pipe: one fact per line.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the demo prints to its user"
)]

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use claviger::Handle;
use claviger::events::Event;
use claviger::pool::PoolFactory;
use claviger::report::{HandoverMode, RotationOutcome};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::service::Service;

pub(crate) struct Screen {
    began: Instant,
    colours: bool,
    queries: AtomicU64,
    result_line: Mutex<Option<String>>,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self {
            began: Instant::now(),
            colours,
            queries: AtomicU64::new(0),
            result_line: Mutex::default(),
        }
    }

    pub(crate) fn line(&self, text: &str) {
        println!("{text}");
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
        if self.colours {
            println!("\x1b[2m{at:6.2} s\x1b[0m  \x1b[{colour}m{text}\x1b[0m");
        } else {
            println!("{at:6.2} s  {text}");
        }
    }

    /// Prints an announcement, such as a change of a credential.
    pub(crate) fn change(&self, what: &str) {
        self.line_with_time("1", what);
    }

    /// Prints the state, once a second: generations, rate, connections, failures.
    pub(crate) fn progress<P: PoolFactory>(&self, pools: &[Handle<P>], service: &Service) {
        let queries = service.queries();
        let rate = queries - self.queries.swap(queries, Ordering::Relaxed);
        let connections: u32 = pools
            .iter()
            .filter_map(Handle::status)
            .map(|status| status.connections)
            .sum();
        let generations: Vec<_> = pools
            .iter()
            .map(|pool| pool.generation().to_string())
            .collect();
        let generations = generations.join(" and ");
        let text = format!(
            "generation {generations:<3} {rate:>6} queries/s  {connections:>2} connections  \
             {} failed",
            service.failed()
        );
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
                        "  {pool}: the database rejects generation {generation}: {}",
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
                    "  {}: generation {} is current, {mode}: verify {} + open {} + warm {} = {} ms",
                    report.pool,
                    report.generation,
                    ms(report.verify),
                    ms(report.open),
                    ms(report.warm),
                    ms(report.took),
                );
                self.line_with_time("32", &text);
            }
            Event::Rotated(report) if report.outcome == RotationOutcome::Adopted => {
                let text = format!(
                    "  {}: rotation ({}): fetched in {} ms, {} attempt{}; adopted {} ms after its \
                     trigger",
                    report.provider,
                    report.trigger,
                    ms(report.fetch),
                    report.attempts,
                    if report.attempts == 1 { "" } else { "s" },
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
    format!("{:.1}", duration.as_secs_f64() * 1_000.0)
}
