//! Results of the exports, and the log lines about them: one WARN line while exports fail, one INFO
//! line when they work again.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use parking_lot::Mutex;

/// Interval of log lines while exports fail.
const REPEAT_INTERVAL: Duration = Duration::from_secs(3_600);
/// Minimum interval between the lines about two outages, so that an unstable collector does not
/// fill the log.
const OUTAGE_INTERVAL: Duration = Duration::from_secs(300);

/// A kind of telemetry.
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
    /// The signal in the last WARN line, while its exports fail.
    reported: Option<Signal>,
    /// Whether an outage was logged and its end was not.
    is_open: bool,
    reported_at: Option<Instant>,
}

impl State {
    /// Records a failed export. Returns whether to log it.
    fn failed(&mut self, signal: Signal, now: Instant) -> bool {
        self.failing[signal as usize] = true;
        let pause = if self.reported.is_some() {
            REPEAT_INTERVAL
        } else {
            OUTAGE_INTERVAL
        };
        let is_due = self
            .reported_at
            .is_none_or(|at| now.saturating_duration_since(at) >= pause);
        if is_due {
            (self.reported, self.is_open, self.reported_at) = (Some(signal), true, Some(now));
        }
        is_due
    }

    /// Records a successful export. Returns whether to log the end of an outage: no signal fails
    /// any more.
    fn succeeded(&mut self, signal: Signal) -> bool {
        self.failing[signal as usize] = false;
        self.reported = self.reported.filter(|reported| *reported != signal);
        !self.failing.contains(&true) && std::mem::take(&mut self.is_open)
    }
}

impl Exports {
    /// Creates the state. `advice` is how to disable exporting.
    pub(crate) fn new(advice: &'static str) -> Arc<Self> {
        Arc::new(Self {
            advice,
            state: Mutex::default(),
        })
    }

    fn record(&self, signal: Signal, endpoint: &str, result: &OTelSdkResult) {
        match result {
            Ok(()) => {
                if self.state.lock().succeeded(signal) {
                    tracing::info!(endpoint, "telemetry is exported again");
                }
            }
            // The service has ended. This is no error of the collector.
            Err(OTelSdkError::AlreadyShutdown) => {}
            Err(error) => {
                #[expect(
                    clippy::disallowed_methods,
                    reason = "log lines have no clock of their own"
                )]
                let now = Instant::now();
                if self.state.lock().failed(signal, now) {
                    tracing::warn!(
                        endpoint,
                        %error,
                        advice = self.advice,
                        "telemetry cannot be exported"
                    );
                }
            }
        }
    }
}

/// An exporter whose results are recorded.
pub(crate) struct Observed<E> {
    exporter: E,
    recorder: Recorder,
}

/// Records the results of one signal.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    exports: Arc<Exports>,
    signal: Signal,
    endpoint: String,
}

impl Recorder {
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
            recorder: self,
        }
    }

    pub(crate) fn record(&self, result: &OTelSdkResult) {
        self.exports.record(self.signal, &self.endpoint, result);
    }
}

/// Returns the address without user, password and query, which may contain a key.
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
            .field("recorder", &self.recorder)
            .finish_non_exhaustive()
    }
}

impl<E: SpanExporter> SpanExporter for Observed<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let result = self.exporter.export(batch).await;
        self.recorder.record(&result);
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
        self.recorder.record(&result);
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
    #![expect(clippy::disallowed_methods, reason = "a test needs some start time")]

    use super::*;

    #[test]
    fn an_outage_is_logged_once_an_hour_and_its_end_once() {
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
    fn an_unstable_collector_is_logged_at_most_every_five_minutes() {
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
    fn a_signal_that_still_fails_is_logged_when_the_other_recovers() {
        let (mut state, start) = (State::default(), Instant::now());
        assert!(state.failed(Signal::Traces, start) && !state.failed(Signal::Metrics, start));
        assert!(
            !state.succeeded(Signal::Traces),
            "not everything works again"
        );
        assert!(!state.failed(Signal::Metrics, start + Duration::from_secs(60)));
        assert!(!state.succeeded(Signal::Traces));
        assert!(state.failed(Signal::Metrics, start + OUTAGE_INTERVAL));
        assert!(state.succeeded(Signal::Metrics));
    }

    #[test]
    fn the_end_is_logged_when_the_last_signal_recovers() {
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
    fn the_logged_address_has_no_user_password_or_query() {
        let logged_address = |endpoint: &str| without_secrets(endpoint);
        assert_eq!(
            logged_address("http://localhost:4318/v1/traces"),
            "http://localhost:4318/v1/traces"
        );
        assert_eq!(
            logged_address("https://me:s3c@ret@otlp.example/v1/traces?key=s3cret"),
            "https://otlp.example/v1/traces"
        );
        assert_eq!(
            logged_address("http://otlp.example?key=s3cret"),
            "http://otlp.example"
        );
        assert_eq!(
            logged_address("https://otlp.example/a@b"),
            "https://otlp.example/a@b"
        );
    }
}
