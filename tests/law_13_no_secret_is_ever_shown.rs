//! needs: postgresql
//!
//! Law 13: no secret in any Debug, Display, log, span, metric, panic or error, at any level. A
//! planted canary shows that the search works.

#[path = "laws/law_13.rs"]
mod on_postgresql;

use claviger::PgPools as Pools;
use claviger_fixtures::{self as fixtures, Fixture};
