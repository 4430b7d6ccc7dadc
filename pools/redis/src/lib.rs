#![cfg_attr(docsrs, feature(doc_cfg))]
#![doc = include_str!("../README.md")]

mod address;
mod classify;
#[cfg(feature = "cluster")]
mod cluster;
mod connection;
mod credentials;
mod error;
#[cfg(feature = "deadpool")]
mod exclusive;
mod factory;
mod kind;
#[cfg(feature = "connection-manager")]
mod manager;
mod pool;
mod pools;
#[cfg(any(feature = "connection-manager", feature = "cluster"))]
mod reconnecting;
#[cfg(feature = "deadpool")]
mod usage;

#[cfg(feature = "cluster")]
pub use cluster::Cluster;
pub use connection::RedisConnection;
pub use error::Error;
#[cfg(feature = "deadpool")]
pub use exclusive::{ExclusiveConnection, ExclusivePool, ExclusivePools};
pub use kind::{Kind, Multiplexed};
#[cfg(feature = "connection-manager")]
pub use manager::Managed;
pub use pool::RedisPool;
pub use pools::RedisPools;
/// The driver, in the version of this crate's public items.
pub use redis;
