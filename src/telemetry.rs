//! The spans of a rotation; their names and fields in one place.

use tracing::field::Empty;
use tracing::{Span, info_span};

use crate::trigger::Trigger;

/// The root of one rotation. It has no parent: an actor's life-long span must not swallow it.
pub(crate) fn rotation(provider: &str, trigger: Trigger) -> Span {
    info_span!(
        parent: None,
        "credential.rotation",
        provider,
        trigger = trigger.as_str(),
        revision = Empty,
        generation = Empty,
        outcome = Empty,
    )
}

/// One attempt to fetch.
pub(crate) fn fetch(parent: &Span, provider: &str, trigger: Trigger) -> Span {
    info_span!(parent: parent, "credential.fetch", otel.kind = "client", provider, trigger = trigger.as_str(), error.type = Empty)
}

/// One pool's handover; a root of its own when its rotation is over (the first one of a pool, a late proof).
pub(crate) fn handover(parent: &Span, pool: &str, revision: &str) -> Span {
    if parent.is_none() {
        info_span!(parent: None, "pool.handover", pool, revision, how = Empty, generation = Empty, error.type = Empty)
    } else {
        info_span!(parent: parent, "pool.handover", pool, revision, how = Empty, generation = Empty, error.type = Empty)
    }
}

/// A bare log-in and the probe.
pub(crate) fn prove(parent: &Span) -> Span {
    info_span!(parent: parent, "pool.prove", otel.kind = "client", error.type = Empty)
}

/// The new pool is made, or the old one's options replaced.
pub(crate) fn open(parent: &Span) -> Span {
    info_span!(parent: parent, "pool.open", error.type = Empty)
}

/// Sessions are opened ahead of demand.
pub(crate) fn warm(parent: &Span) -> Span {
    info_span!(parent: parent, "pool.warm", sessions = Empty, error.type = Empty)
}

/// The generation becomes the one that callers get.
pub(crate) fn publish(parent: &Span) -> Span {
    info_span!(parent: parent, "pool.publish", generation = Empty)
}

/// An old generation is emptied: a root of its own that follows from the handover, for it may take long.
pub(crate) fn drain(handover: &Span, pool: &str, generation: u64) -> Span {
    let span = info_span!(parent: None, "pool.drain", pool, generation, abandoned = Empty);
    span.follows_from(handover);
    span
}

/// Marks a failed attempt.
pub(crate) fn failed(span: &Span, error_type: &str) {
    span.record("error.type", error_type);
}
