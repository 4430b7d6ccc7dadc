//! A kind of pool that does as a script says.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use claviger::{ConnectError, ConnectErrorKind, Credentials, PoolFactory, PoolSettings};
use tokio::sync::{Notify, watch};

struct State {
    terms: PoolSettings,
    accepted: Option<Vec<String>>,
    script: VecDeque<ConnectError>,
    verifications: Vec<(String, bool)>,
    opened: Vec<ScriptedPool>,
    in_place: bool,
}

struct Inner {
    state: Mutex<State>,
    stalled: watch::Sender<bool>,
}

/// Makes [`ScriptedPool`]s. Accepts every password unless told otherwise. Clones share the script.
#[derive(Clone)]
pub struct ScriptedPools {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for ScriptedPools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScriptedPools").finish_non_exhaustive()
    }
}

impl ScriptedPools {
    /// Pools of at most so many connections.
    pub fn new(max_connections: u32) -> Self {
        Self {
            inner: Arc::new(Inner {
                state: Mutex::new(State {
                    terms: PoolSettings::new(max_connections),
                    accepted: None,
                    script: VecDeque::new(),
                    verifications: Vec::new(),
                    opened: Vec::new(),
                    in_place: true,
                }),
                stalled: watch::Sender::new(false),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The database takes these passwords and rejects all others with 28P01.
    pub fn accept_only<T: Into<String>>(&self, passwords: impl IntoIterator<Item = T>) {
        self.lock().accepted = Some(passwords.into_iter().map(Into::into).collect());
    }

    /// The next `times` verifications end so.
    pub fn fail_next(&self, times: usize, error: ConnectError) {
        let mut state = self.lock();
        state
            .script
            .extend(std::iter::repeat_with(|| error.clone()).take(times));
    }

    /// No pool can be refitted in place from now on.
    pub fn never_in_place(&self) {
        self.lock().in_place = false;
    }

    /// Verifications hang from now on.
    pub fn stall(&self) {
        self.inner.stalled.send_replace(true);
    }

    /// Verifications that hang go on.
    pub fn resume(&self) {
        self.inner.stalled.send_replace(false);
    }

    /// Every verification so far: the password, and whether it was accepted.
    pub fn verifications(&self) -> Vec<(String, bool)> {
        self.lock().verifications.clone()
    }

    /// How many verifications were rejected.
    pub fn rejected(&self) -> usize {
        self.lock()
            .verifications
            .iter()
            .filter(|(_, accepted)| !accepted)
            .count()
    }

    /// Every pool that was opened, in order.
    pub fn opened(&self) -> Vec<ScriptedPool> {
        self.lock().opened.clone()
    }

    fn pool(password: &str) -> ScriptedPool {
        ScriptedPool {
            inner: Arc::new(PoolInner {
                password: Mutex::new(password.to_owned()),
                closed: AtomicBool::new(false),
                connections: AtomicU32::new(0),
                returned: Notify::new(),
            }),
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
    connections: AtomicU32,
    returned: Notify,
}

/// A pool without a database.
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
    /// The password that new connections log in with.
    pub fn password(&self) -> String {
        self.inner
            .password
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.inner.closed.load(Ordering::Acquire)
    }

    /// A connection; the pool has not drained before it is dropped.
    pub fn connection(&self) -> ScriptedConnection {
        self.inner.connections.fetch_add(1, Ordering::AcqRel);
        ScriptedConnection { pool: self.clone() }
    }
}

/// A connection of a [`ScriptedPool`].
#[derive(Debug)]
pub struct ScriptedConnection {
    pool: ScriptedPool,
}

impl Drop for ScriptedConnection {
    fn drop(&mut self) {
        self.pool.inner.connections.fetch_sub(1, Ordering::AcqRel);
        self.pool.inner.returned.notify_waiters();
    }
}

impl PoolFactory for ScriptedPools {
    type Secret = Credentials;
    type Pool = ScriptedPool;

    fn terms(&self) -> PoolSettings {
        self.lock().terms.clone()
    }

    fn vacant(&self) -> ScriptedPool {
        let pool = Self::pool("");
        pool.inner.closed.store(true, Ordering::Release);
        pool
    }

    async fn verify(&self, login: &Credentials) -> Result<(), ConnectError> {
        let mut stalled = self.inner.stalled.subscribe();
        let _ = stalled.wait_for(|stalled| !stalled).await;
        let mut state = self.lock();
        let password = login.expose_password().to_owned();
        let outcome = match state.script.pop_front() {
            Some(error) => Err(error),
            None if state
                .accepted
                .as_ref()
                .is_some_and(|accepted| !accepted.contains(&password)) =>
            {
                Err(Self::rejection())
            }
            None => Ok(()),
        };
        state.verifications.push((password, outcome.is_ok()));
        outcome
    }

    fn open(&self, login: &Credentials) -> Result<ScriptedPool, ConnectError> {
        let pool = Self::pool(login.expose_password());
        self.lock().opened.push(pool.clone());
        Ok(pool)
    }

    async fn warm(&self, _: &ScriptedPool, connections: u32) -> Result<u32, ConnectError> {
        Ok(connections)
    }

    fn refit(&self, pool: &ScriptedPool, _: &Credentials, new: &Credentials) -> bool {
        let in_place = self.lock().in_place;
        if in_place {
            *pool
                .inner
                .password
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = new.expose_password().to_owned();
        }
        in_place
    }

    async fn drain(&self, pool: ScriptedPool) {
        pool.inner.closed.store(true, Ordering::Release);
        loop {
            let returned = pool.inner.returned.notified();
            if pool.inner.connections.load(Ordering::Acquire) == 0 {
                return;
            }
            returned.await;
        }
    }

    fn connections(&self, pool: &ScriptedPool) -> u32 {
        pool.inner.connections.load(Ordering::Acquire)
    }

    fn classify(&self, error: &(dyn std::error::Error + 'static)) -> ConnectError {
        error
            .downcast_ref::<ConnectError>()
            .cloned()
            .unwrap_or_else(|| ConnectError::new(ConnectErrorKind::Other, error.to_string()))
    }
}
