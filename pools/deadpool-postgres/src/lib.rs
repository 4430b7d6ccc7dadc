#![doc = include_str!("../README.md")]

mod clients;

use claviger_tokio_postgres::deadpool::{ManagedPool, ManagedPools};

pub use claviger_tokio_postgres::{CallError, HookFuture, PgConnect};
pub use clients::ClientKind;
pub use deadpool_postgres;
pub use tokio_postgres;

/// Makes pools of deadpool-postgres from [`Credentials`](claviger::Credentials).
///
/// ```
/// use std::time::Duration;
///
/// use claviger_deadpool_postgres::deadpool_postgres::PoolConfig;
/// use claviger_deadpool_postgres::tokio_postgres::Config;
/// use claviger_deadpool_postgres::{DeadpoolPools, PgConnect};
///
/// let mut config = Config::new();
/// config.host("db.internal").dbname("orders");
/// let pools = DeadpoolPools::new(PgConnect::new(config), PoolConfig::new(10))
///     .with_max_lifetime(Duration::from_secs(14 * 60))
///     .with_overlap(2);
/// # drop(pools);
/// ```
pub type DeadpoolPools = ManagedPools<ClientKind>;

/// A pool of deadpool-postgres, as [`Handle::current`](claviger::Handle::current) returns it.
pub type DeadpoolPool = ManagedPool<ClientKind>;
