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

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use std::sync::Mutex;

    use claviger::Revision;

    use super::*;

    /// Records the methods that are called. Its results differ from those of the default methods.
    #[derive(Debug, Default)]
    struct Recorder(Arc<Mutex<Vec<&'static str>>>);

    impl Recorder {
        fn called(&self, method: &'static str) {
            self.0.lock().expect("no test panics here").push(method);
        }
    }

    fn lease(revision: &str) -> Lease<Credentials> {
        Lease::new(Credentials::new("app", "kestrel"), Revision::new(revision))
    }

    impl Provider for Recorder {
        type Secret = Credentials;

        async fn fetch(
            &self,
            _: FetchRequest<Credentials>,
        ) -> Result<Fetched<Credentials>, ProviderError> {
            self.called("fetch");
            Ok(Fetched::New(lease("fetched")))
        }

        async fn renew(
            &self,
            _: FetchRequest<Credentials>,
        ) -> Result<Option<Expiry>, ProviderError> {
            self.called("renew");
            Ok(Some(Expiry::never()))
        }

        async fn rehearse(
            &self,
            _: FetchRequest<Credentials>,
        ) -> Result<Fetched<Credentials>, ProviderError> {
            self.called("rehearse");
            Ok(Fetched::New(lease("rehearsed")))
        }

        async fn release(&self, _: Lease<Credentials>) -> Result<(), ProviderError> {
            self.called("release");
            Ok(())
        }

        async fn watch(&self, _: Hints) {
            self.called("watch");
        }

        async fn close(&self) {
            self.called("close");
        }
    }

    /// Returns the names of the trait's methods, in the order of the file.
    fn methods_of_the_trait() -> Vec<String> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../src/provider/plugin.rs");
        let text = std::fs::read_to_string(path).expect("the trait");
        let (_, text) = text.split_once("pub trait Provider").expect("the trait");
        let (text, _) = text.split_once("\n}").expect("its end");
        let methods = text.split("\n    fn ").skip(1);
        let names = methods.filter_map(|text| text.split_once('(').map(|(name, _)| name));
        names.map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn every_method_is_forwarded() {
        let recorder = Recorder::default();
        let called = Arc::clone(&recorder.0);
        let provider = AnyProvider::new(recorder);
        let revision = |fetched| match fetched {
            Ok(Fetched::New(lease)) => lease.revision().as_str().to_owned(),
            _ => String::new(),
        };
        let fetched = Provider::fetch(&provider, FetchRequest::first()).await;
        assert_eq!(revision(fetched), "fetched");
        let renewed = Provider::renew(&provider, FetchRequest::first()).await;
        assert_eq!(renewed.expect("renewed"), Some(Expiry::never()));
        let rehearsed = Provider::rehearse(&provider, FetchRequest::first()).await;
        assert_eq!(revision(rehearsed), "rehearsed");
        let released = Provider::release(&provider, lease("fetched")).await;
        released.expect("released");
        Provider::watch(&provider, Hints::new(|| {})).await;
        Provider::close(&provider).await;
        let called = called.lock().expect("no test panics here").clone();
        assert_eq!(called, methods_of_the_trait());
    }
}
