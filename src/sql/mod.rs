//! Everything that names a type of sqlx's: its version is part of our API here and nowhere else.

mod acquire;
mod borrowed;
mod check;
mod classify;
mod dialect;
mod executor;
mod forms;
mod hooks;
mod login;
#[cfg(feature = "mysql")]
mod mysql;
mod pools;
#[cfg(feature = "postgres")]
mod postgres;
mod queue;
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

use sqlx::{Database, Pool};

use crate::clock::Clock;
use crate::expiry::Expiry;
use crate::handle::Handle;
use crate::lease::OldConnections;
use crate::pool::{Generation, PoolSettings, Shared};
use crate::telemetry::Meters;

impl<DB: Database> Handle<Pool<DB>> {
    /// A handle to a pool that nobody supervises, for `#[sqlx::test]` and local runs: development
    /// and production differ by one line.
    pub fn fixed(pool: Pool<DB>) -> Self {
        let options = pool.options();
        let mut terms = PoolSettings::new(options.get_max_connections());
        terms.acquire_timeout = options.get_acquire_timeout();
        let first = Generation::serving(
            1,
            pool,
            Expiry::never(),
            OldConnections::Keep,
            terms.max_connections,
        );
        let connections = Arc::new(|pool: &Pool<DB>| pool.size());
        Self::supervised(Shared::new(
            Arc::from("fixed"),
            terms,
            Clock::default(),
            Meters::default(),
            connections,
            first,
        ))
    }
}
