//! sqlx's pools, compiled once by `sqlx_08` and once by `sqlx_09`. The module above defines `sqlx`
//! and `shim`; the latter has the differences between the two versions.

mod classify;
mod dialect;
mod executor;
mod hooks;
#[cfg(feature = "mysql")]
mod mysql;
mod pools;
#[cfg(feature = "postgres")]
mod postgres;
mod shared_error;

#[cfg(feature = "mysql")]
pub use mysql::MySqlPools;
pub use pools::SqlPools;
#[cfg(feature = "postgres")]
pub use postgres::PgPools;
pub use shared_error::SharedError;

use super::shim;
use super::sqlx;
