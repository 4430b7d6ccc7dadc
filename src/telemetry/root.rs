//! The root span of a rotation. A long rotation has several, one after the other. A span is
//! exported when it ends. With one root, an outage of hours would be one trace, without a root
//! until its end.

use std::time::{Duration, Instant};

use tracing::Span;

use super::Origin;
use crate::report::RotationTrigger;

/// Length of the first part. A part that is older ends when the next attempt begins. Each is twice
/// as long as the one before, so that an outage is visible early and in few parts.
const FIRST_PART: Duration = Duration::from_secs(60);
/// Length of the longest part.
const MAX_PART: Duration = Duration::from_secs(300);

/// The current root span and its place in the trace, also after its end. Cheap to clone. Spans are
/// created, recorded and closed on a clone without a lock, because a `tracing` layer may be slow or
/// request the status.
#[derive(Clone, Debug)]
pub(crate) struct Root {
    span: Span,
    origin: Origin,
    began: Instant,
    length: Duration,
}

impl Root {
    /// Returns a root whose span is still to be created.
    pub(crate) fn pending(now: Instant) -> Self {
        Self {
            span: Span::none(),
            origin: Origin::default(),
            began: now,
            length: FIRST_PART,
        }
    }

    pub(crate) fn begin(provider: &str, trigger: RotationTrigger, now: Instant) -> Self {
        let span = super::rotation(provider, trigger);
        Self {
            origin: Origin::from_span(&span),
            span,
            ..Self::pending(now)
        }
    }

    /// Begins the next part, linked to this one.
    pub(crate) fn next_part(&self, provider: &str, trigger: RotationTrigger, now: Instant) -> Self {
        let next = Self::begin(provider, trigger, now);
        self.origin.link(&next.span);
        Self {
            length: (self.length * 2).min(MAX_PART),
            ..next
        }
    }

    /// Returns whether the next part is due. Returns `true` once, to the caller that begins it.
    pub(crate) fn begins_next_part(&mut self, now: Instant) -> bool {
        let is_due = now.saturating_duration_since(self.began) >= self.length;
        if is_due {
            self.began = now;
        }
        is_due
    }

    /// Returns the span; none when it is over.
    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Takes the span, to end it. It is exported as soon as the last attempt drops it.
    pub(crate) fn take(&mut self) -> Span {
        std::mem::replace(&mut self.span, Span::none())
    }
}
