//! needs: postgresql, openbao
//!
//! Users of the database engine while something goes wrong: what callers notice, what is asked of
//! the server, and what is left on it.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod answers;
mod by_hand;
mod lives;
mod outages;
mod releases;
mod requests;
mod service;
mod zombies;
