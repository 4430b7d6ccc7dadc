//! Errors of the acquire loop: reports to the control plane, and errors for callers.

use super::factory::{AcquireError, PoolFactory};
use super::generation::{ControlPlane, Generation, Phase, Shared};
use crate::clock::rfc3339;
use crate::error::{ConnectError, ConnectErrorKind};

/// Requests a verification in the background after an error that every login may get: a missing
/// right or database, or an unknown error.
pub(super) fn verify_in_background<F: PoolFactory>(
    shared: &Shared<F>,
    generation: u64,
    error: &ConnectError,
) {
    let may_affect_all = matches!(
        error.kind(),
        ConnectErrorKind::Misconfigured | ConnectErrorKind::Other
    );
    if may_affect_all && let Some(control_plane) = shared.control_plane() {
        control_plane.login_unknown(generation);
    }
}

/// Reports the error of a login: counts a rejection, and notes a full server. Returns the error for
/// the caller.
pub(super) fn note_login_error<F: PoolFactory>(
    shared: &Shared<F>,
    generation: u64,
    error: F::Error,
) -> F::Error {
    if shared.factory.is_timeout(&error)
        && let Some(control_plane) = shared.control_plane()
    {
        control_plane.login_unknown(generation);
    }
    note_error(shared, error, |control_plane, rejection| {
        control_plane.login_rejected(generation, rejection)
    })
    .0
}

/// Classifies an error. A rejection or a full server is reported once for all callers. They share
/// the classified error, whose source is the original.
pub(super) fn note_error<F: PoolFactory>(
    shared: &Shared<F>,
    error: F::Error,
    rejected: impl FnOnce(&dyn ControlPlane, ConnectError),
) -> (F::Error, Option<ConnectError>) {
    let Some(control_plane) = shared.control_plane() else {
        return (error, None);
    };
    let classified = control_plane.classify(&error);
    let kind = classified.kind();
    if !matches!(
        kind,
        ConnectErrorKind::Rejected | ConnectErrorKind::Overloaded
    ) {
        return (error, Some(classified));
    }
    let classified = classified.with_source(error);
    if kind == ConnectErrorKind::Rejected {
        rejected(&*control_plane, classified.clone());
    } else {
        shared
            .admission
            .note_full(classified.clone(), shared.clock.mono());
    }
    (
        shared.factory.error(AcquireError::Connect(&classified)),
        Some(classified),
    )
}

/// Returns the last error of a server that counts as full.
pub(super) fn error_of_full_server<F: PoolFactory>(shared: &Shared<F>) -> Option<F::Error> {
    let full = shared.admission.why_full(shared.clock.mono())?;
    Some(shared.factory.error(AcquireError::Connect(&full)))
}

/// Returns the error for a caller whose generation has no connection left to offer.
pub(super) fn error_without_connection<F: PoolFactory>(
    shared: &Shared<F>,
    generation: &Generation<F::Pool>,
) -> F::Error {
    let last = shared
        .control_plane()
        .and_then(|control_plane| control_plane.last_error());
    let error = match generation.lifecycle.rejection() {
        // The error of the last verification is preferred if that was rejected, too, and only this
        // error has a source.
        Some(rejection) => last
            .filter(|last| {
                last.kind() == ConnectErrorKind::Rejected
                    && rejection.cause().is_none()
                    && last.cause().is_some()
            })
            .unwrap_or_else(|| rejection.clone()),
        None if generation.lifecycle.phase() == Phase::Vacant => match last {
            Some(last) => last,
            None => return shared.factory.error(AcquireError::TimedOut),
        },
        None => {
            let why = last
                .map(|error| format!("; last error: {error}"))
                .unwrap_or_default();
            let problem = format!("no newer ones are verified yet{why}");
            expiry_error(shared, generation, &problem)
        }
    };
    shared.factory.error(AcquireError::Connect(&error))
}

/// Returns the error that explains a wait while this generation was current: its rejection, or the
/// expiry of its lease.
pub(crate) fn wait_error<F: PoolFactory>(
    shared: &Shared<F>,
    generation: &Generation<F::Pool>,
) -> Option<F::Error> {
    let error = match generation.lifecycle.rejection() {
        Some(rejection) => rejection.clone(),
        None if generation.is_expired(&shared.clock) => {
            expiry_error(shared, generation, "no newer ones were available in time")
        }
        None => return None,
    };
    Some(shared.factory.error(AcquireError::Connect(&error)))
}

fn expiry_error<F: PoolFactory>(
    shared: &Shared<F>,
    generation: &Generation<F::Pool>,
    problem: &str,
) -> ConnectError {
    let at = generation.expiry.wall().map(rfc3339).unwrap_or_default();
    ConnectError::new(
        ConnectErrorKind::Other,
        format!(
            "the credentials of generation {} of pool {:?} expired at {at}, and {problem}",
            generation.number, shared.name
        ),
    )
}

/// Returns the `error.type` of a waiting caller's error.
pub(super) fn error_type<F: PoolFactory>(shared: &Shared<F>, error: &F::Error) -> &'static str {
    if shared.factory.is_timeout(error) {
        "timed_out"
    } else if shared.factory.is_closed(error) {
        "closed"
    } else {
        shared.factory.classify(error).kind().as_str()
    }
}
