//! Results of the exports, and the log lines about them: one WARN line while exports fail, one INFO
//! line when they work again.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

/// Time between two lines about exports that go on failing.
const REPEATED_EVERY: Duration = Duration::from_secs(3_600);
/// Least time between the lines about two outages: a collector that comes and goes would fill the
/// log.
const NEXT_OUTAGE_AFTER: Duration = Duration::from_secs(300);

/// What is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Spans.
    Traces,
    /// Metrics.
    Metrics,
}

impl Signal {
    const ALL: usize = 2;
}

/// The state of all exports of one [`Telemetry`](crate::Telemetry). The signals share it, so that a
/// collector that is down is logged once.
#[derive(Debug)]
pub(crate) struct Exports {
    advice: &'static str,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failing: [bool; Signal::ALL],
    /// The signal that the last WARN line named, while it goes on failing.
    reported: Option<Signal>,
    /// An outage was logged whose end was not.
    is_open: bool,
    reported_at: Option<Instant>,
}

impl State {
    /// Notes a failed export. Returns whether it is to be logged.
    fn failed(&mut self, signal: Signal, now: Instant) -> bool {
        self.failing[signal as usize] = true;
        let pause = if self.reported.is_some() {
            REPEATED_EVERY
        } else {
            NEXT_OUTAGE_AFTER
        };
        let is_due = self
            .reported_at
            .is_none_or(|at| now.saturating_duration_since(at) >= pause);
        if is_due {
            (self.reported, self.is_open, self.reported_at) = (Some(signal), true, Some(now));
        }
        is_due
    }

    /// Notes a successful export. Returns whether the end of a logged outage is to be logged:
    /// nothing fails any more.
    fn succeeded(&mut self, signal: Signal) -> bool {
        self.failing[signal as usize] = false;
        self.reported = self.reported.filter(|reported| *reported != signal);
        !self.failing.contains(&true) && std::mem::take(&mut self.is_open)
    }
}

impl Exports {
    /// `advice` says how exporting is switched off.
    pub(crate) fn new(advice: &'static str) -> Arc<Self> {
        Arc::new(Self {
            advice,
            state: Mutex::default(),
        })
    }

    fn note(&self, signal: Signal, endpoint: &str, result: &OTelSdkResult) {
        match result {
            Ok(()) => {
                if self
                    .state
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .succeeded(signal)
                {
                    tracing::info!(endpoint, "telemetry is exported again");
                }
            }
            // The service has ended; that is no news of the collector.
            Err(OTelSdkError::AlreadyShutdown) => {}
            Err(error) => {
                #[expect(
                    clippy::disallowed_methods,
                    reason = "log lines have no clock of their own"
                )]
                let now = Instant::now();
                if self
                    .state
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .failed(signal, now)
                {
                    tracing::warn!(endpoint, %error, advice = self.advice, "telemetry cannot be exported");
                }
            }
        }
    }
}

/// An exporter whose results are noted.
pub(crate) struct Observed<E> {
    exporter: E,
    watch: Watch,
}

/// Notes the results of one signal.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    exports: Arc<Exports>,
    signal: Signal,
    endpoint: String,
}

impl Watch {
    pub(crate) fn new(exports: &Arc<Exports>, signal: Signal, endpoint: &str) -> Self {
        Self {
            exports: Arc::clone(exports),
            signal,
            endpoint: without_secrets(endpoint),
        }
    }

    pub(crate) fn observe<E>(self, exporter: E) -> Observed<E> {
        Observed {
            exporter,
            watch: self,
        }
    }

    pub(crate) fn note(&self, result: &OTelSdkResult) {
        self.exports.note(self.signal, &self.endpoint, result);
    }
}

/// The address without user, password and query, which may hold a key.
fn without_secrets(endpoint: &str) -> String {
    let address = endpoint.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = address.split_once("://") else {
        return address.to_owned();
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

impl<E> fmt::Debug for Observed<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observed")
            .field("watch", &self.watch)
            .finish_non_exhaustive()
    }
}

impl<E: SpanExporter> SpanExporter for Observed<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let result = self.exporter.export(batch).await;
        self.watch.note(&result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.exporter.shutdown()
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: PushMetricExporter> PushMetricExporter for Observed<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let result = self.exporter.export(metrics).await;
        self.watch.note(&result);
        result
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.exporter.shutdown()
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "a test counts from some moment")]

    use super::*;

    #[test]
    fn an_outage_is_logged_once_an_hour_for_both_signals_and_its_end_once() {
        let (mut state, start) = (State::default(), Instant::now());
        let mut logged = Vec::new();
        for seconds in (0..=7_300).step_by(5) {
            let now = start + Duration::from_secs(seconds);
            for signal in [Signal::Traces, Signal::Metrics] {
                if state.failed(signal, now) {
                    logged.push((seconds, signal));
                }
            }
        }
        assert_eq!(
            logged,
            [
                (0, Signal::Traces),
                (3_600, Signal::Traces),
                (7_200, Signal::Traces)
            ]
        );
        assert!(!state.succeeded(Signal::Metrics), "traces still fail");
        assert!(state.succeeded(Signal::Traces));
        assert!(!state.succeeded(Signal::Traces), "the end is logged once");
    }

    #[test]
    fn a_collector_that_comes_and_goes_is_logged_each_five_minutes_at_most() {
        let (mut state, start) = (State::default(), Instant::now());
        let mut lines = 0;
        for seconds in (0..600).step_by(10) {
            let now = start + Duration::from_secs(seconds);
            lines += usize::from(state.failed(Signal::Traces, now))
                + usize::from(state.succeeded(Signal::Traces));
        }
        assert_eq!(lines, 4, "two of each in ten minutes");
    }

    #[test]
    fn a_signal_that_is_still_rejected_when_the_other_one_works_is_logged_by_itself() {
        let (mut state, start) = (State::default(), Instant::now());
        assert!(state.failed(Signal::Traces, start) && !state.failed(Signal::Metrics, start));
        assert!(
            !state.succeeded(Signal::Traces),
            "not everything works again"
        );
        assert!(!state.failed(Signal::Metrics, start + Duration::from_secs(60)));
        assert!(!state.succeeded(Signal::Traces));
        assert!(state.failed(Signal::Metrics, start + NEXT_OUTAGE_AFTER));
        assert!(state.succeeded(Signal::Metrics));
    }

    #[test]
    fn the_end_is_logged_when_the_last_signal_works_again_whichever_it_is() {
        for (first, last) in [
            (Signal::Traces, Signal::Metrics),
            (Signal::Metrics, Signal::Traces),
        ] {
            let (mut state, start) = (State::default(), Instant::now());
            assert!(state.failed(Signal::Traces, start) && !state.failed(Signal::Metrics, start));
            assert!(!state.succeeded(first) && state.succeeded(last) && !state.succeeded(first));
        }
    }

    #[test]
    fn the_address_is_shown_without_user_password_and_query() {
        let shown = |endpoint: &str| without_secrets(endpoint);
        assert_eq!(
            shown("http://localhost:4318/v1/traces"),
            "http://localhost:4318/v1/traces"
        );
        assert_eq!(
            shown("https://me:s3c@ret@otlp.example/v1/traces?key=s3cret"),
            "https://otlp.example/v1/traces"
        );
        assert_eq!(
            shown("http://otlp.example?key=s3cret"),
            "http://otlp.example"
        );
        assert_eq!(
            shown("https://otlp.example/a@b"),
            "https://otlp.example/a@b"
        );
    }
}
