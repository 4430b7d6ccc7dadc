//! needs: postgresql
//!
//! Law 10: connections during a handover ≤ maximum + overlap, also with the maximum number of
//! transactions held open across it.

#[path = "laws/law_10.rs"]
mod on_postgresql;

use claviger::PgPools as Pools;
use claviger_fixtures::Fixture;
