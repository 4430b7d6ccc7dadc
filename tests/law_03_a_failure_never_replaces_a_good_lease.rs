//! needs: postgresql
//!
//! Law 3: a valid lease stays in use while the backend is down.

#[path = "laws/law_03.rs"]
mod on_postgresql;

use claviger::PgPools as Pools;
use claviger_fixtures::{self as fixtures, Fixture};
