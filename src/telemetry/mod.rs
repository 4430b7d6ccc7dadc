//! The spans of a rotation, with their names and fields. Links, status and metrics come with the
//! feature `otel`.

#[cfg(not(feature = "otel"))]
mod absent;
mod in_span;
#[cfg(feature = "otel")]
mod meters;
mod root;
#[cfg(feature = "otel")]
mod trace;

#[cfg(not(feature = "otel"))]
use absent as trace;
pub(crate) use in_span::InSpan;
pub(crate) use root::Root;
pub(crate) use trace::{Caller, Meters, Origin, Wait};

use tracing::Span;
use tracing::field::Empty;

use crate::report::RotationTrigger;

/// Creates a span where a `tracing` dispatcher has been set, and [`Span::none`] elsewhere. Without
/// a dispatcher, `tracing`'s feature `log` writes a record for each span, and for each value
/// recorded on it. A service that logs through the `log` crate would get a dozen lines per
/// rotation.
macro_rules! info_span {
    ($($arguments:tt)*) => {
        if tracing::dispatcher::has_been_set() {
            tracing::info_span!($($arguments)*)
        } else {
            Span::none()
        }
    };
}

/// The root of one rotation, or of a part of it. It has no parent, so that it is no part of an
/// actor's long span.
fn rotation(provider: &str, trigger: RotationTrigger) -> Span {
    info_span!(
        parent: None,
        "credential.rotation",
        provider,
        trigger = trigger.as_str(),
        revision = Empty,
        generation = Empty,
        outcome = Empty,
        error.type = Empty,
    )
}

/// One attempt to fetch.
pub(crate) fn fetch(parent: &Span, provider: &str, trigger: RotationTrigger) -> Span {
    info_span!(
        parent: parent,
        "credential.fetch",
        otel.kind = "client",
        provider,
        trigger = trigger.as_str(),
        error.type = Empty,
    )
}

/// One pool's handover; a root of its own when its rotation is over (the first one of a pool, a
/// late verification).
pub(crate) fn handover(parent: &Span, pool: &str, revision: &str) -> Span {
    info_span!(
        parent: parent,
        "pool.handover",
        pool,
        revision,
        mode = Empty,
        generation = Empty,
        error.type = Empty,
    )
}

/// A bare login and the probe.
pub(crate) fn verify(parent: &Span) -> Span {
    info_span!(parent: parent, "pool.verify", otel.kind = "client", error.type = Empty)
}

/// Creation of the new pool, or replacement of the old one's options.
pub(crate) fn open(parent: &Span) -> Span {
    info_span!(parent: parent, "pool.open", error.type = Empty)
}

/// Opening of connections ahead of demand.
pub(crate) fn warm(parent: &Span) -> Span {
    info_span!(parent: parent, "pool.warm", connections = Empty, error.type = Empty)
}

/// Publication of a generation to callers.
pub(crate) fn publish(parent: &Span) -> Span {
    info_span!(parent: parent, "pool.publish", generation = Empty)
}

/// Drain of an old generation: a root of its own, because it may take long. It follows from the
/// rotation, or from the handover where none is open.
pub(crate) fn drain(cause: &Span, pool: &str, generation: u64) -> Span {
    let span = info_span!(
        parent: None,
        "pool.drain",
        pool,
        generation,
        abandoned = Empty,
        error.type = Empty,
    );
    span.follows_from(cause);
    span
}

/// Marks a drain whose connections outlive its deadline. They are not cut, and the span does not
/// wait for them.
pub(crate) fn abandoned(drain: &Span) {
    drain.record("abandoned", true);
    failed(
        drain,
        "drain_abandoned",
        "connections outlive the drain deadline of their generation",
    );
}

/// Marks a failed attempt. The message is that of an error, which never carries a secret.
pub(crate) fn failed(span: &Span, error_type: &str, message: &str) {
    span.record("error.type", error_type);
    trace::failed(span, message);
}

/// Ends the span now. Otherwise its end would be the last time it was entered.
pub(crate) fn ended(span: Span) {
    span.in_scope(|| ());
}
