//! The connection that callers share, and the guard by which each of them uses it.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use redis::aio::ConnectionLike;
use redis::{Cmd, Pipeline, RedisError, RedisFuture, Value};
use tokio::sync::watch;

use crate::classify::is_rejection;
use crate::credentials::Authentications;
use crate::kind::Kind;

/// Observed state of one connection.
#[derive(Default)]
pub struct State {
    broken: AtomicBool,
    suspect: AtomicBool,
    authentications: OnceLock<Authentications>,
    #[cfg(any(feature = "connection-manager", feature = "cluster"))]
    client: OnceLock<Arc<crate::reconnecting::Client>>,
}

impl State {
    pub(crate) fn set_authentications(&self, authentications: Authentications) {
        let _ = self.authentications.set(authentications);
    }

    #[cfg(any(feature = "connection-manager", feature = "cluster"))]
    pub(crate) fn set_client(&self, client: Arc<crate::reconnecting::Client>) {
        let _ = self.client.set(client);
    }

    /// Records that the connection has ended, or that it must not be used any more.
    pub(crate) fn note_broken(&self) {
        self.broken.store(true, Ordering::Release);
    }

    /// Returns whether callers may use the connection.
    pub(crate) fn is_usable(&self) -> bool {
        let have_ended = |authentications: &Authentications| authentications.have_ended();
        !self.broken.load(Ordering::Acquire) && !self.authentications.get().is_some_and(have_ended)
    }

    /// Returns whether the connection may be broken: a command on it had no response in time, or
    /// its logins do not succeed.
    pub(crate) fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Acquire)
    }

    /// Records that the connection may be broken.
    pub(crate) fn note_suspect(&self) {
        self.suspect.store(true, Ordering::Release);
    }

    pub(crate) fn note_response(&self) {
        self.suspect.store(false, Ordering::Release);
    }

    /// Resolves when the connection has authenticated with this version. Returns `false` if it
    /// never will.
    pub(crate) async fn reach(&self, version: u64) -> bool {
        #[cfg(any(feature = "connection-manager", feature = "cluster"))]
        if let Some(client) = self.client.get() {
            client.reach(version).await;
            return self.is_usable();
        }
        match self.authentications.get() {
            Some(authentications) => authentications.reach(version).await,
            None => true,
        }
    }

    /// Locks the connection for a transaction. No `AUTH` is sent until the lock is dropped.
    #[cfg(feature = "deadpool")]
    pub(crate) async fn transaction(&self) -> Option<crate::credentials::AuthLock> {
        Some(self.authentications.get()?.lock().await)
    }

    /// Records what an error of a command shows about the connection.
    pub(crate) fn note_error(&self, error: &RedisError, reconnects: bool) {
        if is_rejection(error) || (error.is_unrecoverable_error() && !reconnects) {
            self.note_broken();
        } else if error.is_timeout() {
            self.note_suspect();
        }
    }
}

/// Counts a connection as open until the last clone is dropped.
pub(crate) struct Open(watch::Sender<u32>);

impl Open {
    pub(crate) fn new(count: watch::Sender<u32>) -> Arc<Self> {
        count.send_modify(|count| *count += 1);
        Arc::new(Self(count))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

/// One caller's use of the shared connection, from [`Handle::get`](claviger::Handle::get).
///
/// Dereferences to redis-rs's connection, and can be used like it: `connection.get("key")`,
/// `cmd.query_async(&mut connection)`. Commands of several guards run at the same time. Get one for
/// each unit of work, as from a pool, rather than one for the lifetime of the service. A connection
/// to a previous endpoint closes, and its lease is released, when the last guard is dropped. Clones
/// of redis-rs's connection do not count.
pub struct RedisConnection<K: Kind = crate::Multiplexed> {
    // Dropped in this order: the connection closes before it stops to count.
    pub(crate) connection: K::Connection,
    pub(crate) state: Arc<State>,
    pub(crate) open: Arc<Open>,
}

impl<K: Kind> Clone for RedisConnection<K> {
    /// Returns another user of the same connection.
    fn clone(&self) -> Self {
        Self {
            connection: self.connection.clone(),
            state: Arc::clone(&self.state),
            open: Arc::clone(&self.open),
        }
    }
}

impl<K: Kind> Deref for RedisConnection<K> {
    type Target = K::Connection;

    fn deref(&self) -> &K::Connection {
        &self.connection
    }
}

impl<K: Kind> DerefMut for RedisConnection<K> {
    fn deref_mut(&mut self) -> &mut K::Connection {
        &mut self.connection
    }
}

impl<K: Kind> ConnectionLike for RedisConnection<K> {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            let result = self.connection.req_packed_command(cmd).await;
            result.inspect_err(|error| self.state.note_error(error, K::RECONNECTS))
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            let result = self
                .connection
                .req_packed_commands(pipeline, offset, count)
                .await;
            result.inspect_err(|error| self.state.note_error(error, K::RECONNECTS))
        })
    }

    fn get_db(&self) -> i64 {
        self.connection.get_db()
    }
}

impl<K: Kind> fmt::Debug for RedisConnection<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConnection")
            .field("kind", &K::NAME)
            .field("usable", &self.state.is_usable())
            .finish_non_exhaustive()
    }
}
