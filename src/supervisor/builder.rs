//! Settings of a supervisor, and its start.

#[cfg(feature = "otel")]
use std::any::Any;
use std::fmt;
#[cfg(feature = "otel")]
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "otel")]
use opentelemetry::metrics::Meter;

use super::validate;
use crate::clock::Clock;
use crate::context::{Context, Settings};
use crate::error::Error;
use crate::failpoints::Failpoints;
use crate::telemetry::Meters;

/// Sets the durations of a supervisor, and starts it.
///
/// With the feature `otel`, metrics go to the meter `claviger` of OpenTelemetry's global provider.
/// Set that up before [`start`](Self::start). `claviger-otel` has a setter for another meter. This
/// library sets nothing global.
///
/// | setter | default | example |
/// |---|---|---|
/// | [`with_fetch_deadline`](Self::with_fetch_deadline) | 30 s | a backend that hangs from 0:00 counts as failed at 0:30 and is requested again at 0:31 |
/// | [`with_start_deadline`](Self::with_start_deadline) | 30 s | a pod whose database is down fails its start after 30 s, with the cause |
/// | [`with_verify_deadline`](Self::with_verify_deadline) | 5 s | a frozen database costs a handover 5 s; the old generation stays in use |
/// | [`with_drain_deadline`](Self::with_drain_deadline) | 60 s | a 3-minute report on a rotated password is reported as abandoned after 1 min, and is not cut |
/// | [`with_poll_interval`](Self::with_poll_interval) | 5 min | a secret without an expiry is polled every 4:30 to 5:00, 9,000 times a month |
/// | [`with_previous_lease_kept_for`](Self::with_previous_lease_kept_for) | 0 s | with 15 min, a pool can be rolled back until 0:15 after a rotation at 0:00 |
/// | [`with_ready_margin`](Self::with_ready_margin) | 5 s | a token that expires in 4 s makes the service unready |
///
/// ```
/// use std::time::Duration;
/// use claviger::Supervisor;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), claviger::Error> {
/// let supervisor = Supervisor::builder()
///     .with_start_deadline(Duration::from_secs(10))
///     .with_poll_interval(Duration::from_secs(60))
///     .start()?;
/// # supervisor.shutdown(Duration::from_secs(1)).await;
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
#[must_use = "nothing runs before `start`"]
pub struct SupervisorBuilder {
    settings: Settings,
    clock: Clock,
    failpoints: Failpoints,
    #[cfg(feature = "otel")]
    meter: Option<Arc<dyn Any + Send + Sync>>,
}

impl SupervisorBuilder {
    /// Sets the longest time of one fetch. Default 30 s.
    pub fn with_fetch_deadline(mut self, deadline: Duration) -> Self {
        self.settings.fetch_deadline = deadline;
        self
    }

    /// Sets how long `add_provider`, `add_pool` and `rotate_now` retry transient errors. Default 30
    /// s.
    pub fn with_start_deadline(mut self, deadline: Duration) -> Self {
        self.settings.start_deadline = deadline;
        self
    }

    /// Makes `add_provider` and `add_pool` fail at the first failed fetch or login: a rejected
    /// password, an unknown host, missing credentials for the backend. Default: transient errors
    /// are retried until the start deadline.
    pub fn with_fail_fast(mut self) -> Self {
        self.settings.fail_fast = true;
        self
    }

    /// Sets the longest time of one verification: a login, its probe and the pool's
    /// `after_connect`. Default 5 s. For a hook that takes 4 s, set 10 s.
    pub fn with_verify_deadline(mut self, deadline: Duration) -> Self {
        self.settings.verify_deadline = deadline;
        self
    }

    /// Sets the time after which an old generation that still has connections is reported. Default
    /// 60 s. No connection is cut.
    pub fn with_drain_deadline(mut self, deadline: Duration) -> Self {
        self.settings.drain = deadline;
        self
    }

    /// Sets the time between two fetches of a lease without an expiry. Default 5 min, less up to
    /// 10 % jitter.
    pub fn with_poll_interval(mut self, every: Duration) -> Self {
        self.settings.poll = every;
        self
    }

    /// Sets for how long a superseded lease is kept before its release, so that
    /// [`Supervisor::roll_back`](crate::Supervisor::roll_back) can return to it. Default 0: it is
    /// released when its last connection has closed, and usually cannot be returned to.
    ///
    /// Example: a rotation at 0:00, whose old connections have closed at 0:01. With 15 minutes, the
    /// dynamic user of the old lease is revoked at 0:15. If it expires at 0:10, it is released
    /// then. It is released at a shutdown or removal in any case. Only leases that a login has
    /// verified are kept. A lease that a pool returned to is kept for this time again after the
    /// pool has left it. Old connections close as before. A backend that limits the number of users
    /// needs room for as many superseded ones as there are rotations in that time.
    pub fn with_previous_lease_kept_for(mut self, time: Duration) -> Self {
        self.settings.previous_lease_kept_for = time;
        self
    }

    /// Sets the time to live that every credential must have left for the service to be ready.
    /// Default 5 s, or a tenth of the lifetime if that is less.
    pub fn with_ready_margin(mut self, margin: Duration) -> Self {
        self.settings.ready_margin = margin;
        self
    }

    /// Sets an `opentelemetry::metrics::Meter`, for `claviger-otel`, whose `WithMeter` is typed.
    #[doc(hidden)]
    #[cfg(feature = "otel")]
    pub fn with_erased_meter(mut self, meter: Arc<dyn Any + Send + Sync>) -> Self {
        self.meter = Some(meter);
        self
    }

    #[doc(hidden)]
    #[cfg(feature = "testing")]
    pub fn testing(mut self, clock: crate::clock::MovedClock, failpoints: Failpoints) -> Self {
        self.clock = Clock::moved(clock);
        self.failpoints = failpoints;
        self
    }

    /// Checks the settings. Returns what all parts of the supervisor share.
    pub(super) fn context(self) -> Result<Context, Error> {
        validate::settings(&self.settings)?;
        #[cfg(feature = "otel")]
        let meters = Meters::new(match self.meter {
            None => global_meter(),
            Some(meter) => meter.downcast_ref::<Meter>().cloned().ok_or_else(|| {
                let problem =
                    "is not from opentelemetry 0.33; set it by WithMeter of claviger-otel";
                Error::invalid("meter", problem)
            })?,
        });
        #[cfg(not(feature = "otel"))]
        let meters = Meters::default();
        Ok(Context {
            settings: self.settings,
            clock: self.clock,
            meters,
            failpoints: self.failpoints,
            ..Context::default()
        })
    }
}

#[cfg(feature = "otel")]
fn global_meter() -> Meter {
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
