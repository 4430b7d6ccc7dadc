//! Pools of deadpool, for every kind of connection that it pools.

mod factory;
mod logins;
mod pool;
mod pools;

use std::future::Future;

use claviger::pool::Check;
use deadpool::managed::{Manager, Object, PoolError};

use crate::{CallError, PgConnect};

pub use logins::{PermittedLogin, PermittedLogins};
pub use pool::ManagedPool;
pub use pools::ManagedPools;

/// A kind of connection that deadpool pools.
pub trait ConnectionKind: Send + Sync + 'static {
    /// deadpool's manager of these connections.
    type Manager: Manager + Send + Sync + 'static;
    /// Connection of a caller.
    type Connection: From<Object<Self::Manager>> + Send + 'static;

    /// Creates the manager of a pool, which opens every connection by [`PermittedLogins::log_in`].
    /// It must not check connections before reuse, because deadpool loses one whose check is
    /// cancelled. The handle checks them.
    fn manager(logins: PermittedLogins) -> Self::Manager;

    /// Returns the error of a call on deadpool.
    fn call_error(error: PoolError<<Self::Manager as Manager>::Error>) -> CallError;

    /// Verifies that an open connection works, by
    /// [`PgConnect::check_sql`](crate::PgConnect::check_sql).
    ///
    /// # Errors
    /// The error of the connection.
    ///
    /// # Cancel safety
    /// May be dropped.
    fn check(
        connect: &PgConnect,
        connection: &mut Self::Connection,
        check: Check,
    ) -> impl Future<Output = Result<(), CallError>> + Send;

    /// Closes a connection instead of returning it, and frees its place.
    fn discard(connection: Self::Connection);
}
