//! sea-orm 2 on Claviger's pools.
//!
//! With [`HandoverPolicy::AlwaysInPlace`](claviger::pool::HandoverPolicy::AlwaysInPlace), sea-orm
//! needs `handle.current()` only once, at start. [`Following`] is for pools that are replaced. Set
//! [`with_checks_in_pool`](claviger::sqlx_09::SqlPools::with_checks_in_pool) for both. Otherwise
//! calls may get connections that the server has ended.
//!
//! Either way sea-orm opens connections through the pool, not through the handle. Between the
//! change of the password on the server and the handover, a login may be rejected
//! (`DbErr::Conn`).

use claviger::{Handle, PgPools};
use sea_orm::{
    ConnAcquireErr, ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, ExecResult,
    QueryResult, SqlxPostgresConnector, Statement, TransactionTrait,
};

/// How often a call is repeated at most.
const RETRIES: usize = 3;

/// Runs a call on the current generation. If its pool is closed before the call has a connection,
/// nothing was sent, and the call runs on the next generation.
macro_rules! on_current {
    ($following:expr, |$current:ident| $call:expr) => {{
        let mut retries = 0;
        loop {
            let $current = SqlxPostgresConnector::from_sqlx_postgres_pool($following.0.current());
            match $call.await {
                Err(DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed))
                    if retries < RETRIES && !$following.0.is_closed() =>
                {
                    retries += 1;
                }
                result => break result,
            }
        }
    }};
}

/// A sea-orm connection that follows the handovers of a pool.
///
/// Each call uses the current generation, and is repeated on the next one if the pool was closed
/// before the call had a connection. A statement that may have been sent is never repeated.
///
/// A handle offers more: one deadline for all attempts, and connections that callers share while
/// the database rejects logins.
#[derive(Clone, Debug)]
pub struct Following(Handle<PgPools>);

impl Following {
    /// Creates a connection that follows this pool.
    pub fn new(handle: Handle<PgPools>) -> Self {
        Self(handle)
    }

    /// Begins a transaction on the current generation.
    ///
    /// # Errors
    /// sea-orm's errors.
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
