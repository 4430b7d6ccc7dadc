//! Records what a test logs.

use std::fmt;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// Log lines at INFO and above, without their time.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<String>>);

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = text,
            // Durations and jitter differ from run to run.
            name @ ("took_ms" | "next_fetch_in") if !text.contains("never") => {
                write!(self.fields, " {name}=…").expect("writing to a string succeeds")
            }
            "times" if text.parse::<u64>().is_ok_and(|times| times > 3) => {
                self.fields.push_str(" times=…")
            }
            name => write!(self.fields, " {name}={}", text.trim_matches('"'))
                .expect("writing to a string succeeds"),
        }
    }
}

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let level = *event.metadata().level();
        if level <= tracing::Level::INFO && event.metadata().target().starts_with("claviger") {
            let mut line = Line::default();
            event.record(&mut line);
            if let Some(span) = context.event_span(event) {
                write!(line.fields, " span={}", span.name()).expect("writing to a string succeeds");
            }
            writeln!(
                self.0.lock().expect("no panic"),
                "{level} {}{}",
                line.message,
                line.fields
            )
            .expect("writing to a string succeeds");
        }
    }
}

impl Lines {
    /// Records what this thread logs until the guard is dropped.
    pub(crate) fn record() -> (Self, DefaultGuard) {
        let lines = Self::default();
        let guard =
            tracing::subscriber::set_default(tracing_subscriber::registry().with(lines.clone()));
        (lines, guard)
    }

    /// Returns the lines since the last call.
    pub(crate) fn take(&self) -> String {
        std::mem::take(&mut self.0.lock().expect("no panic"))
    }
}
