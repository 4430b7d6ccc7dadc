//! The root span of a rotation. A rotation that lasts is told in parts: a span is exported when it ends, and while an issuer is down for
//! hours its attempts would lie in a trace without a root, and all of them in one.

use std::time::{Duration, Instant};

use tracing::Span;

use super::Origin;
use crate::trigger::Trigger;

/// A part that is older ends when the next attempt begins. Each is twice as long as the one before: what lasts is seen early, and does not become many.
const FIRST: Duration = Duration::from_secs(60);
/// The longest part.
const LONGEST: Duration = Duration::from_secs(300);

/// The root span now, and where it is in its trace, also when it is over. Cheap to clone: spans are made, recorded and closed on a clone, for
/// whoever observes them may be slow, or ask for what a lock around this guards.
#[derive(Clone, Debug)]
pub(crate) struct Root {
    span: Span,
    origin: Origin,
    began: Instant,
    length: Duration,
}

impl Root {
    /// One whose span is still to be made.
    pub(crate) fn to_come(now: Instant) -> Self {
        Self { span: Span::none(), origin: Origin::default(), began: now, length: FIRST }
    }

    pub(crate) fn begin(provider: &str, trigger: Trigger, now: Instant) -> Self {
        let span = super::rotation(provider, trigger);
        Self { origin: Origin::of(&span), span, began: now, length: FIRST }
    }

    /// The next part, linked to this one.
    pub(crate) fn followed(&self, provider: &str, trigger: Trigger, now: Instant) -> Self {
        let next = Self::begin(provider, trigger, now);
        self.origin.link(&next.span);
        Self { length: (self.length * 2).min(LONGEST), ..next }
    }

    /// Whether it has been open for so long that another part is to follow. Answers so once: who hears it makes the next part.
    pub(crate) fn is_long(&mut self, now: Instant) -> bool {
        let long = now.saturating_duration_since(self.began) >= self.length;
        if long {
            self.began = now;
        }
        long
    }

    /// None when it is over.
    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Takes the span, for its end. It is exported as soon as the last attempt lets go of it.
    pub(crate) fn take(&mut self) -> Span {
        std::mem::replace(&mut self.span, Span::none())
    }
}
