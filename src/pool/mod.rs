//! The pool side: how a lease is verified, handed over and drained, and what callers get meanwhile.

mod acquire;
mod attempt;
mod call;
mod connect;
mod drain;
mod driver;
mod explain;
mod factory;
mod gate;
mod generation;
mod handover;
mod machine;
mod openings;
mod probe;
mod queue;
mod slot;
mod state;
mod status;
mod task;

#[cfg(feature = "sql")]
pub(crate) use acquire::Acquired;
pub(crate) use acquire::acquire;
pub(crate) use call::are_expired;
#[cfg(feature = "sql")]
pub(crate) use connect::{RETURN_TIMEOUT, WITHOUT_CALLER, give_back};
#[cfg(feature = "sql")]
pub(crate) use generation::Generation;
pub(crate) use generation::{Keeper, Phase, Shared};
pub(crate) use slot::PoolSlot;

pub use factory::{AcquireError, Check, HandoverPolicy, PoolFactory, PoolSettings};
