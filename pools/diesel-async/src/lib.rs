#![doc = include_str!("../README.md")]

mod connection;
mod connections;
mod errors;

use claviger_tokio_postgres::deadpool::{ManagedPool, ManagedPools};

pub use claviger_tokio_postgres::{CallError, HookFuture, PgConnect, tokio_postgres};
pub use connection::PgConnection;
pub use connections::PgConnectionKind;
pub use deadpool;
pub use diesel;
pub use diesel_async;

/// Makes pools of diesel-async over deadpool from [`Credentials`](claviger::Credentials).
///
/// ```
/// use std::time::Duration;
///
/// use claviger_diesel_async::deadpool::managed::PoolConfig;
/// use claviger_diesel_async::tokio_postgres::Config;
/// use claviger_diesel_async::{DieselPools, PgConnect};
///
/// let mut config = Config::new();
/// config.host("db.internal").dbname("orders");
/// let pools = DieselPools::new(PgConnect::new(config), PoolConfig::new(10))
///     .with_max_lifetime(Duration::from_secs(14 * 60))
///     .with_overlap(2);
/// # drop(pools);
/// ```
pub type DieselPools = ManagedPools<PgConnectionKind>;

/// A pool of diesel-async, as [`Handle::current`](claviger::Handle::current) returns it.
pub type DieselPool = ManagedPool<PgConnectionKind>;
