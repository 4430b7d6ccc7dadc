//! Test fixtures for providers of tokens that AWS credentials sign.

#![expect(clippy::expect_used, reason = "a failing fixture fails the test")]

mod chain;
mod conformance;
mod leases;
mod python;
mod secrets;
mod slow_chain;
mod sts;

pub use chain::{Chain, FixedTime, config_signed_by, key, session, wall_time};
pub use conformance::assert_conforms;
pub use leases::{fetch_again, first_lease, parameter, signed_at, token};
pub use python::Python;
pub use secrets::Secrets;
pub use slow_chain::SlowChain;
pub use sts::{RecordingChain, assume_role, start_moto};
