#![doc = include_str!("../README.md")]

mod address;
mod classify;
mod connection;
mod credentials;
mod error;
mod factory;
mod kind;
mod pool;
mod pools;

pub use connection::RedisConnection;
pub use error::Error;
pub use kind::{Kind, Multiplexed};
pub use pool::RedisPool;
pub use pools::RedisPools;
/// The driver, in the version of this crate's public items.
pub use redis;
