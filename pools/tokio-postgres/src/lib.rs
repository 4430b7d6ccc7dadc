#![cfg_attr(docsrs, feature(doc_cfg))]
#![doc = include_str!("../README.md")]

mod call_error;
mod classify;
mod connect;
#[cfg(feature = "deadpool")]
pub mod deadpool;
mod open_connections;
mod servers;
mod settings;
mod tls;

pub use call_error::CallError;
pub use classify::{classify, classify_probe, find_postgres_error, login_error};
pub use connect::{HookFuture, PROBE_SQL, PgConnect};
pub use open_connections::{OpenConnection, OpenConnections};
pub use rustls;
pub use settings::{Lifetimes, QueuedPoolSettings};
pub use tls::platform_roots;
pub use tokio_postgres;
