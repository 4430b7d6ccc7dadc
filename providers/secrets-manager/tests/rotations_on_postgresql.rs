//! needs: postgresql, moto, quiet
//!
//! AWS's four rotation steps on a real database under load. The defaults are 20 rotations a case
//! and 500 ms between setSecret and finishSecret. `CLAVIGER_ROTATIONS` and `CLAVIGER_WINDOW_MS` set
//! other numbers.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod rotations;

use claviger_servers::Postgres as Server;
