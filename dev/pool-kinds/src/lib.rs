//! Sketch of a pool beside sqlx's: [`Bb8Pools`] has a queue of its own, with connections that tasks
//! of the pool open. TLS, options and hooks are left out.

mod bb8_pools;
mod call_error;
mod postgres;

pub use bb8_pools::{Bb8Pools, Connections, PooledClient};
pub use call_error::CallError;
