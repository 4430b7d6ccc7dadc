//! What a service receives that logs through the `log` crate and has no `tracing` subscriber.

use std::sync::{Mutex, PoisonError};

/// Written by both ways to show that neither is silent.
const OWN_LINE: &str = "a line of the service's own";

static LINES: Mutex<Vec<LogLine>> = Mutex::new(Vec::new());

/// One record that the logger received.
#[derive(Clone, Debug)]
pub struct LogLine {
    /// Its level.
    pub level: log::Level,
    /// Where it comes from: a module's path, or what the record says.
    pub target: String,
    /// Its text.
    pub text: String,
}

/// Everything that is logged through the `log` crate in this process, at TRACE.
#[derive(Clone, Copy, Debug)]
pub struct LogAlone(());

impl LogAlone {
    /// Records everything from now on.
    ///
    /// # Panics
    /// When there is a logger already.
    pub fn everything() -> Self {
        log::set_logger(&Recorder).expect("the only logger");
        log::set_max_level(log::LevelFilter::Trace);
        Self(())
    }

    /// What was recorded so far.
    pub fn lines(&self) -> Vec<LogLine> {
        LINES.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The lines that show any of these secrets.
    pub fn showing(&self, secrets: &[&str]) -> Vec<LogLine> {
        let shows = |line: &LogLine| secrets.iter().any(|secret| line.text.contains(secret) || line.target.contains(secret));
        self.lines().into_iter().filter(shows).collect()
    }

    /// Asserts that the logger still receives what is logged, through `log` and through `tracing`.
    ///
    /// # Panics
    /// When it does not.
    pub fn assert_not_silenced(&self) {
        let count = || self.lines().iter().filter(|line| line.text.contains(OWN_LINE)).count();
        let before = count();
        log::info!("{OWN_LINE}");
        assert_eq!(count(), before + 1, "the logger receives what is logged");
        tracing::info!("{OWN_LINE}");
        assert_eq!(count(), before + 2, "tracing still writes to it");
    }
}

struct Recorder;

impl log::Log for Recorder {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = LogLine { level: record.level(), target: record.target().to_owned(), text: record.args().to_string() };
        LINES.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    fn flush(&self) {}
}
