//! A scripted pool.

mod factory;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use claviger::error::{ConnectError, ConnectErrorKind};
use claviger::pool::{CheckPolicy, LoginPermits, PoolSettings};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

struct FactoryState {
    settings: PoolSettings,
    accepted: Option<Vec<String>>,
    verify_errors: VecDeque<ConnectError>,
    as_pool_errors: VecDeque<ConnectError>,
    check_errors: VecDeque<ConnectError>,
    verifications: Vec<(String, bool)>,
    opened: Vec<ScriptedPool>,
    in_place: bool,
    closing_delay: Duration,
    login_delay: Duration,
    reauthentication_delay: Duration,
    login_error: Option<ConnectError>,
    /// Whether each login of a pool was accepted.
    logins: Vec<bool>,
}

type CallHook = Box<dyn Fn(&str) + Send + Sync>;

struct FactoryInner {
    state: Mutex<FactoryState>,
    stalled: watch::Sender<bool>,
    on_call: OnceLock<CallHook>,
}

/// Creates [`ScriptedPool`]s. Accepts every password unless configured otherwise. Clones share the
/// script.
#[derive(Clone)]
pub struct ScriptedPools {
    inner: Arc<FactoryInner>,
}

impl std::fmt::Debug for ScriptedPools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScriptedPools").finish_non_exhaustive()
    }
}

impl ScriptedPools {
    /// Creates a factory whose pools have at most `max_connections` connections.
    pub fn new(max_connections: u32) -> Self {
        Self {
            inner: Arc::new(FactoryInner {
                state: Mutex::new(FactoryState {
                    settings: PoolSettings::new(max_connections),
                    accepted: None,
                    verify_errors: VecDeque::new(),
                    as_pool_errors: VecDeque::new(),
                    check_errors: VecDeque::new(),
                    verifications: Vec::new(),
                    opened: Vec::new(),
                    in_place: true,
                    closing_delay: Duration::ZERO,
                    login_delay: Duration::ZERO,
                    reauthentication_delay: Duration::ZERO,
                    login_error: None,
                    logins: Vec::new(),
                }),
                stalled: watch::Sender::new(false),
                on_call: OnceLock::new(),
            }),
        }
    }

    /// Gives each pool a queue of its own: callers wait there, and every login waits for a permit.
    #[must_use]
    pub fn with_own_queue(self) -> Self {
        self.lock().settings.own_queue = true;
        self
    }

    /// Makes connections authenticate again after an update in place. Default: they cannot.
    #[must_use]
    pub fn with_reauthentication(self) -> Self {
        self.lock().settings.reauthenticates = true;
        self
    }

    /// Opens this many connections ahead of demand. Default: none.
    #[must_use]
    pub fn with_warm_connections(self, connections: u32) -> Self {
        self.lock().settings.warm_connections = connections;
        self
    }

    /// Checks open connections under this condition. Default: never.
    #[must_use]
    pub fn with_checks(self, policy: CheckPolicy) -> Self {
        self.lock().settings.checks = policy;
        self
    }

    fn lock(&self) -> MutexGuard<'_, FactoryState> {
        self.inner.state.lock()
    }

    /// Accepts these passwords only; all others are rejected with 28P01.
    pub fn accept_only<T: Into<String>>(&self, passwords: impl IntoIterator<Item = T>) {
        self.lock().accepted = Some(passwords.into_iter().map(Into::into).collect());
    }

    /// Makes the next `times` verifications return `error`.
    pub fn fail_next(&self, times: usize, error: ConnectError) {
        let mut state = self.lock();
        state
            .verify_errors
            .extend(std::iter::repeat_with(|| error.clone()).take(times));
    }

    /// Makes the next `times` calls of
    /// [`verify_as_pool`](claviger::pool::PoolFactory::verify_as_pool) return `error`, as a failing
    /// hook does.
    pub fn fail_next_verifications_as_pool(&self, times: usize, error: ConnectError) {
        let mut state = self.lock();
        state
            .as_pool_errors
            .extend(std::iter::repeat_with(|| error.clone()).take(times));
    }

    /// Makes the next `times` checks of open connections return `error`, as those of broken
    /// connections do.
    pub fn fail_next_checks(&self, times: usize, error: ConnectError) {
        let mut state = self.lock();
        state
            .check_errors
            .extend(std::iter::repeat_with(|| error.clone()).take(times));
    }

    /// Makes in-place updates fail from now on, so that pools are replaced.
    pub fn disable_in_place(&self) {
        self.lock().in_place = false;
    }

    /// Sets how long every pool takes to close, even without connections. Default: no time.
    pub fn delay_closing(&self, time: Duration) {
        self.lock().closing_delay = time;
    }

    /// Makes each login of a pool return this error from now on, after its delay. `None` ends that.
    /// Verifications do not count.
    pub fn fail_logins(&self, error: Option<ConnectError>) {
        self.lock().login_error = error;
    }

    /// Sets how long each login of a pool takes. Verifications do not count. Default: no time.
    pub fn delay_logins(&self, time: Duration) {
        self.lock().login_delay = time;
    }

    /// Sets how long open connections take to authenticate again. Default: no time.
    pub fn delay_reauthentication(&self, time: Duration) {
        self.lock().reauthentication_delay = time;
    }

    /// Returns whether each login of a pool so far was accepted. Verifications do not count.
    pub fn logins(&self) -> Vec<bool> {
        self.lock().logins.clone()
    }

    /// Calls `hook` at the start of each method of the factory, with the method's name. Only the
    /// first hook is installed.
    pub fn on_call(&self, hook: impl Fn(&str) + Send + Sync + 'static) {
        let _ = self.inner.on_call.set(Box::new(hook));
    }

    fn call_hook(&self, method: &str) {
        if let Some(hook) = self.inner.on_call.get() {
            hook(method);
        }
    }

    /// Makes verifications hang until [`resume`](Self::resume).
    pub fn stall(&self) {
        self.inner.stalled.send_replace(true);
    }

    /// Continues hanging verifications.
    pub fn resume(&self) {
        self.inner.stalled.send_replace(false);
    }

    /// Returns every verification so far: the password, and whether it was accepted.
    pub fn verifications(&self) -> Vec<(String, bool)> {
        self.lock().verifications.clone()
    }

    /// Returns how many verifications were rejected.
    pub fn rejected(&self) -> usize {
        self.lock()
            .verifications
            .iter()
            .filter(|(_, accepted)| !accepted)
            .count()
    }

    /// Returns every pool that was opened, in order.
    pub fn opened(&self) -> Vec<ScriptedPool> {
        self.lock().opened.clone()
    }

    /// Returns a connection of the pool that was opened last.
    ///
    /// # Panics
    /// Panics when no pool was opened.
    #[expect(clippy::expect_used, reason = "a test fails by panicking")]
    pub fn connection(&self) -> ScriptedConnection {
        let opened = self.opened();
        opened.last().expect("a pool was opened").connection()
    }

    /// Returns the error with which the database rejects this password, if it does.
    fn rejection_of(&self, password: &str) -> Option<ConnectError> {
        let accepted = &self.lock().accepted;
        let accepts = |accepted: &Vec<String>| accepted.iter().any(|one| one == password);
        accepted
            .as_ref()
            .is_some_and(|accepted| !accepts(accepted))
            .then(Self::rejection)
    }

    /// Opens a connection, which counts as busy.
    fn log_in(&self, pool: &ScriptedPool) -> Result<ScriptedConnection, ConnectError> {
        let rejection = self.rejection_of(&pool.password());
        let mut state = self.lock();
        state.logins.push(rejection.is_none());
        match rejection.or_else(|| state.login_error.clone()) {
            Some(error) => Err(error),
            None => Ok(pool.connection()),
        }
    }

    fn rejection() -> ConnectError {
        ConnectError::new(
            ConnectErrorKind::Rejected,
            "password authentication failed for user \"app\"",
        )
        .with_code("28P01")
    }
}

struct PoolInner {
    password: Mutex<String>,
    closed: AtomicBool,
    /// Connections in use.
    busy: AtomicU32,
    idle: AtomicU32,
    max_connections: u32,
    returned: Notify,
    own_queue: Option<OwnQueue>,
}

struct OwnQueue {
    logins: LoginPermits,
    /// One place for each connection. Its waiters are the queue.
    places: Arc<Semaphore>,
}

/// A pool without a database. Clones are the same pool.
#[derive(Clone)]
pub struct ScriptedPool {
    inner: Arc<PoolInner>,
}

impl std::fmt::Debug for ScriptedPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScriptedPool")
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

impl ScriptedPool {
    fn new(password: &str, max_connections: u32, own_queue: Option<OwnQueue>) -> Self {
        Self {
            inner: Arc::new(PoolInner {
                password: Mutex::new(password.to_owned()),
                closed: AtomicBool::new(false),
                busy: AtomicU32::new(0),
                idle: AtomicU32::new(0),
                max_connections,
                returned: Notify::new(),
                own_queue,
            }),
        }
    }

    fn size(&self) -> u32 {
        self.inner.busy.load(Ordering::Acquire) + self.inner.idle.load(Ordering::Acquire)
    }

    fn take_idle(&self) -> Option<ScriptedConnection> {
        let idle = &self.inner.idle;
        let taken = idle
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |idle| {
                idle.checked_sub(1)
            })
            .is_ok();
        taken.then(|| self.connection())
    }

    /// Returns the password of new connections.
    pub fn password(&self) -> String {
        self.inner.password.lock().clone()
    }

    /// Returns whether the pool was closed.
    pub fn is_closed(&self) -> bool {
        self.inner.closed.load(Ordering::Acquire)
    }

    /// Returns a connection without a login. The pool does not finish its drain before the
    /// connection is dropped.
    pub fn connection(&self) -> ScriptedConnection {
        self.inner.busy.fetch_add(1, Ordering::AcqRel);
        ScriptedConnection {
            pool: self.clone(),
            is_discarded: false,
            place: None,
        }
    }
}

/// A connection of a [`ScriptedPool`]. Dropping it returns it to the pool.
#[derive(Debug)]
pub struct ScriptedConnection {
    pool: ScriptedPool,
    is_discarded: bool,
    /// Place in a pool with a queue of its own; the drop frees it.
    place: Option<OwnedSemaphorePermit>,
}

impl Drop for ScriptedConnection {
    fn drop(&mut self) {
        let pool = &self.pool.inner;
        if !self.is_discarded && !self.pool.is_closed() {
            pool.idle.fetch_add(1, Ordering::AcqRel);
            // The drain may have begun after the check, and closed the idle connections before.
            if self.pool.is_closed() {
                pool.idle.store(0, Ordering::Release);
            }
        }
        pool.busy.fetch_sub(1, Ordering::AcqRel);
        pool.returned.notify_waiters();
    }
}
