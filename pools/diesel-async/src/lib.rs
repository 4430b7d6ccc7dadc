#![doc = include_str!("../README.md")]

mod connection;
mod errors;
mod factory;
mod pool;
mod pools;

pub use claviger_tokio_postgres::{CallError, HookFuture, PgConnect, tokio_postgres};
pub use connection::PgConnection;
pub use deadpool;
pub use diesel;
pub use diesel_async;
pub use pool::DieselPool;
pub use pools::DieselPools;
