//! needs: postgresql
//!
//! A pool that checks only connections that were idle for long.

#[path = "laws/checks_after_idle.rs"]
mod on_postgresql;

use claviger::{Handle, PgPools as Pools};
use claviger_fixtures::{self as fixtures, Fixture};
