//! Object-safe form of [`Provider`], so that a slot is generic over the secret alone.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;

use super::fetched::Fetched;
use super::hints::Hints;
use super::plugin::{FetchRequest, Provider};
use crate::error::ProviderError;
use crate::expiry::Expiry;
use crate::lease::Lease;

/// A future of any type.
pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

pub(crate) trait ErasedProvider<S>: Debug + Send + Sync + 'static {
    fn fetch(&self, request: FetchRequest<S>) -> BoxFuture<'_, Result<Fetched<S>, ProviderError>>;
    fn renew(
        &self,
        request: FetchRequest<S>,
    ) -> BoxFuture<'_, Result<Option<Expiry>, ProviderError>>;
    fn rehearse(
        &self,
        request: FetchRequest<S>,
    ) -> BoxFuture<'_, Result<Fetched<S>, ProviderError>>;
    fn release(&self, lease: Lease<S>) -> BoxFuture<'_, Result<(), ProviderError>>;
    fn watch(&self, hints: Hints) -> BoxFuture<'_, ()>;
    fn close(&self) -> BoxFuture<'_, ()>;
}

impl<P: Provider> ErasedProvider<P::Secret> for P {
    fn fetch(
        &self,
        request: FetchRequest<P::Secret>,
    ) -> BoxFuture<'_, Result<Fetched<P::Secret>, ProviderError>> {
        Box::pin(Provider::fetch(self, request))
    }

    fn renew(
        &self,
        request: FetchRequest<P::Secret>,
    ) -> BoxFuture<'_, Result<Option<Expiry>, ProviderError>> {
        Box::pin(Provider::renew(self, request))
    }

    fn rehearse(
        &self,
        request: FetchRequest<P::Secret>,
    ) -> BoxFuture<'_, Result<Fetched<P::Secret>, ProviderError>> {
        Box::pin(Provider::rehearse(self, request))
    }

    fn release(&self, lease: Lease<P::Secret>) -> BoxFuture<'_, Result<(), ProviderError>> {
        Box::pin(Provider::release(self, lease))
    }

    fn watch(&self, hints: Hints) -> BoxFuture<'_, ()> {
        Box::pin(Provider::watch(self, hints))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(Provider::close(self))
    }
}
