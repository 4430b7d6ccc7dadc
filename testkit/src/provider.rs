//! A provider that does as a script says.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use claviger::{
    Credentials, Expiry, FetchRequest, Fetched, Hints, Lease, OldConnections, Provider,
    ProviderError, Revision, RotationTrigger,
};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// One fetch, as the provider saw it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Call {
    /// Why.
    pub trigger: RotationTrigger,
    /// When, by tokio's clock.
    pub at: Instant,
    /// The revisions said to be rejected.
    pub rejected: Vec<Revision>,
}

enum Step {
    Fail(ProviderError),
    Panic,
    Answer(Fetched<Credentials>),
}

struct State {
    version: u32,
    life: Option<Duration>,
    old_connections: OldConnections,
    refresh_after: Option<Duration>,
    mint_each: bool,
    script: VecDeque<Step>,
    calls: Vec<Call>,
    released: Vec<Revision>,
    release_failures: VecDeque<ProviderError>,
    release_attempts: usize,
    closed: u32,
}

struct Inner {
    state: Mutex<State>,
    stalled: watch::Sender<bool>,
    hinted: Notify,
}

/// A provider of user `app` with the passwords `password-1`, `password-2` …, which are also the
/// revisions' numbers. Clones share the script.
#[derive(Clone)]
pub struct ScriptedProvider {
    inner: Arc<Inner>,
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
    /// Holds `password-1`, which lives for ever and whose connections are drained.
    pub fn new() -> Self {
        Self {
            inner: Arc::new(Inner {
                state: Mutex::new(State {
                    version: 1,
                    life: None,
                    old_connections: OldConnections::Drain,
                    refresh_after: None,
                    mint_each: false,
                    script: VecDeque::new(),
                    calls: Vec::new(),
                    released: Vec::new(),
                    release_failures: VecDeque::new(),
                    release_attempts: 0,
                    closed: 0,
                }),
                stalled: watch::Sender::new(false),
                hinted: Notify::new(),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Leases live so long, counted from the start of the fetch.
    #[must_use]
    pub fn with_lifetime(self, life: Duration) -> Self {
        self.lock().life = Some(life);
        self
    }

    /// What becomes of connections.
    #[must_use]
    pub fn with_old_connections(self, old_connections: OldConnections) -> Self {
        self.lock().old_connections = old_connections;
        self
    }

    /// When leases ask to be refreshed.
    #[must_use]
    pub fn with_refresh_after(self, after: Duration) -> Self {
        self.lock().refresh_after = Some(after);
        self
    }

    /// Every fetch mints a new credential, as IAM tokens do.
    #[must_use]
    pub fn mint_each(self) -> Self {
        self.lock().mint_each = true;
        self
    }

    /// The store holds the next credential from now on; answers its password.
    pub fn rotate(&self) -> String {
        let mut state = self.lock();
        state.version += 1;
        format!("password-{}", state.version)
    }

    /// The store holds that credential again: a roll-back, a stale replica.
    pub fn go_back_to(&self, version: u32) {
        self.lock().version = version;
    }

    /// The next `times` fetches fail so.
    pub fn fail_next(&self, times: usize, error: ProviderError) {
        let mut state = self.lock();
        state
            .script
            .extend(std::iter::repeat_with(|| Step::Fail(error.clone())).take(times));
    }

    /// No scripted failure is left.
    pub fn recover(&self) {
        self.lock().script.clear();
    }

    /// The next fetch panics.
    pub fn panic_next(&self) {
        self.lock().script.push_back(Step::Panic);
    }

    /// The next fetch returns exactly this.
    pub fn answer_next(&self, fetched: impl Into<Fetched<Credentials>>) {
        self.lock().script.push_back(Step::Answer(fetched.into()));
    }

    /// Fetches hang from now on.
    pub fn stall(&self) {
        self.inner.stalled.send_replace(true);
    }

    /// Fetches that hang go on.
    pub fn resume(&self) {
        self.inner.stalled.send_replace(false);
    }

    /// The source signals a change.
    pub fn hint(&self) {
        self.inner.hinted.notify_one();
    }

    /// The next `times` releases fail so.
    pub fn fail_releases(&self, times: usize, error: ProviderError) {
        self.lock()
            .release_failures
            .extend(std::iter::repeat_with(|| error.clone()).take(times));
    }

    /// Every fetch so far.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// Every revision that was released, in order.
    pub fn released(&self) -> Vec<Revision> {
        self.lock().released.clone()
    }

    /// How many releases were tried so far, failed ones included.
    pub fn release_attempts(&self) -> usize {
        self.lock().release_attempts
    }

    /// How often `close` was called.
    pub fn closed(&self) -> u32 {
        self.lock().closed
    }

    /// The lease of that version, as issued at `request`'s start.
    fn lease(state: &State, request: &FetchRequest<Credentials>) -> Lease<Credentials> {
        let version = state.version;
        let mut lease = Lease::new(
            Credentials::new("app", format!("password-{version}")),
            Revision::new(version.to_string()),
        )
        .with_old_connections(state.old_connections);
        if let Some(life) = state.life {
            lease = lease.with_expiry(Expiry::after(request.started, life));
        }
        if let Some(after) = state.refresh_after {
            lease = lease.with_refresh_after(after);
        }
        lease
    }
}

impl Provider for ScriptedProvider {
    type Secret = Credentials;

    #[expect(clippy::panic, reason = "its purpose")]
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
            Some(Step::Panic) => panic!("the script says so"),
            Some(Step::Answer(fetched)) => Ok(fetched),
            None => {
                let mut state = self.lock();
                if state.mint_each && request.held.is_some() {
                    state.version += 1;
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
        self.lock().closed += 1;
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
            let current = request.held.clone();
            self.fetch(request).await?.into_lease(current)
        }
    }
}

impl<P: Provider> FetchLease for P {}
