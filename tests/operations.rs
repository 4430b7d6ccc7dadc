//! needs: postgresql
//!
//! What operators do: they hold a provider, return a pool to its previous lease, and rehearse a
//! rotation.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "operations/hold.rs"]
mod hold;
#[path = "operations/rehearse.rs"]
mod rehearse;
#[path = "operations/rehearse_limits.rs"]
mod rehearse_limits;
#[path = "operations/roll_back.rs"]
mod roll_back;
