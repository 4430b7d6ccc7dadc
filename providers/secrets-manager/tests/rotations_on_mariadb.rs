//! needs: mariadb, moto
//!
//! The same on MariaDB.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "rotations/all.rs"]
mod all;

use claviger_servers::MariaDb as Server;
