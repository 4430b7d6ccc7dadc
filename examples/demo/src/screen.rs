//! What a person sees, on a terminal or in a pipe: plain lines, one fact each.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is the demo's face")]

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use claviger::{Event, Handle, How, Outcome};
use sqlx::PgPool;
use tokio::time::Instant;

use crate::service::Service;

pub(crate) struct Screen {
    began: Instant,
    colours: bool,
    queries: AtomicU64,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { began: Instant::now(), colours, queries: AtomicU64::new(0) }
    }

    pub(crate) fn line(&self, text: &str) {
        println!("{text}");
    }

    pub(crate) fn problem(&self, text: &str) {
        eprintln!("error: {text}");
    }

    fn stamped(&self, colour: &str, text: &str) {
        let at = self.began.elapsed().as_secs_f64();
        if self.colours {
            println!("\x1b[2m{at:6.2} s\x1b[0m  \x1b[{colour}m{text}\x1b[0m");
        } else {
            println!("{at:6.2} s  {text}");
        }
    }

    /// The password is about to change under the service.
    pub(crate) fn change(&self, number: u32, announced: bool) {
        let what = if announced {
            "announced: the file is rewritten, then ALTER ROLE"
        } else {
            "unannounced: ALTER ROLE, the file half a second later"
        };
        self.stamped("1", &format!("change {number}, {what}"));
    }

    /// Once a second: what is served, and how fast.
    pub(crate) fn standing(&self, db: &Handle<PgPool>, service: &Service) {
        let queries = service.queries();
        let rate = queries - self.queries.swap(queries, Ordering::Relaxed);
        let sessions = db.status().map_or(0, |status| status.sessions);
        let text = format!("generation {:<3} {rate:>6} queries/s  {sessions:>2} sessions  {} failed", db.generation(), service.failed());
        self.stamped("0", &text);
    }

    pub(crate) fn event(&self, event: &Event) {
        match event {
            Event::Refused { generation, fault, .. } => {
                self.stamped("33", &format!("  the database refuses generation {generation}: {}", fault.message()));
            }
            Event::ProofFailed { fault, .. } => self.stamped("33", &format!("  not proved: {} (what is served goes on)", fault.message())),
            Event::FetchFailed { error, .. } => self.stamped("33", &format!("  not fetched: {error}")),
            Event::HandedOver(report) => {
                let how = if report.how == How::InPlace { "in place" } else { "replaced" };
                let text = format!(
                    "  generation {} is served, {how}: prove {} + open {} + warm {} = {} ms",
                    report.generation,
                    ms(report.prove),
                    ms(report.open),
                    ms(report.warm),
                    ms(report.took),
                );
                self.stamped("32", &text);
            }
            Event::Rotated(report) if report.outcome == Outcome::Adopted => {
                let text = format!(
                    "  rotation ({}): fetched in {} ms, {} attempt{}; adopted {} ms after its trigger",
                    report.trigger,
                    ms(report.fetch),
                    report.attempts,
                    if report.attempts == 1 { "" } else { "s" },
                    ms(report.took),
                );
                self.stamped("32", &text);
            }
            Event::Drained { generation, took, .. } => {
                self.stamped("2", &format!("  generation {generation} has drained after {} ms", ms(*took)));
            }
            Event::DrainAbandoned { generation, sessions, .. } => {
                self.stamped("33", &format!("  generation {generation} still has {sessions} sessions; they are not cut"));
            }
            Event::Restarted { actor } => self.stamped("31", &format!("  the actor of {actor} was restarted")),
            Event::Missed(missed) => self.stamped("31", &format!("  {missed} events were missed")),
            _ => {}
        }
    }
}

fn ms(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64() * 1_000.0)
}
