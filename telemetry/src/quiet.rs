//! What the exporter complains of, seldom: with a collector that is down there would be two lines each few seconds, for as long as it lasts.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::Metadata;
use tracing::callsite::Identifier;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing_subscriber::layer::{Context, Filter};

use crate::crates::Crates;

/// How often a complaint is told at once.
const AT_ONCE: u32 = 3;
/// How often afterwards.
const THEN_EVERY: Duration = Duration::from_secs(3_600);
/// What was not heard for so long is over: metrics are sent once a minute by default.
const OVER_AFTER: Duration = Duration::from_secs(300);

/// Lets each complaint of these crates pass three times, then once an hour.
#[derive(Debug)]
pub(crate) struct Quiet {
    of: Crates,
    heard: Mutex<HashMap<Identifier, Heard>>,
}

#[derive(Clone, Copy, Debug)]
struct Heard {
    times: u32,
    last: Instant,
    told: Instant,
}

impl Quiet {
    pub(crate) fn new(of: Crates) -> Self {
        Self { of, heard: Mutex::default() }
    }

    fn is_told(&self, what: Identifier, now: Instant) -> bool {
        let mut all = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let heard = all.entry(what).or_insert(Heard { times: 0, last: now, told: now });
        if now.saturating_duration_since(heard.last) > OVER_AFTER {
            heard.times = 0;
        }
        heard.times = heard.times.saturating_add(1);
        heard.last = now;
        let is_told = heard.times <= AT_ONCE || now.saturating_duration_since(heard.told) >= THEN_EVERY;
        if is_told {
            heard.told = now;
        }
        is_told
    }
}

// By `enabled` and not by `event_enabled`: what the latter refuses, tracing-subscriber 0.3.23 remembers for the next event.
impl<S> Filter<S> for Quiet {
    fn enabled(&self, told: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        #[expect(clippy::disallowed_methods, reason = "log lines have no clock of their own")]
        let is_told = || self.is_told(told.callsite(), Instant::now());
        !self.of.have(told.target()) || is_told()
    }

    fn callsite_enabled(&self, told: &'static Metadata<'static>) -> Interest {
        if self.of.have(told.target()) { Interest::sometimes() } else { Interest::always() }
    }

    /// It takes nothing away from what another filter says of levels.
    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, clippy::disallowed_methods, reason = "a test fails by panicking, and counts from some moment")]

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
            self.0.lock().expect("no panic").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn each_complaint_of_the_exporter_is_told_three_times_and_everything_else_always() {
        let lines = Lines::default();
        let filter = LevelFilter::INFO.and(Quiet::new(SDK));
        let layer = tracing_subscriber::fmt::layer().with_writer({
            let lines = lines.clone();
            move || lines.clone()
        });
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer.with_filter(filter)), || {
            for _ in 0..10 {
                tracing::error!(target: "opentelemetry_sdk", "not sent");
                tracing::warn!(target: "opentelemetry-otlp", "lost");
                tracing::warn!("of the service");
                tracing::debug!("of no interest");
            }
        });
        let text = String::from_utf8(lines.0.lock().expect("no panic").clone()).expect("text");
        let told = |what: &str| text.matches(what).count();
        assert_eq!(["not sent", "lost", "of the service", "of no interest"].map(told), [3, 3, 10, 0], "{text}");
    }

    #[test]
    fn what_lasts_is_told_once_an_hour_and_what_is_over_is_new_when_it_comes_again() {
        let quiet = Quiet::new(SDK);
        let what = tracing::callsite!(name: "not sent", kind: tracing::metadata::Kind::EVENT, fields: message);
        let what = || tracing::callsite::Callsite::metadata(what).callsite();
        let start = Instant::now();
        let told = |seconds: u64| quiet.is_told(what(), start + Duration::from_secs(seconds));
        let all: Vec<_> = (0..=1_500).map(|fives| fives * 5).filter(|at| told(*at)).collect();
        assert_eq!(all, [0, 5, 10, 3_610, 7_210]);
        assert!(told(7_500 + 301), "it was over, and is new");
    }
}
