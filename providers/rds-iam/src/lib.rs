#![doc = include_str!("../README.md")]

mod builder;
mod host;
mod identity;
mod lifetime;
mod provider;
mod region;
mod signer;
mod token;
mod user;

pub use builder::RdsIamBuilder;
pub use provider::RdsIam;
