//! Object-safe form of [`Provider`], so that a slot is generic over the secret alone.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;

use super::fetched::Fetched;
use super::hints::Hints;
use super::plugin::{FetchRequest, Provider};
use crate::error::ProviderError;
use crate::lease::Lease;

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

pub(crate) trait ErasedProvider<S>: Debug + Send + Sync + 'static {
    fn fetch(&self, request: FetchRequest<S>) -> Boxed<'_, Result<Fetched<S>, ProviderError>>;
    fn release(&self, lease: Lease<S>) -> Boxed<'_, Result<(), ProviderError>>;
    fn watch(&self, hints: Hints) -> Boxed<'_, ()>;
    fn close(&self) -> Boxed<'_, ()>;
}

impl<P: Provider> ErasedProvider<P::Secret> for P {
    fn fetch(
        &self,
        request: FetchRequest<P::Secret>,
    ) -> Boxed<'_, Result<Fetched<P::Secret>, ProviderError>> {
        Box::pin(Provider::fetch(self, request))
    }

    fn release(&self, lease: Lease<P::Secret>) -> Boxed<'_, Result<(), ProviderError>> {
        Box::pin(Provider::release(self, lease))
    }

    fn watch(&self, hints: Hints) -> Boxed<'_, ()> {
        Box::pin(Provider::watch(self, hints))
    }

    fn close(&self) -> Boxed<'_, ()> {
        Box::pin(Provider::close(self))
    }
}
