//! needs: postgresql
//!
//! Law 5: one refresh however many callers are rejected; they share the live connections, or get
//! the original rejection at once.

#[path = "laws/law_05.rs"]
mod on_postgresql;

use claviger::PgPools as Pools;
use claviger_fixtures::Fixture;
