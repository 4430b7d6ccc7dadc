#![doc = include_str!("../README.md")]

mod builder;
mod cache;
mod provider;

pub use builder::ElastiCacheIamBuilder;
pub use cache::CacheKind;
pub use provider::ElastiCacheIam;
