//! The durations that a supervisor goes by, and what its parts share.

use std::fmt;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};

use super::EventHub;
use crate::clock::Clock;
use crate::telemetry::Meters;

#[cfg(feature = "testing")]
pub(crate) use crate::testing::Failpoints;

/// Nothing to fall into outside of tests.
#[cfg(not(feature = "testing"))]
#[derive(Clone, Debug, Default)]
pub(crate) struct Failpoints;

#[cfg(not(feature = "testing"))]
impl Failpoints {
    #[inline]
    pub(crate) fn spring(&self, _actor: &str, _step: &str) {}
}

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) fetch_deadline: Duration,
    pub(crate) start_deadline: Duration,
    pub(crate) verify_deadline: Duration,
    pub(crate) drain: Duration,
    pub(crate) poll: Duration,
    pub(crate) ready_margin: Duration,
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
        }
    }
}

/// What every part of a supervisor shares.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    pub(crate) events: EventHub,
    pub(crate) meters: Meters,
    pub(crate) traps: Failpoints,
    pub(crate) end: End,
}

impl Context {
    /// Waits for the task, until the deadline or the supervisor's end.
    pub(crate) async fn answer<T>(
        &self,
        task: &mut JoinHandle<T>,
        deadline: Duration,
    ) -> Result<Result<T, JoinError>, Silence> {
        tokio::select! {
            biased;
            ended = task => Ok(ended),
            () = tokio::time::sleep(deadline) => Err(Silence::Deadline(deadline)),
            () = self.end.has_come() => Err(Silence::End),
        }
    }
}

/// Why a task is no longer waited for. `Display` names the limit.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Silence {
    Deadline(Duration),
    End,
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadline(deadline) => {
                write!(f, "within {}", humantime::format_duration(*deadline))
            }
            Self::End => f.write_str("before the supervisor ended"),
        }
    }
}

/// The end of a shutdown's bound: what still runs goes on unheard, and is told as it is. The
/// process may be gone a moment later.
#[derive(Clone, Debug, Default)]
pub(crate) struct End(watch::Sender<bool>);

impl End {
    pub(super) fn come(&self) {
        self.0.send_replace(true);
    }

    /// Resolves when it has come.
    pub(crate) async fn has_come(&self) {
        // The sender lives as long as this call.
        let _ = self.0.subscribe().wait_for(|come| *come).await;
    }
}
