//! needs: postgresql
//!
//! Law 1: no query that ends before its generation's drain deadline fails because of a rotation.

#[path = "laws/law_01.rs"]
mod on_postgresql;

use claviger::PgPools as Pools;
use claviger_fixtures::{self as fixtures, Fixture};
