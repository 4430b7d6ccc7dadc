//! Providers without a type of their own: a closure, and a login that never changes.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;

use super::fetched::Fetched;
use super::plugin::{FetchRequest, Provider};
use crate::credentials::Credentials;
use crate::error::ProviderError;
use crate::lease::{Lease, Revision};

/// Makes a provider of a closure, which returns a [`Lease`] or [`Fetched`].
///
/// ```
/// use claviger::{FetchRequest, Lease, Credentials, ProviderError, Revision, provider_fn};
///
/// let provider = provider_fn(|_request: FetchRequest<Credentials>| async {
///     Ok::<_, ProviderError>(Lease::new(Credentials::new("orders", "s3cret"), Revision::new("v1")))
/// });
/// # drop(provider);
/// ```
pub fn provider_fn<F, Fut, T, S>(fetch: F) -> ProviderFn<F, S>
where
    F: Fn(FetchRequest<S>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, ProviderError>> + Send + 'static,
    T: Into<Fetched<S>>,
    S: Send + Sync + 'static,
{
    ProviderFn {
        fetch,
        secret: PhantomData,
    }
}

/// A closure as a provider; made by [`provider_fn`].
#[must_use]
pub struct ProviderFn<F, S> {
    fetch: F,
    secret: PhantomData<fn() -> S>,
}

impl<F, S> fmt::Debug for ProviderFn<F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProviderFn")
    }
}

impl<F, Fut, T, S> Provider for ProviderFn<F, S>
where
    F: Fn(FetchRequest<S>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, ProviderError>> + Send + 'static,
    T: Into<Fetched<S>>,
    S: Send + Sync + 'static,
{
    type Secret = S;

    fn fetch(
        &self,
        request: FetchRequest<S>,
    ) -> impl Future<Output = Result<Fetched<S>, ProviderError>> + Send {
        let fetching = (self.fetch)(request);
        async { fetching.await.map(Into::into) }
    }
}

/// A login that never changes, so that development and production differ by one line.
pub fn fixed(login: Credentials) -> StaticCredentials {
    StaticCredentials { login }
}

/// A login that never changes; made by [`fixed`].
#[derive(Debug)]
#[must_use]
pub struct StaticCredentials {
    login: Credentials,
}

impl Provider for StaticCredentials {
    type Secret = Credentials;

    async fn fetch(
        &self,
        request: FetchRequest<Credentials>,
    ) -> Result<Fetched<Credentials>, ProviderError> {
        Ok(match request.current {
            Some(_) => Fetched::Unchanged,
            None => Lease::new(self.login.clone(), Revision::new("fixed")).into(),
        })
    }
}
