#![doc = include_str!("../README.md")]

mod ladder;
mod look;
mod provider;
mod secret_id;
mod shape;
mod store;

pub use provider::SecretsManager;
