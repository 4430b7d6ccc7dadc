//! needs: postgresql
//!
//! Law 9: a lease is released once the last generation that uses it has drained, over all pools. An
//! abandoned drain still counts.

#[path = "laws/law_09.rs"]
mod on_postgresql;

use claviger_fixtures::{self as fixtures, Fixture};
