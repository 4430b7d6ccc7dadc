//! Pools by deadpool: each caller has a connection of its own.

mod connection;

use std::error::Error as StdError;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use claviger::Credentials;
use claviger::error::{ConnectError, ConnectErrorKind};
use claviger::lease::Lease;
use claviger::pool::{AcquireError, Check, LoginPermits, PoolFactory, PoolSettings, Taken};
use deadpool::managed::{Object, Pool, PoolError};
use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::address::{Logins, misconfigured};
use crate::classify::classify;
use crate::credentials::Verified;
use crate::factory::{check_lease, explain, server, verify};
use crate::{Error, RedisPools};

pub use connection::ExclusiveConnection;

use connection::Connections;

/// Time between two searches for idle connections of a closed pool.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Factory of pools whose callers each have a connection of their own. They can use commands that
/// would disturb other callers of a shared one: `WATCH` with `MULTI`, blocking commands, `SELECT`.
///
/// The pool is deadpool's. In deadpool-redis, a login cannot wait for a permit. This crate
/// therefore opens the connections itself, and reuses them after `UNWATCH`, as deadpool-redis does.
#[derive(Debug)]
pub struct ExclusivePools {
    shared: RedisPools,
}

impl ExclusivePools {
    /// Creates a factory of pools of at most `max_connections` connections. Address, TLS and
    /// timeouts are those of `settings`.
    ///
    /// # Errors
    /// [`ConnectErrorKind::Misconfigured`]: `max_connections` is 0.
    pub fn new(settings: RedisPools, max_connections: u32) -> Result<Self, ConnectError> {
        if max_connections == 0 {
            return Err(misconfigured("max_connections", "is 0; give at least 1"));
        }
        let mut shared = settings;
        let given = shared.settings;
        shared.settings = PoolSettings::new(max_connections);
        shared.settings.own_queue = true;
        shared.settings.reauthenticates = true;
        shared.settings.acquire_timeout = given.acquire_timeout;
        shared.settings.policy = given.policy;
        shared.settings.checks = given.checks;
        Ok(Self { shared })
    }

    /// Sets how many connections are opened ahead of demand. Default: 0.
    #[must_use]
    pub fn with_warm_connections(mut self, connections: u32) -> Self {
        self.shared.settings.warm_connections = connections;
        self
    }

    fn logins(&self) -> &Logins {
        &self.shared.logins
    }
}

/// The pool of a [`Handle`](claviger::Handle): deadpool's.
#[derive(Clone, Debug)]
pub struct ExclusivePool(Option<Pool<Connections>>);

impl ExclusivePool {
    /// Returns the number of connections: busy, idle, being opened, and taken out of the pool.
    fn connections(&self) -> u32 {
        let pool = self.0.as_ref();
        pool.map_or(0, |pool| *pool.manager().open.borrow())
    }

    fn idle(&self) -> u32 {
        let available = self.0.as_ref().map_or(0, |pool| pool.status().available);
        u32::try_from(available).unwrap_or(u32::MAX)
    }
}

fn into_taken(object: Object<Connections>) -> Taken<ExclusiveConnection> {
    let idle_for = object.idle_for();
    Taken::new(ExclusiveConnection(object), idle_for)
}

fn call_error(error: PoolError<Error>) -> Error {
    match error {
        PoolError::Backend(error) => error,
        PoolError::Timeout(_) => Error::TimedOut,
        PoolError::Closed => Error::Closed,
        error => Error::Connect(ConnectError::new(
            ConnectErrorKind::Other,
            error.to_string(),
        )),
    }
}

impl PoolFactory for ExclusivePools {
    type Secret = Credentials;
    type Pool = ExclusivePool;
    type Connection = ExclusiveConnection;
    type Error = Error;

    fn settings(&self) -> PoolSettings {
        self.shared.settings.clone()
    }

    fn check(&self, lease: &Lease<Credentials>) -> Result<(), ConnectError> {
        check_lease(self.logins(), lease, self.shared.tokens_in_clear)
    }

    fn vacant(&self) -> ExclusivePool {
        ExclusivePool(None)
    }

    async fn verify(&self, credentials: &Credentials) -> Result<(), ConnectError> {
        verify(self.logins(), credentials).await
    }

    fn account(&self, credentials: &Credentials) -> String {
        format!("{}@{}", credentials.user(), self.server(credentials))
    }

    fn server(&self, credentials: &Credentials) -> String {
        server(self.logins(), credentials)
    }

    fn explain(&self, credentials: &Credentials, error: ConnectError) -> ConnectError {
        explain(self.logins(), credentials, error)
    }

    fn open(
        &self,
        credentials: &Credentials,
        permits: LoginPermits,
    ) -> Result<ExclusivePool, ConnectError> {
        let manager = Connections {
            logins: self.logins().at_endpoint_of(credentials)?,
            verified: Verified::new(credentials.clone(), permits.clone()),
            permits,
            states: Arc::default(),
            open: watch::Sender::new(0),
        };
        let pool = Pool::builder(manager)
            .max_size(self.shared.settings.max_connections as usize)
            .runtime(deadpool::Runtime::Tokio1)
            .build();
        let pool = pool.map_err(|error| misconfigured("max_connections", error))?;
        Ok(ExclusivePool(Some(pool)))
    }

    fn update_in_place(&self, pool: &ExclusivePool, old: &Credentials, new: &Credentials) -> bool {
        let Some(pool) = pool.0.as_ref().filter(|_| old.endpoint() == new.endpoint()) else {
            return false;
        };
        pool.manager().verified.update(new.clone());
        true
    }

    async fn reauthenticate(&self, pool: &ExclusivePool, within: Duration) {
        let Some(pool) = &pool.0 else { return };
        let version = pool.manager().verified.current().number;
        let states: Vec<_> = {
            let states = pool.manager().states.lock();
            states.iter().filter_map(Weak::upgrade).collect()
        };
        let all = async {
            for state in &states {
                if !state.reach(version).await {
                    state.note_broken();
                }
            }
        };
        if timeout(within, all).await.is_err() {
            for state in states {
                if state.reach(version).now_or_never() != Some(true) {
                    state.note_broken();
                }
            }
        }
    }

    async fn drain(&self, pool: ExclusivePool) {
        let Some(pool) = &pool.0 else { return };
        pool.close();
        let mut open = pool.manager().open.subscribe();
        loop {
            // A call that was cancelled while the pool closed leaves its connection idle.
            pool.retain(|_, _| false);
            tokio::select! {
                // Fails only without a sender, which the manager owns.
                _ = open.wait_for(|open| *open == 0) => return,
                () = sleep(SWEEP_EVERY) => {}
            }
        }
    }

    fn connections(&self, pool: &ExclusivePool) -> u32 {
        pool.connections()
    }

    fn idle(&self, pool: &ExclusivePool) -> u32 {
        pool.idle()
    }

    fn classify(&self, error: &(dyn StdError + 'static)) -> ConnectError {
        classify(error)
    }

    /// Polls deadpool once. A login would begin in a later poll.
    fn try_get(&self, pool: &ExclusivePool) -> Option<Taken<ExclusiveConnection>> {
        let pool = pool.0.as_ref()?;
        let mut timeouts = pool.timeouts();
        timeouts.wait = Some(Duration::ZERO);
        let getting = pin!(pool.timeout_get(&timeouts));
        match getting.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(got) => got.ok().map(into_taken),
            Poll::Pending => None,
        }
    }

    async fn get(&self, pool: &ExclusivePool) -> Result<Taken<ExclusiveConnection>, Error> {
        let pool = pool.0.as_ref().ok_or(Error::Closed)?;
        let object = pool.get().await.map_err(call_error)?;
        Ok(into_taken(object))
    }

    async fn check_connection(
        &self,
        connection: &mut ExclusiveConnection,
        _: Check,
    ) -> Result<(), Error> {
        let pinged = redis::cmd("PING").exec_async(connection).await;
        pinged.map_err(|error| Error::Connect(classify(&error).with_source(error)))
    }

    fn discard(&self, connection: ExclusiveConnection) {
        drop(Object::take(connection.0));
    }

    fn is_timeout(&self, error: &Error) -> bool {
        matches!(error, Error::TimedOut)
    }

    fn is_closed(&self, error: &Error) -> bool {
        matches!(error, Error::Closed)
    }

    fn error(&self, error: AcquireError<'_>) -> Error {
        Error::from_acquire(error)
    }
}
