#![doc = include_str!("../README.md")]

mod factory;
mod manager;
mod managers;
mod pool;
mod pools;
mod postgres;
mod waiting;

pub use bb8;
pub use claviger_tokio_postgres::{CallError, HookFuture, OpenConnection, PgConnect};
pub use manager::{Managed, PermittedManager};
pub use managers::{ConnectResult, ManagerFactory};
pub use pool::{Bb8Connection, Bb8Pool};
pub use pools::Bb8Pools;
pub use postgres::{PgManager, PgManagers};
pub use tokio_postgres;
