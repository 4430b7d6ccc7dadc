//! needs: postgresql
//!
//! A pool that checks the connections that it hands out itself.

#[path = "laws/checks_in_pool.rs"]
mod on_postgresql;

use claviger::{Handle, PgPools as Pools};
use claviger_fixtures::{self as fixtures, Fixture};
