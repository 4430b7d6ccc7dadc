//! A provider of any kind, behind one type.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use claviger::error::ProviderError;
use claviger::lease::Expiry;
use claviger::provider::{FetchRequest, Fetched, Hints};
use claviger::{Credentials, Lease, Provider};

type Boxed<'p, T> = Pin<Box<dyn Future<Output = T> + Send + 'p>>;

/// A provider of the configuration, of any kind. Clones share it.
///
/// A supervisor calls it as any other [`Provider`]. A tool may also fetch a lease itself; then it
/// releases the lease and closes the provider.
#[derive(Clone)]
pub struct AnyProvider(Arc<dyn Object>);

impl AnyProvider {
    pub(crate) fn new(provider: impl Provider<Secret = Credentials>) -> Self {
        Self(Arc::new(provider))
    }
}

/// The methods of [`Provider`] with boxed futures.
trait Object: fmt::Debug + Send + Sync {
    fn fetch(
        &self,
        request: FetchRequest<Credentials>,
    ) -> Boxed<'_, Result<Fetched<Credentials>, ProviderError>>;
    fn renew(
        &self,
        request: FetchRequest<Credentials>,
    ) -> Boxed<'_, Result<Option<Expiry>, ProviderError>>;
    fn rehearse(
        &self,
        request: FetchRequest<Credentials>,
    ) -> Boxed<'_, Result<Fetched<Credentials>, ProviderError>>;
    fn release(&self, lease: Lease<Credentials>) -> Boxed<'_, Result<(), ProviderError>>;
    fn watch(&self, hints: Hints) -> Boxed<'_, ()>;
    fn close(&self) -> Boxed<'_, ()>;
}

impl<P: Provider<Secret = Credentials>> Object for P {
    fn fetch(
        &self,
        request: FetchRequest<Credentials>,
    ) -> Boxed<'_, Result<Fetched<Credentials>, ProviderError>> {
        Box::pin(Provider::fetch(self, request))
    }

    fn renew(
        &self,
        request: FetchRequest<Credentials>,
    ) -> Boxed<'_, Result<Option<Expiry>, ProviderError>> {
        Box::pin(Provider::renew(self, request))
    }

    fn rehearse(
        &self,
        request: FetchRequest<Credentials>,
    ) -> Boxed<'_, Result<Fetched<Credentials>, ProviderError>> {
        Box::pin(Provider::rehearse(self, request))
    }

    fn release(&self, lease: Lease<Credentials>) -> Boxed<'_, Result<(), ProviderError>> {
        Box::pin(Provider::release(self, lease))
    }

    fn watch(&self, hints: Hints) -> Boxed<'_, ()> {
        Box::pin(Provider::watch(self, hints))
    }

    fn close(&self) -> Boxed<'_, ()> {
        Box::pin(Provider::close(self))
    }
}

impl Provider for AnyProvider {
    type Secret = Credentials;

    async fn fetch(
        &self,
        request: FetchRequest<Credentials>,
    ) -> Result<Fetched<Credentials>, ProviderError> {
        self.0.fetch(request).await
    }

    async fn renew(
        &self,
        request: FetchRequest<Credentials>,
    ) -> Result<Option<Expiry>, ProviderError> {
        self.0.renew(request).await
    }

    async fn rehearse(
        &self,
        request: FetchRequest<Credentials>,
    ) -> Result<Fetched<Credentials>, ProviderError> {
        self.0.rehearse(request).await
    }

    async fn release(&self, lease: Lease<Credentials>) -> Result<(), ProviderError> {
        self.0.release(lease).await
    }

    async fn watch(&self, hints: Hints) {
        self.0.watch(hints).await;
    }

    async fn close(&self) {
        self.0.close().await;
    }
}

impl fmt::Debug for AnyProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
