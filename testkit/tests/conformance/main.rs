//! needs: quiet
//!
//! The conformance kit passes correct pools and providers, and finds each defect of an incorrect
//! one. The tests mostly wait, so they run beside one another.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod defect;
mod memory_backend;
mod memory_pool;
mod memory_pools;
mod memory_server;
mod of_pools;
mod of_providers;
