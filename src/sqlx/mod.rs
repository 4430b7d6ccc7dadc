//! Everything that names a type of sqlx's: its version is part of our API here and nowhere else.

mod check;
mod classify;
mod dialect;
mod executor;
mod forms;
mod hooks;
#[cfg(feature = "mysql")]
mod mysql;
mod pools;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "postgres")]
mod saslprep;
mod shared_error;
mod verifier;

#[cfg(feature = "mysql")]
pub use mysql::MySqlPools;
pub use pools::SqlPools;
#[cfg(feature = "postgres")]
pub use postgres::PgPools;
pub use shared_error::SharedError;

use std::sync::Arc;

use sqlx::Pool;

use crate::clock::Clock;
use crate::expiry::Expiry;
use crate::handle::Handle;
use crate::lease::OldConnections;
use crate::pool::{Generation, PoolFactory, Shared};
use crate::telemetry::Meters;
use dialect::Dialect;

impl<DB: Dialect> Handle<SqlPools<DB>> {
    /// A handle to a pool that nobody supervises, for `#[sqlx::test]` and local runs: development
    /// and production differ by one line.
    pub fn fixed(pool: Pool<DB>) -> Self {
        let connect = (*pool.connect_options()).clone();
        let factory = Arc::new(SqlPools::new(connect, pool.options().clone()));
        let settings = factory.settings();
        let max = settings.max_connections;
        let first = Generation::serving(1, pool, Expiry::never(), OldConnections::Keep, max);
        Self::supervised(Shared::new(
            Arc::from("fixed"),
            factory,
            settings,
            Clock::default(),
            Meters::default(),
            first,
        ))
    }
}
