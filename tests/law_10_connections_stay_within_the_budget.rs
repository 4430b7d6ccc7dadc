//! needs: postgresql, quiet
//!
//! Law 10: connections during a handover ≤ maximum + overlap, even if the maximum number of
//! transactions is open across it.

#[path = "laws/law_10.rs"]
mod on_postgresql;

use claviger::PgPools as Pools;
use claviger_fixtures::{self as fixtures, Fixture};
