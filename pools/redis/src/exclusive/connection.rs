//! Connections of exclusive pools: login, reuse, and how they change for the next caller.

use std::fmt;
use std::future::pending;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Weak};
use std::time::Duration;

use claviger::pool::{LoginError, LoginPermits};
use deadpool::managed::{Manager, Metrics, Object, RecycleError, RecycleResult};
use parking_lot::Mutex;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Cmd, RedisResult};
use tokio::sync::watch;

use crate::address::Logins;
use crate::classify::{classify, login_error};
use crate::connection::{Open, State};
use crate::credentials::{AuthLock, Verified};
use crate::kind::sealed::Connect as _;
use crate::usage::{Usage, begins_transaction};
use crate::{Error, Multiplexed};

/// A connection in a pool of [`ExclusivePools`]. Dereferences to redis-rs's.
pub(crate) struct Connection {
    // Dropped in this order: the connection closes before it stops to count.
    connection: MultiplexedConnection,
    state: Arc<State>,
    usage: Usage,
    /// Lock of the caller's transaction, during which redis-rs must not send `AUTH`.
    transaction: Option<AuthLock>,
    /// Time since its last use when a caller got it. deadpool's own counts from then.
    idle_for: Duration,
    _open: Arc<Open>,
}

impl Connection {
    pub(super) fn idle_for(&self) -> Duration {
        self.idle_for
    }

    /// Records commands before they are sent. `MULTI` waits for the result of an `AUTH`.
    async fn begin(&mut self, commands: &[&Cmd]) {
        let begins = commands.iter().any(|cmd| begins_transaction(cmd));
        if begins && self.transaction.is_none() {
            self.transaction = self.state.transaction().await;
        }
        commands.iter().for_each(|cmd| self.usage.note_sent(cmd));
    }

    /// Records the result of commands.
    fn end<T>(&mut self, commands: &[&Cmd], result: RedisResult<T>) -> RedisResult<T> {
        for cmd in commands {
            self.usage.note_result(cmd, result.is_ok());
        }
        if !self.usage.in_transaction() {
            self.transaction = None;
        }
        result.inspect_err(|error| self.state.note_error(error, Multiplexed::RECONNECTS))
    }
}

impl Deref for Connection {
    type Target = MultiplexedConnection;

    fn deref(&self) -> &MultiplexedConnection {
        &self.connection
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut MultiplexedConnection {
        &mut self.connection
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("usable", &self.state.is_usable())
            .finish_non_exhaustive()
    }
}

/// Connection of one caller, which is returned to the pool when dropped.
///
/// It is closed instead of reused after a command that changes its state for the next caller.
/// Examples: `MULTI` without `EXEC`, `SELECT`, `SUBSCRIBE`, `AUTH`, `RESET`, `CLIENT TRACKING`.
/// The same applies after a command whose future was dropped before the response.
/// Commands on the dereferenced connection of redis-rs are not observed.
#[derive(Debug)]
pub struct ExclusiveConnection(pub(super) Object<Connections>);

impl Deref for ExclusiveConnection {
    type Target = MultiplexedConnection;

    fn deref(&self) -> &MultiplexedConnection {
        &self.0.connection
    }
}

impl DerefMut for ExclusiveConnection {
    fn deref_mut(&mut self) -> &mut MultiplexedConnection {
        &mut self.0.connection
    }
}

impl ConnectionLike for ExclusiveConnection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> redis::RedisFuture<'a, redis::Value> {
        Box::pin(async move {
            let connection = &mut *self.0;
            connection.begin(&[cmd]).await;
            let result = connection.req_packed_command(cmd).await;
            connection.end(&[cmd], result)
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a redis::Pipeline,
        offset: usize,
        count: usize,
    ) -> redis::RedisFuture<'a, Vec<redis::Value>> {
        Box::pin(async move {
            let commands: Vec<_> = pipeline.cmd_iter().collect();
            let connection = &mut *self.0;
            connection.begin(&commands).await;
            let result = connection
                .req_packed_commands(pipeline, offset, count)
                .await;
            connection.end(&commands, result)
        })
    }

    fn get_db(&self) -> i64 {
        self.0.connection.get_db()
    }
}

/// Opens the connections of one pool, with permits.
pub(super) struct Connections {
    pub(super) logins: Logins,
    pub(super) permits: LoginPermits,
    pub(super) verified: Verified,
    pub(super) states: Arc<Mutex<Vec<Weak<State>>>>,
    /// Number of connections that are open or log in.
    pub(super) open: watch::Sender<u32>,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").finish_non_exhaustive()
    }
}

impl Manager for Connections {
    type Type = Connection;
    type Error = Error;

    async fn create(&self) -> Result<Connection, Error> {
        let (logins, verified) = (self.logins.clone(), self.verified.clone());
        let (states, count) = (Arc::clone(&self.states), self.open.clone());
        let log_in = || {
            let open = Open::new(count);
            async move {
                let credentials = verified.current().credentials;
                let state = Arc::<State>::default();
                let connection = Multiplexed::connect(logins, verified, Arc::clone(&state)).await;
                let connection =
                    connection.map_err(|error| Error::Connect(login_error(error, &credentials)))?;
                let mut states = states.lock();
                states.retain(|state| state.strong_count() > 0);
                states.push(Arc::downgrade(&state));
                drop(states);
                Ok(Connection {
                    connection,
                    state,
                    usage: Usage::default(),
                    transaction: None,
                    idle_for: Duration::ZERO,
                    _open: open,
                })
            }
        };
        match self.permits.log_in(log_in).await {
            Ok(connection) => Ok(connection),
            Err(LoginError::Failed(error)) => Err(error),
            // The pool was replaced or removed. Callers of the handle no longer use it.
            Err(_) => pending().await,
        }
    }

    async fn recycle(
        &self,
        connection: &mut Connection,
        metrics: &Metrics,
    ) -> RecycleResult<Error> {
        connection.idle_for = metrics.last_used();
        if !connection.state.is_usable() {
            return Err(RecycleError::message("the connection has ended"));
        }
        if connection.state.is_suspect() {
            return Err(RecycleError::message("a command had no response in time"));
        }
        if connection.usage.changed_state() {
            return Err(RecycleError::message("commands changed its state"));
        }
        // Not awaited, because a call that shares connections polls once. The server runs it before
        // the next command.
        let mut unwatch = redis::cmd("UNWATCH");
        unwatch.set_no_response(true);
        let unwatched: RedisResult<()> = unwatch.exec_async(&mut connection.connection).await;
        unwatched.map_err(|error| {
            let error = classify(&error).with_source(error);
            RecycleError::Backend(Error::Connect(error))
        })
    }
}
