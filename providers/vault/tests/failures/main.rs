//! needs: postgresql, openbao
//!
//! Dynamic users during failures: what callers see, what is requested of the server, and what is
//! left on it.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod lifetimes;
mod lingering_connections;
mod manual;
mod outages;
mod releases;
mod requests;
mod responses;
mod service;
