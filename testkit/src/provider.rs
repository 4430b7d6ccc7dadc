//! A scripted provider.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use claviger::error::ProviderError;
use claviger::lease::{Expiry, OldConnections};
use claviger::provider::{FetchRequest, Fetched, Hints};
use claviger::report::RotationTrigger;
use claviger::{Credentials, Lease, Provider, Revision};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// One fetch, as the provider received it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Call {
    /// Trigger of the fetch.
    pub trigger: RotationTrigger,
    /// Start of the fetch, by tokio's clock.
    pub at: Instant,
    /// Revisions that were reported as rejected.
    pub rejected: Vec<Revision>,
}

enum Step {
    Fail(ProviderError),
    Panic,
    Return(Fetched<Credentials>),
}

struct ProviderState {
    revision: u32,
    lifetime: Option<Duration>,
    old_connections: OldConnections,
    connection_lifetime: Option<Duration>,
    refresh_after: Option<Duration>,
    new_credential_per_fetch: bool,
    script: VecDeque<Step>,
    calls: Vec<Call>,
    released: Vec<Revision>,
    release_failures: VecDeque<ProviderError>,
    release_attempts: usize,
    close_calls: u32,
}

struct ProviderInner {
    state: Mutex<ProviderState>,
    stalled: watch::Sender<bool>,
    hinted: Notify,
}

/// A provider of user `app` with the passwords `password-1`, `password-2` …; the number is the
/// revision. Clones share the script.
#[derive(Clone)]
pub struct ScriptedProvider {
    inner: Arc<ProviderInner>,
}

impl std::fmt::Debug for ScriptedProvider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScriptedProvider").finish_non_exhaustive()
    }
}

impl Default for ScriptedProvider {
    fn default() -> Self {
        Self::new()
    }
}

impl ScriptedProvider {
    /// Creates a provider of `password-1`, without an expiry. Old connections are drained.
    pub fn new() -> Self {
        Self {
            inner: Arc::new(ProviderInner {
                state: Mutex::new(ProviderState {
                    revision: 1,
                    lifetime: None,
                    old_connections: OldConnections::Drain,
                    connection_lifetime: None,
                    refresh_after: None,
                    new_credential_per_fetch: false,
                    script: VecDeque::new(),
                    calls: Vec::new(),
                    released: Vec::new(),
                    release_failures: VecDeque::new(),
                    release_attempts: 0,
                    close_calls: 0,
                }),
                stalled: watch::Sender::new(false),
                hinted: Notify::new(),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, ProviderState> {
        self.inner.state.lock()
    }

    /// Sets the lifetime of leases, counted from the start of the fetch.
    #[must_use]
    pub fn with_lifetime(self, lifetime: Duration) -> Self {
        self.lock().lifetime = Some(lifetime);
        self
    }

    /// Sets what happens to old connections.
    #[must_use]
    pub fn with_old_connections(self, old_connections: OldConnections) -> Self {
        self.lock().old_connections = old_connections;
        self
    }

    /// Sets the lifetime of connections, counted from the start of the fetch: leases then have a
    /// [connection expiry](Lease::with_connection_expiry). Default: the lease's own lifetime.
    #[must_use]
    pub fn with_connection_lifetime(self, lifetime: Duration) -> Self {
        self.lock().connection_lifetime = Some(lifetime);
        self
    }

    /// Sets when leases are due for a refresh, counted from the fetch.
    #[must_use]
    pub fn with_refresh_after(self, after: Duration) -> Self {
        self.lock().refresh_after = Some(after);
        self
    }

    /// Makes every fetch return a new credential, as with IAM tokens.
    #[must_use]
    pub fn with_new_credential_per_fetch(self) -> Self {
        self.lock().new_credential_per_fetch = true;
        self
    }

    /// Rotates the credential and returns the new password.
    pub fn rotate(&self) -> String {
        let mut state = self.lock();
        state.revision += 1;
        format!("password-{}", state.revision)
    }

    /// Returns to an earlier credential, as after a rollback or from a stale replica.
    pub fn roll_back_to(&self, revision: u32) {
        self.lock().revision = revision;
    }

    /// Makes the next `times` fetches return `error`.
    pub fn fail_next(&self, times: usize, error: ProviderError) {
        let mut state = self.lock();
        state
            .script
            .extend(std::iter::repeat_with(|| Step::Fail(error.clone())).take(times));
    }

    /// Removes all scripted steps.
    pub fn recover(&self) {
        self.lock().script.clear();
    }

    /// Makes the next fetch panic.
    pub fn panic_next(&self) {
        self.lock().script.push_back(Step::Panic);
    }

    /// Makes the next fetch return this lease.
    pub fn return_next(&self, fetched: impl Into<Fetched<Credentials>>) {
        self.lock().script.push_back(Step::Return(fetched.into()));
    }

    /// Makes fetches hang until [`resume`](Self::resume).
    pub fn stall(&self) {
        self.inner.stalled.send_replace(true);
    }

    /// Continues hanging fetches.
    pub fn resume(&self) {
        self.inner.stalled.send_replace(false);
    }

    /// Signals a change to the supervisor.
    pub fn hint(&self) {
        self.inner.hinted.notify_one();
    }

    /// Makes the next `times` releases return `error`.
    pub fn fail_releases(&self, times: usize, error: ProviderError) {
        self.lock()
            .release_failures
            .extend(std::iter::repeat_with(|| error.clone()).take(times));
    }

    /// Returns every fetch so far.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// Returns every revision that was released, in order.
    pub fn released(&self) -> Vec<Revision> {
        self.lock().released.clone()
    }

    /// Returns how many releases were attempted, failed ones included.
    pub fn release_attempts(&self) -> usize {
        self.lock().release_attempts
    }

    /// Returns how often `close` was called.
    pub fn close_calls(&self) -> u32 {
        self.lock().close_calls
    }

    /// Returns a lease of the current revision, as of the start of `request`.
    fn lease(state: &ProviderState, request: &FetchRequest<Credentials>) -> Lease<Credentials> {
        let revision = state.revision;
        let mut lease = Lease::new(
            Credentials::new("app", format!("password-{revision}")),
            Revision::new(revision.to_string()),
        )
        .with_old_connections(state.old_connections);
        if let Some(lifetime) = state.lifetime {
            lease = lease.with_expiry(Expiry::after(request.started, lifetime));
        }
        if let Some(lifetime) = state.connection_lifetime {
            lease = lease.with_connection_expiry(Expiry::after(request.started, lifetime));
        }
        if let Some(after) = state.refresh_after {
            lease = lease.with_refresh_after(after);
        }
        lease
    }
}

impl Provider for ScriptedProvider {
    type Secret = Credentials;

    #[expect(clippy::panic, reason = "the script requests it")]
    async fn fetch(
        &self,
        request: FetchRequest<Credentials>,
    ) -> Result<Fetched<Credentials>, ProviderError> {
        let step = {
            let mut state = self.lock();
            state.calls.push(Call {
                trigger: request.trigger,
                at: Instant::now(),
                rejected: request.rejected.to_vec(),
            });
            state.script.pop_front()
        };
        let mut stalled = self.inner.stalled.subscribe();
        let _ = stalled.wait_for(|stalled| !stalled).await;
        match step {
            Some(Step::Fail(error)) => Err(error),
            Some(Step::Panic) => panic!("scripted panic"),
            Some(Step::Return(fetched)) => Ok(fetched),
            None => {
                let mut state = self.lock();
                if state.new_credential_per_fetch && request.current.is_some() {
                    state.revision += 1;
                }
                Ok(Self::lease(&state, &request).into())
            }
        }
    }

    async fn release(&self, lease: Lease<Credentials>) -> Result<(), ProviderError> {
        let mut state = self.lock();
        state.release_attempts += 1;
        if let Some(error) = state.release_failures.pop_front() {
            return Err(error);
        }
        state.released.push(lease.revision().clone());
        Ok(())
    }

    async fn watch(&self, hints: Hints) {
        loop {
            self.inner.hinted.notified().await;
            hints.changed();
        }
    }

    async fn close(&self) {
        self.lock().close_calls += 1;
    }
}

/// Fetches as the supervisor does, for a provider's own tests.
pub trait FetchLease: Provider {
    /// Returns the lease that is current after a fetch with this request.
    ///
    /// # Errors
    /// Those of [`Provider::fetch`] and [`Fetched::into_lease`].
    fn fetch_lease(
        &self,
        request: FetchRequest<Self::Secret>,
    ) -> impl Future<Output = Result<Lease<Self::Secret>, ProviderError>> + Send {
        async {
            let current = request.current.clone();
            self.fetch(request).await?.into_lease(current)
        }
    }
}

impl<P: Provider> FetchLease for P {}
