//! Registration, which runs in the caller's task.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout, timeout_at};

use super::inner::Inner;
use super::node::{PoolNode, ProviderNode};
use super::provider_ref::ProviderRef;
use super::registry::Registry;
use super::shutdown::Registered;
use super::{Supervisor, runtime, validate};
use crate::error::{ConnectError, ConnectErrorKind, Error, ErrorKind, ProviderError};
use crate::handle::Handle;
use crate::pool::{PoolFactory, PoolSlot};
use crate::provider::{ErasedProvider, Provider, ProviderSlot};

/// Reason of a start that waits for a fetch.
const NO_FIRST_LEASE: &str = "the provider has not returned its first lease";

impl Supervisor {
    /// Registers a provider and waits for its first lease.
    ///
    /// # Errors
    /// At once when the name is empty or taken, or when the lease expires too soon to be handed
    /// over. At once, too, when the provider returns a permanent error
    /// ([`ProviderError::is_transient`] false). Transient errors are retried until the start
    /// deadline (30 s). Nothing stays registered then. Outside of a tokio runtime
    /// ([`ErrorKind::NoRuntime`]).
    ///
    /// # Cancel safety
    /// Dropping the future unregisters it.
    pub async fn add_provider<P: Provider>(
        &self,
        name: &str,
        provider: P,
    ) -> Result<ProviderRef<P::Secret>, Error> {
        let inner = &self.inner;
        runtime::check("add_provider")?;
        let (provided, node) = register_provider(inner, name, provider)?;
        let mut guard = Unregister::new(inner, Registered::Provider(node));
        let start_deadline = inner.context.settings.start_deadline;
        let first = provided.slot.first_lease();
        let reason = || match provided.slot.last_error() {
            Some(error) => error.to_string(),
            None => NO_FIRST_LEASE.to_owned(),
        };
        let error = match start_within(start_deadline, first, reason, name, None).await {
            Ok(Ok(())) => {
                guard.keep();
                return Ok(provided);
            }
            Ok(Err(error)) => Error::from_provider(name, None, error),
            Err(_) => no_lease_in_time(&provided.slot, start_deadline),
        };
        guard.unregister().await;
        Err(error)
    }

    /// Registers a provider without waiting for its first lease: its pools are not ready until that
    /// is obtained.
    ///
    /// # Errors
    /// When the name is empty or taken, after shutdown, or when the supervisor's runtime is gone.
    pub fn add_provider_in_background<P: Provider>(
        &self,
        name: &str,
        provider: P,
    ) -> Result<ProviderRef<P::Secret>, Error> {
        register_provider(&self.inner, name, provider).map(|(provided, _)| provided)
    }

    /// Registers a pool and waits until a login has verified its first lease.
    ///
    /// # Errors
    /// At once when the name is empty or taken, or when a size or duration is out of range. At
    /// once, too, when no credential would help (no such database, no right to connect). Everything
    /// else, a rejection included, is retried until the start deadline (30 s); the error then
    /// carries the SQLSTATE. Nothing stays registered then. Outside of a tokio runtime.
    ///
    /// # Cancel safety
    /// Dropping the future unregisters it.
    pub async fn add_pool<F: PoolFactory>(
        &self,
        name: &str,
        provider: &ProviderRef<F::Secret>,
        factory: F,
    ) -> Result<Handle<F>, Error> {
        let inner = &self.inner;
        runtime::check("add_pool")?;
        let (slot, node) = register(inner, name, provider, factory)?;
        let mut guard = Unregister::new(inner, Registered::Pool(node));
        let start_deadline = inner.context.settings.start_deadline;
        let fail_fast = inner.context.settings.fail_fast;
        let first = slot.until(|| {
            slot.start_result().or_else(|| {
                // A provider that was registered in the background and failed.
                let error = ending_error(&provider.slot, fail_fast)?;
                let kind = if error.is_transient() {
                    ConnectErrorKind::Other
                } else {
                    ConnectErrorKind::Misconfigured
                };
                Some(Err(ConnectError::no_lease(kind, provider.name(), &error)))
            })
        });
        let reason = || match (slot.last_failure(), provider.slot.last_error()) {
            (Some(error), _) => error.to_string(),
            _ if provider.slot.current_lease().is_some() => {
                "the first verification has not ended".to_owned()
            }
            (None, Some(error)) => format!("the provider has no lease: {error}"),
            (None, None) => NO_FIRST_LEASE.to_owned(),
        };
        let (pool, provider_name) = (Some(name), provider.name());
        let error = match start_within(start_deadline, first, reason, provider_name, pool).await {
            Ok(Ok(())) => {
                guard.keep();
                return Ok(Handle::supervised(Arc::clone(&slot.shared)));
            }
            Ok(Err(error)) => Error::from_pool(name, provider_name, None, error),
            Err(_) => match slot.last_failure().or_else(|| slot.unfinished_start()) {
                Some(error) => Error::from_pool(name, provider_name, Some(start_deadline), error),
                None => no_lease_in_time(&provider.slot, start_deadline),
            },
        };
        guard.unregister().await;
        Err(error)
    }

    /// Registers a pool without waiting for a verification: the service starts while the database
    /// is down. Until the first verification, callers wait as long as for a connection. A permanent
    /// error of the provider is returned at once. [`Handle::current`] returns a closed pool.
    ///
    /// # Errors
    /// When the name is empty or taken, a size or duration is out of range, or after shutdown.
    pub fn add_pool_in_background<F: PoolFactory>(
        &self,
        name: &str,
        provider: &ProviderRef<F::Secret>,
        factory: F,
    ) -> Result<Handle<F>, Error> {
        let (slot, _) = register(&self.inner, name, provider, factory)?;
        Ok(Handle::supervised(Arc::clone(&slot.shared)))
    }
}

fn register_provider<P: Provider>(
    inner: &Arc<Inner>,
    name: &str,
    provider: P,
) -> Result<(ProviderRef<P::Secret>, Arc<ProviderNode>), Error> {
    let root = inner.root.clone().ok_or_else(Error::shut_down)?;
    // Background work runs on the supervisor's runtime: the caller's may end before it.
    let _entered = inner.runtime.enter();
    let mut registry = inner.lock();
    registry.check_provider(name)?;
    let name: Arc<str> = name.into();
    let provider: Arc<dyn ErasedProvider<P::Secret>> = Arc::new(provider);
    let slot = Arc::new(ProviderSlot::new(
        Arc::clone(&name),
        provider,
        inner.context.clone(),
    ));
    let node = ProviderNode::of_provider(Arc::clone(&slot));
    if !root.adopt(Arc::clone(&node.child)) {
        return Err(Error::runtime_is_gone());
    }
    registry.add_provider(Arc::clone(&node));
    drop(registry);
    inner.context.meters.provider_registered(&name);
    let provider = ProviderRef {
        slot,
        supervisor: inner.id,
    };
    Ok((provider, node))
}

fn register<F: PoolFactory>(
    inner: &Arc<Inner>,
    name: &str,
    provider: &ProviderRef<F::Secret>,
    factory: F,
) -> Result<(Arc<PoolSlot<F>>, Arc<PoolNode>), Error> {
    let root = inner.root.clone().ok_or_else(Error::shut_down)?;
    if inner.id != provider.supervisor {
        return Err(Error::invalid(
            "provider",
            "belongs to another supervisor; give one of this supervisor",
        ));
    }
    let check = |registry: &Registry| {
        registry.check_pool(name)?;
        if registry.provider(provider.name())?.id == provider.slot.id() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::NotRegistered,
            format!(
                "provider {:?} was removed; give the new one of that name",
                provider.name()
            ),
        ))
    };
    validate::pool(name, &factory.settings())?;
    check(&inner.lock())?;
    let _entered = inner.runtime.enter();
    let name: Arc<str> = name.into();
    // Before the registry is locked: a factory's code may request the supervisor's status.
    let slot = PoolSlot::new(
        Arc::clone(&name),
        factory,
        Arc::clone(&provider.slot),
        inner.context.clone(),
    );
    let mut registry = inner.lock();
    check(&registry)?;
    let subscriber: Arc<dyn crate::provider::Subscriber<F::Secret>> =
        Arc::<PoolSlot<F>>::clone(&slot);
    provider.slot.subscribe(Arc::downgrade(&subscriber));
    let node = PoolNode::of_pool(Arc::clone(&slot));
    if !root.adopt(Arc::clone(&node.child)) {
        return Err(Error::runtime_is_gone());
    }
    registry.add_pool(Arc::clone(&node));
    drop(registry);
    inner.context.meters.pool_registered(&name);
    Ok((slot, node))
}

/// Returns the error of a start whose provider returned no lease in time.
fn no_lease_in_time<S: Send + Sync + 'static>(
    provider: &ProviderSlot<S>,
    waited: Duration,
) -> Error {
    let error = provider.last_error();
    let error = error.unwrap_or_else(ProviderError::has_not_returned);
    Error::from_provider(provider.name(), Some(waited), error)
}

/// Time after which a start that still waits logs its reason, within a second.
const LOG_AFTER: Duration = Duration::from_millis(900);

/// Waits for a start until the start deadline. Logs once why it still waits, and when it fails.
async fn start_within<T>(
    start_deadline: Duration,
    first: impl Future<Output = T>,
    reason: impl Fn() -> String,
    provider: &str,
    pool: Option<&str>,
) -> Result<T, Elapsed> {
    let began = Instant::now();
    let mut first = std::pin::pin!(first);
    if start_deadline > LOG_AFTER {
        if let Ok(outcome) = timeout_at(began + LOG_AFTER, first.as_mut()).await {
            return Ok(outcome);
        }
        let left = Duration::from_secs((start_deadline - LOG_AFTER).as_secs());
        tracing::warn!(
            pool = pool.map(tracing::field::display),
            %provider,
            fails_in = %humantime::format_duration(left),
            reason = reason(),
            "start still waits for a verified lease"
        );
    }
    timeout_at(began + start_deadline, first).await
}

/// Returns the error that keeps the provider from its first lease, if it ends the start.
fn ending_error<S: Send + Sync + 'static>(
    provider: &ProviderSlot<S>,
    fail_fast: bool,
) -> Option<ProviderError> {
    let ends_start = |error: &ProviderError| fail_fast || !error.is_transient();
    let error = provider.last_error().filter(ends_start);
    error.filter(|_| provider.current_lease().is_none())
}

/// Time that a failed start waits for its own clean-up, which continues without it.
const CLEAN_UP: Duration = Duration::from_secs(1);

/// Unregisters a provider or pool if its start fails or the caller drops the future.
struct Unregister<'s> {
    inner: &'s Arc<Inner>,
    registered: Option<Registered>,
}

impl<'s> Unregister<'s> {
    fn new(inner: &'s Arc<Inner>, registered: Registered) -> Self {
        Self {
            inner,
            registered: Some(registered),
        }
    }

    fn keep(&mut self) {
        self.registered = None;
    }

    /// Unregisters it, and waits up to a second for its end.
    async fn unregister(&mut self) {
        if let Some(ending) = self.begin_unregister() {
            let _ = timeout(CLEAN_UP, ending).await;
        }
    }

    fn begin_unregister(&mut self) -> Option<JoinHandle<()>> {
        self.registered.take()?.unregister(self.inner)
    }
}

impl Drop for Unregister<'_> {
    /// Removes the registration in the background if the caller dropped the future.
    fn drop(&mut self) {
        drop(self.begin_unregister());
    }
}
