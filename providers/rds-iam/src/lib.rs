#![doc = include_str!("../README.md")]

mod builder;
mod host;
mod provider;
mod region;

pub use builder::RdsIamBuilder;
pub use provider::RdsIam;
pub use region::region_of_endpoint;
