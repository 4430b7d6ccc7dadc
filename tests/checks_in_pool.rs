//! needs: postgresql
//!
//! A pool that itself checks the connections that it hands out.

#[path = "laws/checks_in_pool.rs"]
mod on_postgresql;

use claviger::{Handle, PgPools as Pools};
use claviger_fixtures::{self as fixtures, Fixture};
