//! Sketches of pools beside sqlx's. They show that one trait fits each kind of pool:
//!
//! - [`Bb8Pools`]: a queue of its own, with connections that tasks of the pool open;
//! - [`RedisPools`]: one multiplexed connection, without a queue.
//!
//! Each logs in with [`LoginPermits`](claviger::pool::LoginPermits). TLS, options and hooks are
//! left out.

mod bb8_pools;
mod call_error;
mod postgres;
mod redis_pools;

pub use bb8_pools::{Bb8Pools, Connections, PooledClient};
pub use call_error::CallError;
pub use redis_pools::{RedisPool, RedisPools};
