#![doc = include_str!("../README.md")]

pub mod conformance;
mod lab;
mod pool;
mod provider;

pub use claviger::testing::{Failpoints, MovedClock};
pub use lab::Lab;
pub use pool::{ScriptedConnection, ScriptedPool, ScriptedPools};
pub use provider::{Call, FetchLease, ScriptedProvider};
