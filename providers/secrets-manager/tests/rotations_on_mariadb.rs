//! needs: mariadb, moto, quiet
//!
//! The cases of `rotations_on_postgresql`, on MariaDB.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod rotations;

use claviger_servers::MariaDb as Server;
