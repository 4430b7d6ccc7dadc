//! `&Handle` where sqlx wants an executor, or something to begin a transaction on.

use std::sync::Arc;

use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use futures_util::TryStreamExt;
use sqlx::pool::{MaybePoolConnection, PoolConnection};
use sqlx::{Database, Describe, Either, Error, Execute, Executor, Transaction};

use super::borrowed::Borrowed;
use super::classify;
use super::dialect::Dialect;
use super::pools::SqlPools;
use crate::error::ConnectErrorKind;
use crate::handle::Handle;
use crate::lease::OldConnections;
use crate::pool::{Acquired, Shared, acquire};

/// A statement failed: would a dropped role explain it, or a password that has expired?
fn observe<DB: Dialect>(
    shared: &Shared<SqlPools<DB>>,
    generation: u64,
    old_connections: OldConnections,
    error: &Error,
) {
    let Some(code) = error.as_database_error().and_then(|error| error.code()) else {
        return;
    };
    let Some(keeper) = shared.keeper() else {
        return;
    };
    if old_connections == OldConnections::EndWithLease
        && (classify::is_suspect(error) || classify::is_ended_by_server(error))
    {
        keeper.suspect(generation);
    }
    // Class 28 within a statement is about another server, which a foreign table leads to.
    if !code.starts_with("28") {
        let connect_error = keeper.classify(error);
        if connect_error.kind() == ConnectErrorKind::Rejected {
            keeper.rejected(generation, connect_error);
        }
    }
}

impl<DB: Dialect> Handle<SqlPools<DB>>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    /// A connection of the generation that is served now.
    ///
    /// # Connections that leave the pool
    /// A lease is released once its pool has no connection left. A connection that is taken out of
    /// the pool changes that:
    ///
    /// - [`detach`](PoolConnection::detach): the connection no longer counts. The lease may be
    ///   released while it is open. Where its connections end with the lease (a dynamic user of
    ///   Vault's), statements on it then fail, and no probe or drain covers it.
    /// - [`leak`](PoolConnection::leak): the connection counts for ever, also when it was closed.
    ///   The drain of its generation never ends, and is reported as abandoned at the drain
    ///   deadline. The lease is kept until the pool is shut down with the supervisor, or until it
    ///   expires.
    ///
    /// Return a connection by dropping it, or close it with [`close`](PoolConnection::close).
    ///
    /// # Errors
    /// Those of [`sqlx::Pool::acquire`]. `PoolClosed` only after the pool was removed or shut down.
    /// When the database rejects the credential and nothing better is to be had before the pool's
    /// `acquire_timeout`, its rejection ([`SharedError`](crate::SharedError), with the original
    /// SQLSTATE).
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn acquire(&self) -> Result<PoolConnection<DB>, Error> {
        acquire(self.shared())
            .await
            .map(|acquired| acquired.connection)
    }

    /// A transaction on the generation that is served now. It keeps its connection through a
    /// handover, until the drain deadline and beyond.
    ///
    /// # Errors
    /// Those of [`acquire`](Self::acquire), and of `BEGIN`.
    pub async fn begin(&self) -> Result<Transaction<'static, DB>, Error> {
        begin(self.shared()).await
    }

    /// An idle connection, without waiting; `None` when there is none.
    pub fn try_acquire(&self) -> Option<PoolConnection<DB>> {
        self.try_get()
    }
}

async fn begin<DB: Dialect>(
    shared: &Arc<Shared<SqlPools<DB>>>,
) -> Result<Transaction<'static, DB>, Error>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    let Acquired {
        connection,
        generation,
        old_connections,
    } = acquire(shared).await?;
    Transaction::begin(MaybePoolConnection::PoolConnection(connection), None)
        .await
        .inspect_err(|error| observe(shared, generation, old_connections, error))
}

impl<'h, DB: Dialect> sqlx::Acquire<'h> for &'_ Handle<SqlPools<DB>>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    type Database = DB;
    type Connection = PoolConnection<DB>;

    fn acquire(self) -> BoxFuture<'h, Result<PoolConnection<DB>, Error>> {
        let shared = Arc::clone(self.shared());
        Box::pin(async move { acquire(&shared).await.map(|acquired| acquired.connection) })
    }

    fn begin(self) -> BoxFuture<'h, Result<Transaction<'h, DB>, Error>> {
        let shared = Arc::clone(self.shared());
        Box::pin(async move { begin(&shared).await })
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
            let Acquired { connection, generation, old_connections } = acquire(&shared).await?;
            let mut borrowed = Borrowed::new(&shared, connection);
            if let Some(connection) = borrowed.connection() {
                let mut rows = connection.fetch_many(query);
                while let Some(row) = rows.try_next().await.inspect_err(|error| observe(&shared, generation, old_connections, error))? {
                    yield row;
                }
            }
            borrowed.done();
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
        let shared = Arc::clone(self.shared());
        Box::pin(async move {
            let Acquired {
                connection,
                generation,
                old_connections,
            } = acquire(&shared).await?;
            let mut borrowed = Borrowed::new(&shared, connection);
            let Some(connection) = borrowed.connection() else {
                return Ok(None);
            };
            let row = connection.fetch_optional(query).await;
            borrowed.done();
            row.inspect_err(|error| observe(&shared, generation, old_connections, error))
        })
    }

    fn prepare_with<'e, 'q: 'e>(
        self,
        sql: &'q str,
        parameters: &'e [DB::TypeInfo],
    ) -> BoxFuture<'e, Result<<DB as Database>::Statement<'q>, Error>>
    where
        'h: 'e,
    {
        let shared = Arc::clone(self.shared());
        Box::pin(async move {
            acquire(&shared)
                .await?
                .connection
                .prepare_with(sql, parameters)
                .await
        })
    }

    fn describe<'e, 'q: 'e>(self, sql: &'q str) -> BoxFuture<'e, Result<Describe<DB>, Error>>
    where
        'h: 'e,
    {
        let shared = Arc::clone(self.shared());
        Box::pin(async move { acquire(&shared).await?.connection.describe(sql).await })
    }
}
