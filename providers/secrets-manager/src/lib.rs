#![doc = include_str!("../README.md")]

mod api;
mod fallback;
mod format;
mod provider;
mod schedule;
mod secret_id;

pub use provider::SecretsManager;
