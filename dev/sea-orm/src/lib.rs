//! sea-orm 2 on pools of Claviger's.
//!
//! With [`HandoverPolicy::AlwaysInPlace`](claviger::pool::HandoverPolicy::AlwaysInPlace), sea-orm
//! takes `handle.current()` once, at start. [`Following`] is for pools that are replaced.
//!
//! Either way sea-orm opens connections by the pool itself, not by the handle: between a change of
//! the password on the server and the handover, it may return a rejected login (`DbErr::Conn`).

use claviger::{Handle, PgPools};
use sea_orm::{
    ConnAcquireErr, ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, ExecResult,
    QueryResult, SqlxPostgresConnector, Statement, TransactionTrait,
};

/// How many generations may end before a call has a connection.
const GENERATIONS: usize = 3;

/// Runs a call on the current generation, and on the next where that one's pool was closed before
/// there was a connection: nothing was sent.
macro_rules! on_current {
    ($following:expr, |$current:ident| $call:expr) => {{
        let mut ended = 0;
        loop {
            let $current = SqlxPostgresConnector::from_sqlx_postgres_pool($following.0.current());
            match $call.await {
                Err(DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed))
                    if ended < GENERATIONS && !$following.0.is_closed() =>
                {
                    ended += 1;
                }
                done => break done,
            }
        }
    }};
}

/// A connection of sea-orm's that follows the handovers of a pool.
///
/// Each call takes the current generation. One that ends before the call has a connection of it is
/// tried again with the next; a statement that may have been sent is never repeated. It has less
/// than a handle: no shared deadline, no connections shared while the database rejects logins.
#[derive(Clone, Debug)]
pub struct Following(Handle<PgPools>);

impl Following {
    /// Follows this pool.
    pub fn new(handle: Handle<PgPools>) -> Self {
        Self(handle)
    }

    /// Begins a transaction on the current generation.
    ///
    /// # Errors
    /// Those of sea-orm.
    pub async fn begin(&self) -> Result<DatabaseTransaction, DbErr> {
        on_current!(self, |current| current.begin())
    }
}

#[async_trait::async_trait]
impl ConnectionTrait for Following {
    fn get_database_backend(&self) -> DbBackend {
        DbBackend::Postgres
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        on_current!(self, |current| current.execute_raw(statement.clone()))
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        on_current!(self, |current| current.execute_unprepared(sql))
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        on_current!(self, |current| current.query_one_raw(statement.clone()))
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        on_current!(self, |current| current.query_all_raw(statement.clone()))
    }
}
