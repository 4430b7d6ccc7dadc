//! Decides when a rejected token that is still young is signed again.

use std::time::{Duration, Instant};

use claviger::Revision;

use crate::lifetime::{REJECTION_WINDOW, RESIGN_INTERVAL};

/// Shortest time between two WARN lines on rejected young tokens.
const WARN_INTERVAL: Duration = Duration::from_secs(3_600);

/// State of rejections.
#[derive(Default)]
pub(crate) struct Rejections {
    token: Option<RejectedToken>,
    /// Time at which a young token was last signed again because of rejections.
    signed_again: Option<Instant>,
    /// Time at which that was last logged at WARN.
    warned: Option<Instant>,
}

/// The token that the server rejected last.
struct RejectedToken {
    revision: Revision,
    /// Time of the last fetch for a rejection.
    last: Instant,
}

/// Treatment of a rejected young token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It stays in use, because the rejection may be transient.
    Keep,
    /// It is signed again. `warn` is whether that is logged at WARN.
    SignAgain { warn: bool },
}

impl Rejections {
    /// Records a fetch for a rejection. The token is signed again at the second one within a
    /// minute, at most once in half a minute.
    ///
    /// Times are monotonic, because the wall clock may be wrong, and may be set meanwhile.
    pub(crate) fn record(&mut self, revision: &Revision, now: Instant) -> Verdict {
        let before = self.token.replace(RejectedToken {
            revision: revision.clone(),
            last: now,
        });
        let again = before.is_some_and(|before| {
            before.revision == *revision
                && now.saturating_duration_since(before.last) <= REJECTION_WINDOW
        });
        let is_within = |last: Option<Instant>, span| {
            last.is_some_and(|last| now.saturating_duration_since(last) < span)
        };
        if !again || is_within(self.signed_again, RESIGN_INTERVAL) {
            return Verdict::Keep;
        }
        self.signed_again = Some(now);
        let warn = !is_within(self.warned, WARN_INTERVAL);
        if warn {
            self.warned = Some(now);
        }
        Verdict::SignAgain { warn }
    }
}
