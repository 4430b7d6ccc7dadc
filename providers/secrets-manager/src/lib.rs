#![doc = include_str!("../README.md")]

mod api;
mod builder;
mod fallback;
mod format;
mod provider;
mod schedule;
mod secret_id;

pub use builder::SecretsManagerBuilder;
pub use provider::SecretsManager;
