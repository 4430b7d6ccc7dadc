//! needs: postgresql
//!
//! Law 9: the old generation is gone before its lease is released; over all pools; an abandoned
//! drain is still counted.

#[path = "laws/law_09.rs"]
mod on_postgresql;

use claviger_fixtures::Fixture;
