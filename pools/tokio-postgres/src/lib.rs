#![doc = include_str!("../README.md")]

mod call_error;
mod classify;
mod connect;
mod open_connections;
mod servers;
mod tls;

pub use call_error::CallError;
pub use classify::{classify, classify_probe, find_postgres_error, login_error};
pub use connect::{HookFuture, PgConnect};
pub use open_connections::{OpenConnection, OpenConnections};
pub use rustls;
pub use tokio_postgres;
