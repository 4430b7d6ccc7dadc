//! needs: postgresql
//!
//! Law 6: an error other than a rejection never causes a fetch; a failed statement causes a probe
//! at most.

#[path = "laws/law_06.rs"]
mod on_postgresql;

use claviger::PgPools as Pools;
use claviger_fixtures::{self as fixtures, Fixture};
