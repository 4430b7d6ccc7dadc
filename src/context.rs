//! State that all parts of a supervisor share: durations, clock, events, meters.

use std::fmt;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};

use crate::clock::Clock;
use crate::events::EventHub;
use crate::failpoints::Failpoints;
use crate::telemetry::Meters;

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) fetch_deadline: Duration,
    pub(crate) start_deadline: Duration,
    pub(crate) verify_deadline: Duration,
    pub(crate) drain: Duration,
    pub(crate) poll: Duration,
    pub(crate) ready_margin: Duration,
    pub(crate) fail_fast: bool,
    pub(crate) previous_lease_kept_for: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            fetch_deadline: Duration::from_secs(30),
            start_deadline: Duration::from_secs(30),
            verify_deadline: Duration::from_secs(5),
            drain: Duration::from_secs(60),
            poll: Duration::from_secs(300),
            ready_margin: Duration::from_secs(5),
            fail_fast: false,
            previous_lease_kept_for: Duration::ZERO,
        }
    }
}

/// State that all parts of a supervisor share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Context {
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    pub(crate) events: EventHub,
    pub(crate) meters: Meters,
    pub(crate) failpoints: Failpoints,
    pub(crate) shutdown_signal: ShutdownSignal,
}

impl Context {
    /// Waits for the task, until the deadline or the shutdown signal.
    pub(crate) async fn wait_for<T>(
        &self,
        task: &mut JoinHandle<T>,
        deadline: Duration,
    ) -> Result<Result<T, JoinError>, NoResponse> {
        tokio::select! {
            biased;
            ended = task => Ok(ended),
            () = tokio::time::sleep(deadline) => Err(NoResponse::Deadline(deadline)),
            () = self.shutdown_signal.received() => Err(NoResponse::Shutdown),
        }
    }
}

/// Limit that ended the wait for a task. `Display` names it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NoResponse {
    Deadline(Duration),
    Shutdown,
}

impl fmt::Display for NoResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadline(deadline) => {
                write!(f, "within {}", humantime::format_duration(*deadline))
            }
            Self::Shutdown => f.write_str("before the supervisor shut down"),
        }
    }
}

/// Signal that the time of a shutdown is used up. Work that still runs is no longer waited for, and
/// the process may end soon after.
#[derive(Clone, Debug, Default)]
pub(crate) struct ShutdownSignal(watch::Sender<bool>);

impl ShutdownSignal {
    pub(crate) fn send(&self) {
        self.0.send_replace(true);
    }

    /// Resolves when the signal is sent.
    pub(crate) async fn received(&self) {
        // The sender exists as long as this call.
        let _ = self.0.subscribe().wait_for(|sent| *sent).await;
    }
}
