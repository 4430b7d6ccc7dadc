//! needs: postgresql
//!
//! Law 5: one fetch however many callers are rejected. They share the open connections, or get the
//! original rejection at once.

#[path = "laws/law_05.rs"]
mod on_postgresql;

use claviger::PgPools as Pools;
use claviger_fixtures::{self as fixtures, Fixture};
