#![doc = include_str!("../README.md")]

mod factory;
mod pool;
mod pools;

pub use claviger_tokio_postgres::{CallError, HookFuture, PgConnect};
pub use deadpool_postgres;
pub use pool::DeadpoolPool;
pub use pools::DeadpoolPools;
pub use tokio_postgres;
