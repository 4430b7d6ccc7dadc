//! Result of a successful fetch.

use std::fmt;

use crate::error::{ProviderError, ProviderErrorKind};
use crate::expiry::Expiry;
use crate::lease::Lease;

/// Result of a successful [`Provider::fetch`](crate::Provider::fetch).
///
/// A provider may always return [`New`](Self::New). With the current lease's revision it is a
/// renewal, without a handover and without an event.
///
/// ```
/// use std::time::Duration;
/// use claviger::lease::Expiry;
/// use claviger::provider::{FetchRequest, Fetched};
/// use claviger::{Credentials, Lease, Revision};
///
/// /// Renews the lease while the backend has the version that the service uses.
/// fn fetched(
///     request: &FetchRequest<Credentials>,
///     version: &str,
///     password: &str,
/// ) -> Fetched<Credentials> {
///     let expiry = Expiry::after(request.started, Duration::from_secs(900));
///     let is_same = |lease: &Lease<Credentials>| lease.revision().as_str() == version;
///     if request.current.as_ref().is_some_and(is_same) {
///         return Fetched::Renewed(expiry);
///     }
///     let lease = Lease::new(Credentials::new("orders", password), Revision::new(version));
///     Fetched::New(lease.with_expiry(expiry))
/// }
/// # drop(fetched);
/// ```
#[must_use]
pub enum Fetched<S> {
    /// A credential.
    ///
    /// A new revision causes a handover. A lease with the current revision replaces the current
    /// lease without a handover, its expiry and refresh time included.
    New(Lease<S>),
    /// The backend extended the current lease to this expiry; nothing else changed.
    Renewed(Expiry),
    /// The current lease stays, unchanged.
    Unchanged,
}

impl<S> Fetched<S> {
    /// Returns the lease to use after this result. `current` is the lease of the request.
    ///
    /// # Errors
    /// [`Renewed`](Self::Renewed) or [`Unchanged`](Self::Unchanged) without a current lease
    /// ([`ProviderErrorKind::Other`]).
    pub fn into_lease(self, current: Option<Lease<S>>) -> Result<Lease<S>, ProviderError> {
        let (lease, name) = match self {
            Self::New(lease) => return Ok(lease),
            Self::Renewed(expiry) => (current.map(|lease| lease.with_expiry(expiry)), "Renewed"),
            Self::Unchanged => (current, "Unchanged"),
        };
        lease.ok_or_else(|| no_current_lease(name))
    }
}

/// Returns the error of a fetch that returned this variant without a current lease.
pub(super) fn no_current_lease(variant: &str) -> ProviderError {
    ProviderError::new(
        ProviderErrorKind::Other,
        format!(
            "the provider returned `Fetched::{variant}` without a current lease; return \
             `Fetched::New`"
        ),
    )
}

/// Prints no secret, so that the secret's type needs no `Debug`.
impl<S> fmt::Debug for Fetched<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New(lease) => f.debug_tuple("New").field(lease).finish(),
            Self::Renewed(expiry) => f.debug_tuple("Renewed").field(expiry).finish(),
            Self::Unchanged => f.write_str("Unchanged"),
        }
    }
}

impl<S> From<Lease<S>> for Fetched<S> {
    fn from(lease: Lease<S>) -> Self {
        Self::New(lease)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "a test fails by panicking")]

    use std::time::Duration;

    use super::*;
    use crate::clock::Timestamp;
    use crate::lease::{OldConnections, Revision};

    fn current() -> Lease<()> {
        Lease::new((), Revision::new("current"))
            .with_old_connections(OldConnections::Keep)
            .with_refresh_after(Duration::from_secs(7))
    }

    #[test]
    fn a_renewal_moves_the_expiry_and_nothing_else() {
        let expiry = Expiry::after(Timestamp::now(), Duration::from_secs(60));
        let lease = Fetched::Renewed(expiry).into_lease(Some(current()));
        let lease = lease.expect("there is a current lease");
        assert_eq!(lease.revision(), current().revision());
        assert_eq!(lease.expiry(), expiry);
        assert_eq!(lease.old_connections(), OldConnections::Keep);
        assert_eq!(lease.refresh_after(), current().refresh_after());
    }

    #[test]
    fn an_unchanged_lease_is_the_current_one() {
        let lease = Fetched::Unchanged.into_lease(Some(current()));
        let lease = lease.expect("there is a current lease");
        assert_eq!(lease.revision(), current().revision());
        assert!(lease.expiry().is_never());
    }

    #[test]
    fn a_new_lease_replaces_the_current_one() {
        let new = || Lease::new((), Revision::new("new"));
        for current_lease in [None, Some(current())] {
            let lease = Fetched::from(new()).into_lease(current_lease);
            assert_eq!(lease.expect("it is a lease").revision(), new().revision());
        }
    }

    #[test]
    fn renewed_and_unchanged_without_a_current_lease_are_errors() {
        for (fetched, name) in [
            (Fetched::<()>::Unchanged, "Fetched::Unchanged"),
            (Fetched::Renewed(Expiry::never()), "Fetched::Renewed"),
        ] {
            let error = fetched.into_lease(None).expect_err("there is no lease");
            assert_eq!(error.kind(), ProviderErrorKind::Other);
            let text = error.to_string();
            assert!(
                text.contains(name) && text.contains("Fetched::New"),
                "{text}"
            );
        }
    }
}
