//! needs: postgresql
//!
//! What operators do: they hold a provider.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "operations/hold.rs"]
mod hold;
