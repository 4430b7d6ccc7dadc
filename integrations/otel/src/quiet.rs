//! Filter of the SDK's own lines. Those about failed exports are dropped, because this crate logs
//! failed exports itself. Each other line is logged once an hour.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::Metadata;
use tracing::callsite::Identifier;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing_subscriber::layer::{Context, Filter};

use crate::crates::Crates;

/// Interval between the lines of one call site in the SDK. Some are written at each request or
/// export.
const INTERVAL: Duration = Duration::from_secs(3_600);

/// Returns whether a line of the SDK is about a failed export, which [`crate::exports`] logs.
fn is_about_failed_export(name: &str) -> bool {
    name.starts_with("Export.Failed.")
        || [".ExportError", ".Shutdown.Timeout", ".Drop.ShutdownFailed"]
            .into_iter()
            .any(|end| name.ends_with(end))
}

/// Accepts each line of these crates once an hour, and no line about a failed export.
#[derive(Debug)]
pub(crate) struct Quiet {
    crates: Crates,
    logged: Mutex<HashMap<Identifier, Instant>>,
}

impl Quiet {
    pub(crate) fn new(crates: Crates) -> Self {
        Self {
            crates,
            logged: Mutex::default(),
        }
    }

    fn is_due(&self, call_site: Identifier, now: Instant) -> bool {
        let mut logged = self.logged.lock();
        let is_due = logged
            .get(&call_site)
            .is_none_or(|at| now.saturating_duration_since(*at) >= INTERVAL);
        if is_due {
            logged.insert(call_site, now);
        }
        is_due
    }
}

// Implements `enabled` and not `event_enabled`, because tracing-subscriber 0.3.23 applies a
// rejection by the latter to the next event, too.
impl<S> Filter<S> for Quiet {
    fn enabled(&self, line: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        #[expect(
            clippy::disallowed_methods,
            reason = "log lines have no clock of their own"
        )]
        let is_due = || self.is_due(line.callsite(), Instant::now());
        !self.crates.contain(line.target()) || (!is_about_failed_export(line.name()) && is_due())
    }

    fn callsite_enabled(&self, line: &'static Metadata<'static>) -> Interest {
        match (
            self.crates.contain(line.target()),
            is_about_failed_export(line.name()),
        ) {
            (false, _) => Interest::always(),
            (true, true) => Interest::never(),
            (true, false) => Interest::sometimes(),
        }
    }

    /// Returns the highest level, so that other filters are not restricted.
    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::expect_used,
        clippy::disallowed_methods,
        reason = "a test fails by panicking, and needs some start time"
    )]

    use std::io::{self, Write};
    use std::sync::Arc;

    use tracing_subscriber::filter::FilterExt;
    use tracing_subscriber::layer::{Layer, SubscriberExt};

    use super::*;
    use crate::crates::SDK;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_of_the_sdk_are_logged_once_and_failed_exports_never() {
        let lines = Lines::default();
        let filter = LevelFilter::INFO.and(Quiet::new(SDK));
        let layer = tracing_subscriber::fmt::layer().with_writer({
            let lines = lines.clone();
            move || lines.clone()
        });
        tracing::subscriber::with_default(
            tracing_subscriber::registry().with(layer.with_filter(filter)),
            || {
                for _ in 0..10 {
                    tracing::error!(
                        name: "BatchSpanProcessor.ExportError",
                        target: "opentelemetry_sdk",
                        "not sent"
                    );
                    tracing::warn!(
                        name: "Export.Failed.ExhaustedRetries",
                        target: "opentelemetry-otlp",
                        "lost"
                    );
                    tracing::warn!(
                        name: "HttpTraceClient.PartialSuccess",
                        target: "opentelemetry-otlp",
                        "rejected in part"
                    );
                    tracing::warn!("of the service");
                    tracing::debug!("of no interest");
                }
            },
        );
        let text = String::from_utf8(lines.0.lock().clone()).expect("text");
        let count_of = |line: &str| text.matches(line).count();
        assert_eq!(
            [
                "not sent",
                "lost",
                "rejected in part",
                "of the service",
                "of no interest"
            ]
            .map(count_of),
            [0, 0, 1, 10, 0],
            "{text}"
        );
    }

    #[test]
    fn a_repeated_line_is_logged_once_an_hour() {
        let quiet = Quiet::new(SDK);
        let call_site = tracing::callsite!(
            name: "not sent",
            kind: tracing::metadata::Kind::EVENT,
            fields: message
        );
        let call_site = || tracing::callsite::Callsite::metadata(call_site).callsite();
        let start = Instant::now();
        let logged =
            |seconds: &u64| quiet.is_due(call_site(), start + Duration::from_secs(*seconds));
        let all: Vec<_> = (0..=1_500).map(|fives| fives * 5).filter(logged).collect();
        assert_eq!(all, [0, 3_600, 7_200]);
    }
}
