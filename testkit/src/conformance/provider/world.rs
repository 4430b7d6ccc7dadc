//! The subject and its backend, as the checks use them.

use std::future::Future;
use std::sync::Arc;

use claviger::error::ProviderError;
use claviger::lease::Expiry;
use claviger::provider::{FetchRequest, Fetched, Hints};
use claviger::report::RotationTrigger;
use claviger::supervisor::ProviderRef;
use claviger::{Lease, Provider, Supervisor};
use tokio::time::{Duration, timeout};

use super::ProviderControls;
use crate::conformance::runner::{CheckResult, STEP, Secrets, failed};
use crate::conformance::tools::show;

/// The library's default fetch deadline.
pub(super) const FETCH_DEADLINE: Duration = Duration::from_secs(30);

/// Name of the provider under a supervisor.
pub(super) const PROVIDER: &str = "conformance";

pub(super) struct World<P, C> {
    pub(super) provider: Arc<P>,
    pub(super) controls: Arc<C>,
    pub(super) secrets: Secrets,
}

impl<P, C> Clone for World<P, C> {
    fn clone(&self) -> Self {
        Self {
            provider: Arc::clone(&self.provider),
            controls: Arc::clone(&self.controls),
            secrets: self.secrets.clone(),
        }
    }
}

pub(super) type FetchResult<S> = Result<Fetched<S>, ProviderError>;

impl<P: Provider, C: ProviderControls<P>> World<P, C> {
    pub(super) fn new(provider: P, controls: C) -> Self {
        Self {
            provider: Arc::new(provider),
            controls: Arc::new(controls),
            secrets: Secrets::default(),
        }
    }

    pub(super) fn secret_text(&self, lease: &Lease<P::Secret>) -> String {
        let text = self.controls.secret_text(lease.secret());
        self.secrets.add(text.clone());
        text
    }

    /// Fetches within the library's deadline.
    pub(super) async fn try_fetch(
        &self,
        request: FetchRequest<P::Secret>,
    ) -> CheckResult<FetchResult<P::Secret>> {
        self.in_time("`fetch`", self.provider.fetch(request)).await
    }

    /// Awaits a call for as long as the library does.
    pub(super) async fn in_time<T>(
        &self,
        call: &str,
        work: impl Future<Output = T>,
    ) -> CheckResult<T> {
        let pending = || {
            let expected = format!("{call} returns within the library's fetch deadline");
            failed(expected, "it was pending after 30 s")
        };
        timeout(FETCH_DEADLINE, work).await.map_err(|_| pending())
    }

    /// Fetches a lease as the supervisor does.
    pub(super) async fn fetch(
        &self,
        request: FetchRequest<P::Secret>,
    ) -> CheckResult<Lease<P::Secret>> {
        let current = request.current.clone();
        let fetched = self.try_fetch(request).await?;
        let lease = fetched.and_then(|fetched| fetched.into_lease(current));
        let lease = lease.map_err(|error| failed("`fetch` returns a lease", show(&error)))?;
        // So that no report shows it.
        self.secret_text(&lease);
        Ok(lease)
    }

    pub(super) async fn first(&self) -> CheckResult<Lease<P::Secret>> {
        self.fetch(FetchRequest::first()).await
    }

    pub(super) async fn next(
        &self,
        trigger: RotationTrigger,
        current: &Lease<P::Secret>,
    ) -> CheckResult<Lease<P::Secret>> {
        self.fetch(FetchRequest::new(trigger).with_current(current.clone()))
            .await
    }

    /// Runs `work` with a supervisor that has the provider.
    pub(super) async fn supervised<W>(
        &self,
        work: impl FnOnce(Supervisor, ProviderRef<P::Secret>) -> W,
    ) -> CheckResult
    where
        W: Future<Output = CheckResult>,
    {
        let started = Supervisor::builder().with_start_deadline(STEP).start();
        let supervisor = started.map_err(|error| failed("a supervisor starts", show(&error)))?;
        let worked = async {
            let provider = SharedProvider(Arc::clone(&self.provider));
            let added = supervisor.add_provider(PROVIDER, provider).await;
            let provider = added.map_err(|error| failed("a lease", show(&error)))?;
            work(supervisor.clone(), provider).await
        }
        .await;
        supervisor.shutdown(STEP).await;
        worked
    }
}

/// Forwards every method, except for [`Provider::close`], which is called once.
#[derive(Debug)]
struct SharedProvider<P>(Arc<P>);

impl<P: Provider> Provider for SharedProvider<P> {
    type Secret = P::Secret;

    fn fetch(
        &self,
        request: FetchRequest<P::Secret>,
    ) -> impl Future<Output = FetchResult<P::Secret>> + Send {
        self.0.fetch(request)
    }

    fn renew(
        &self,
        request: FetchRequest<P::Secret>,
    ) -> impl Future<Output = Result<Option<Expiry>, ProviderError>> + Send {
        self.0.renew(request)
    }

    fn rehearse(
        &self,
        request: FetchRequest<P::Secret>,
    ) -> impl Future<Output = FetchResult<P::Secret>> + Send {
        self.0.rehearse(request)
    }

    fn release(
        &self,
        lease: Lease<P::Secret>,
    ) -> impl Future<Output = Result<(), ProviderError>> + Send {
        self.0.release(lease)
    }

    fn watch(&self, hints: Hints) -> impl Future<Output = ()> + Send {
        self.0.watch(hints)
    }
}
