//! needs: postgresql
//!
//! What operators do: they hold a provider, and return a pool to its previous lease.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "operations/hold.rs"]
mod hold;
#[path = "operations/roll_back.rs"]
mod roll_back;
