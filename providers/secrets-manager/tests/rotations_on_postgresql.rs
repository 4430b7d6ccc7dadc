//! needs: postgresql, moto
//!
//! AWS's four rotation steps on a live database under load. `CLAVIGER_ROTATIONS` and
//! `CLAVIGER_WINDOW_MS` take other numbers than 20 rotations a case and 500 ms between setSecret
//! and finishSecret.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "rotations/all.rs"]
mod all;

use claviger_servers::Postgres as Server;
