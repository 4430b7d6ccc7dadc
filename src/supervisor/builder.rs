//! Other durations than the defaults.

use std::fmt;
use std::time::Duration;

use tokio::runtime::Handle;

use super::{Supervisor, validate};
use crate::clock::Clock;
use crate::context::{Context, Settings, ShutdownSignal};
use crate::error::Error;
use crate::events::EventHub;
use crate::failpoints::Failpoints;
use crate::telemetry::Meters;

/// Sets the durations that a supervisor goes by.
///
/// | | default | worked |
/// |---|---|---|
/// | [`with_fetch_deadline`](Self::with_fetch_deadline) | 30 s | a store that hangs from 0:00 counts as failed at 0:30, and is asked again at 0:31 |
/// | [`with_start_deadline`](Self::with_start_deadline) | 30 s | a pod whose database is down fails its start after 30 s, with the cause |
/// | [`with_verify_deadline`](Self::with_verify_deadline) | 5 s | a frozen database costs a handover 5 s, and the old generation goes on serving |
/// | [`with_drain_deadline`](Self::with_drain_deadline) | 60 s | a 3-minute report on a rotated password is reported as abandoned after 1 min, and ends in peace |
/// | [`with_poll_interval`](Self::with_poll_interval) | 5 min | a secret without a death is looked at every 4:30 to 5:00, 9,000 times a month |
/// | [`with_ready_margin`](Self::with_ready_margin) | 5 s | a token that dies in 4 s makes the service unready |
#[derive(Clone, Default)]
pub struct SupervisorBuilder {
    settings: Settings,
    clock: Clock,
    traps: Failpoints,
    #[cfg(feature = "otel")]
    meter: Option<opentelemetry::metrics::Meter>,
}

impl SupervisorBuilder {
    /// How long one answer of a provider may take. Default 30 s.
    #[must_use]
    pub fn with_fetch_deadline(mut self, deadline: Duration) -> Self {
        self.settings.fetch_deadline = deadline;
        self
    }

    /// How long `provide`, `pool` and `rotate_now` wait for what passes. Default 30 s.
    #[must_use]
    pub fn with_start_deadline(mut self, deadline: Duration) -> Self {
        self.settings.start_deadline = deadline;
        self
    }

    /// How long one login and its probe may take. Default 5 s.
    #[must_use]
    pub fn with_verify_deadline(mut self, deadline: Duration) -> Self {
        self.settings.verify_deadline = deadline;
        self
    }

    /// How long an old generation may take to drain before it is reported. Default 60 s. Nothing is
    /// cut then.
    #[must_use]
    pub fn with_drain_deadline(mut self, deadline: Duration) -> Self {
        self.settings.drain = deadline;
        self
    }

    /// How often a lease without a death is looked at. Default 5 min, less up to 10 % jitter.
    #[must_use]
    pub fn with_poll_interval(mut self, every: Duration) -> Self {
        self.settings.poll = every;
        self
    }

    /// How much life a credential must have left for the service to count as ready. Default 5 s.
    #[must_use]
    pub fn with_ready_margin(mut self, margin: Duration) -> Self {
        self.settings.ready_margin = margin;
        self
    }

    /// Where the metrics go. Default: the meter `claviger` of OpenTelemetry's global provider as it
    /// is when the supervisor starts; so set that up before. Nothing global is ever set by this
    /// library.
    ///
    /// Two supervisors of one process that observe the same series overwrite each other there:
    /// `supervisor.ready` is 1 when the last one asked is ready, and so it is with pools and
    /// providers of the same name. Give the second one a meter of a scope of its own, as
    /// `provider.meter("claviger.billing")`, and names of its own to its providers and pools: the
    /// scope is exported with every metric.
    #[cfg(feature = "otel")]
    #[must_use]
    pub fn with_meter(mut self, meter: opentelemetry::metrics::Meter) -> Self {
        self.meter = Some(meter);
        self
    }

    #[doc(hidden)]
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn testing(mut self, clock: crate::clock::MovedClock, traps: Failpoints) -> Self {
        self.clock = Clock::moved(clock);
        self.traps = traps;
        self
    }

    /// Starts the supervisor on the tokio runtime of the caller, whose timer must be enabled. It
    /// does all its work there, from wherever it is called later; so that runtime is to last as
    /// long as the supervisor is used.
    ///
    /// # Errors
    /// When a duration is zero or longer than a day, or a poll is shorter than a second; the
    /// message names it. Outside of a tokio runtime
    /// ([`ErrorKind::NoRuntime`](crate::ErrorKind::NoRuntime)).
    pub fn start(self) -> Result<Supervisor, Error> {
        validate::settings(&self.settings)?;
        let runtime = Handle::try_current().map_err(|_| Error::no_runtime("start"))?;
        #[cfg(feature = "otel")]
        let meters = Meters::new(self.meter.unwrap_or_else(global_meter));
        #[cfg(not(feature = "otel"))]
        let meters = Meters::default();
        let context = Context {
            settings: self.settings,
            clock: self.clock,
            events: EventHub::default(),
            meters,
            traps: self.traps,
            shutdown_signal: ShutdownSignal::default(),
        };
        Ok(Supervisor::with(context, runtime))
    }
}

#[cfg(feature = "otel")]
fn global_meter() -> opentelemetry::metrics::Meter {
    let scope = opentelemetry::InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
        .with_version(env!("CARGO_PKG_VERSION"))
        .build();
    opentelemetry::global::meter_with_scope(scope)
}

impl fmt::Debug for SupervisorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupervisorBuilder")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
