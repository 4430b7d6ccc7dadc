//! Providers without a type of their own: a closure, and credentials that never change.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;

use super::fetched::Fetched;
use super::plugin::{FetchRequest, Provider};
use crate::credentials::Credentials;
use crate::error::ProviderError;
use crate::lease::{Lease, Revision};

/// Creates a provider from a closure that returns a [`Lease`] or [`Fetched`].
///
/// ```
/// use claviger::{Credentials, Lease, Revision, provider_fn};
/// use claviger::error::ProviderError;
/// use claviger::provider::FetchRequest;
///
/// let provider = provider_fn(|_request: FetchRequest<Credentials>| async {
///     let credentials = Credentials::new("orders", "s3cret");
///     Ok::<_, ProviderError>(Lease::new(credentials, Revision::new("v1")))
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

/// A closure as a provider, created by [`provider_fn`].
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

/// Returns a provider of credentials that never change, so that development and production differ
/// by one line.
///
/// ```
/// use claviger::{Credentials, Supervisor, static_credentials};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), claviger::Error> {
/// let supervisor = Supervisor::start();
/// let provider = static_credentials(Credentials::new("me", "password"));
/// supervisor.add_provider("orders-credentials", provider).await?;
/// # Ok(()) }
/// ```
pub fn static_credentials(credentials: Credentials) -> StaticCredentials {
    StaticCredentials { credentials }
}

/// Credentials that never change, as a provider. Created by [`static_credentials`].
#[derive(Debug)]
#[must_use]
pub struct StaticCredentials {
    credentials: Credentials,
}

impl Provider for StaticCredentials {
    type Secret = Credentials;

    async fn fetch(
        &self,
        request: FetchRequest<Credentials>,
    ) -> Result<Fetched<Credentials>, ProviderError> {
        Ok(match request.current {
            Some(_) => Fetched::Unchanged,
            None => Lease::new(self.credentials.clone(), Revision::new("fixed")).into(),
        })
    }
}
