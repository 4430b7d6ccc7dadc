//! `&Handle` as sqlx's `Executor` and `Acquire`.

use std::sync::Arc;

use super::sqlx::pool::{MaybePoolConnection, PoolConnection};
use super::sqlx::{self, Either, Error, Execute, Executor, Transaction};
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use futures_util::TryStreamExt;
use tokio::runtime::{Builder, Handle as Runtime};
use tokio::time::timeout;

use super::dialect::Dialect;
use super::pools::SqlPools;
use super::shim;
use crate::error::ConnectErrorKind;
use crate::handle::Handle;
use crate::lease::OldConnections;
use crate::pool::{Acquired, CallState, ConnectionGuard, RETURN_TIMEOUT, Shared, acquire};

/// Reports what the error of a statement shows: a broken connection, a role that may have been
/// dropped, or an expired password.
fn observe<DB: Dialect>(
    shared: &Shared<SqlPools<DB>>,
    generation: u64,
    old_connections: OldConnections,
    error: &Error,
) {
    let Some(control_plane) = shared.control_plane() else {
        return;
    };
    let classified = control_plane.classify(error);
    if classified.kind() == ConnectErrorKind::Unreachable || matches!(error, Error::Protocol(_)) {
        // Other connections of the pool may be broken, too.
        shared.checks.found_broken(shared.clock.mono());
    }
    let Some(code) = classified.code() else {
        return;
    };
    // 57P01: the server ended the connection, and the role may have been dropped.
    if old_connections == OldConnections::EndWithLease
        && matches!(code, "42501" | "42704" | "57P01")
    {
        control_plane.note_unverified(generation);
    }
    // In a statement, class 28 is from another server, behind a foreign table.
    if classified.kind() == ConnectErrorKind::Rejected && !code.starts_with("28") {
        control_plane.rejected(generation, classified);
    }
}

impl<DB: Dialect> Handle<SqlPools<DB>>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    /// Returns a connection of the current generation.
    ///
    /// # Connections that leave the pool
    /// A lease is released once its pool has no connection left. A connection that is taken out of
    /// the pool changes that:
    ///
    /// - [`detach`](PoolConnection::detach): the connection no longer counts. The lease may be
    ///   released while it is open. Where its connections end with the lease (a dynamic user of
    ///   Vault), statements on it then fail, and no probe or drain covers it.
    /// - [`leak`](PoolConnection::leak): the connection counts forever, even after it was closed.
    ///   The drain of its generation never ends, and is reported as abandoned at the drain
    ///   deadline. The lease is kept until the pool is shut down with the supervisor, or until it
    ///   expires.
    ///
    /// Return a connection by dropping it, or close it with [`close`](PoolConnection::close).
    ///
    /// # Errors
    /// Those of [`sqlx::Pool::acquire`]. `PoolClosed` only after the pool was removed or shut down.
    /// The rejection ([`SharedError`](super::shared_error::SharedError), with the original
    /// SQLSTATE), if the database rejects the credential and no connection is available within the
    /// pool's `acquire_timeout`.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn acquire(&self) -> Result<PoolConnection<DB>, Error> {
        self.get().await
    }

    /// Begins a transaction on a connection of the current generation. It keeps the connection
    /// through a handover, until the drain deadline and beyond.
    ///
    /// # Errors
    /// Those of [`acquire`](Self::acquire), and of `BEGIN`.
    ///
    /// # Cancel safety
    /// If the future is dropped after `BEGIN` was sent, a task waits for the response and rolls
    /// back. After ten seconds it closes the connection instead. sqlx's own `begin` leaves the
    /// connection in a transaction.
    pub async fn begin(&self) -> Result<Transaction<'static, DB>, Error> {
        self.begin_by(None).await
    }

    begin_with! {
        /// Begins a transaction with a statement of your own, such as `BEGIN ISOLATION LEVEL
        /// SERIALIZABLE`.
        ///
        /// # Errors
        /// Those of [`begin`](Self::begin). [`Error::BeginFailed`] if no transaction is open after
        /// the statement.
        ///
        /// # Cancel safety
        /// That of [`begin`](Self::begin).
    }

    async fn begin_by(
        &self,
        statement: Option<shim::BeginStatement>,
    ) -> Result<Transaction<'static, DB>, Error> {
        let Acquired {
            connection,
            generation,
            old_connections,
        } = acquire(self.shared()).await?;
        let connection = MaybePoolConnection::PoolConnection(connection);
        Begin(Some(Box::pin(Transaction::begin(connection, statement))))
            .completed()
            .await
            .inspect_err(|error| observe(self.shared(), generation, old_connections, error))
    }

    /// Returns an idle connection, without waiting; `None` when there is none.
    pub fn try_acquire(&self) -> Option<PoolConnection<DB>> {
        self.try_get()
    }
}

/// A statement on a connection of the current generation.
struct Statement<'s, DB: Dialect> {
    guard: ConnectionGuard<'s, SqlPools<DB>>,
    shared: &'s Shared<SqlPools<DB>>,
    generation: u64,
    old_connections: OldConnections,
}

impl<'s, DB: Dialect> Statement<'s, DB> {
    async fn start(shared: &'s Arc<Shared<SqlPools<DB>>>) -> Result<Self, Error> {
        let acquired = acquire(shared).await?;
        Ok(Self {
            guard: ConnectionGuard::new(shared, acquired.connection),
            shared,
            generation: acquired.generation,
            old_connections: acquired.old_connections,
        })
    }

    fn connection(&mut self) -> Result<&mut DB::Connection, Error> {
        let parts = self.guard.parts().ok_or(Error::PoolClosed)?;
        Ok(&mut *parts.0)
    }

    fn end<T>(self, result: Result<T, Error>) -> Result<T, Error> {
        self.guard.end();
        result.inspect_err(|error| {
            observe(self.shared, self.generation, self.old_connections, error);
        })
    }
}

/// Calls a method of `Executor` on a connection of the current generation.
macro_rules! on_connection {
    ($handle:expr, $method:ident($($argument:expr),*)) => {{
        let shared = Arc::clone($handle.shared());
        Box::pin(async move {
            let mut statement = Statement::start(&shared).await?;
            let result = statement.connection()?.$method($($argument),*).await;
            statement.end(result)
        })
    }};
}

/// A `BEGIN`. If its caller drops it, a task completes it and rolls back, or closes the connection
/// after a timeout. sqlx itself rolls back only transactions whose `BEGIN` has returned. A call
/// that completes costs one allocation.
struct Begin<DB: Dialect>(Option<BoxFuture<'static, Result<Transaction<'static, DB>, Error>>>);

impl<DB: Dialect> Begin<DB> {
    async fn completed(mut self) -> Result<Transaction<'static, DB>, Error> {
        let Some(begin) = &mut self.0 else {
            return Err(Error::BeginFailed);
        };
        let result = begin.await;
        self.0 = None;
        result
    }
}

impl<DB: Dialect> Drop for Begin<DB> {
    fn drop(&mut self) {
        let Some(begin) = self.0.take() else {
            return;
        };
        // sqlx would panic outside of a runtime.
        let Ok(runtime) = Runtime::try_current() else {
            return close(begin);
        };
        runtime.spawn(async move {
            // An error of either closes or returns the connection.
            let mut ending = Box::pin(async move { begin.await?.rollback().await });
            if timeout(RETURN_TIMEOUT, &mut ending).await.is_err() {
                close(ending);
            }
        });
    }
}

/// Drops a pending call, and closes its connection, which may be in a transaction. By itself, sqlx
/// would spawn a task that returns it to the pool. A runtime that was shut down drops this task at
/// once, and the connection with it.
fn close<T>(pending: T) {
    let Ok(runtime) = Builder::new_current_thread().build() else {
        // Its place is lost, but no caller gets the transaction.
        return std::mem::forget(pending);
    };
    let ended = runtime.handle().clone();
    runtime.shutdown_background();
    let _entered = ended.enter();
    drop(pending);
}

impl<'h, DB: Dialect> sqlx::Acquire<'h> for &'_ Handle<SqlPools<DB>>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    type Database = DB;
    type Connection = PoolConnection<DB>;

    fn acquire(self) -> BoxFuture<'h, Result<PoolConnection<DB>, Error>> {
        let handle = self.clone();
        Box::pin(async move { handle.get().await })
    }

    fn begin(self) -> BoxFuture<'h, Result<Transaction<'h, DB>, Error>> {
        let handle = self.clone();
        Box::pin(async move { Handle::<SqlPools<DB>>::begin(&handle).await })
    }
}

impl<'h, DB: Dialect> Executor<'h> for &'_ Handle<SqlPools<DB>>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    type Database = DB;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<DB::QueryResult, DB::Row>, Error>>
    where
        'h: 'e,
        E: 'q + Execute<'q, DB>,
    {
        let shared = Arc::clone(self.shared());
        Box::pin(async_stream::try_stream! {
            let mut statement = Statement::start(&shared).await?;
            let (connection, used) = statement.guard.parts().ok_or(Error::PoolClosed)?;
            let mut rows = connection.fetch_many(query);
            let result = loop {
                *used = CallState::Running;
                let row = rows.try_next().await;
                *used = CallState::Paused;
                match row {
                    Ok(Some(row)) => yield row,
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                }
            };
            drop(rows);
            statement.end(result)?;
        })
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<DB::Row>, Error>>
    where
        'h: 'e,
        E: 'q + Execute<'q, DB>,
    {
        on_connection!(self, fetch_optional(query))
    }

    prepare_and_describe!();
}
